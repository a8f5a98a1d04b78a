//! S3 over the store API: the third door into a volume's one namespace.
//!
//! A request passes three layers, each with one job:
//!
//! 1. [`gate`]: says what the request is (operation, bucket, key), refuses what we do not serve by name, checks what
//!    the signature must cover, finds the caller's credentials, and takes the body out of the request.
//! 2. `s3s`: verifies the SigV4 signature over method, path, query and headers, parses headers and XML, and writes
//!    answers. Before an operation runs, [`service`] compares what `s3s` understood with what the gate decided;
//!    where two parsers disagree, nobody gets in.
//! 3. [`ops`]: one file per family of operations over [`mooring_store::api::Objects`].
//!
//! **Why the body goes around `s3s`.** `s3s` 0.14.1 holds a whole aws-chunked chunk in memory before it looks at the
//! chunk's signature, and current SDKs send an object as a single chunk: a 4 GiB upload would be 4 GiB of memory. It
//! also accepts a chunked body that ends without its last chunk. So [`body`] decodes and verifies payloads itself, in
//! one pass and in bounded memory; the bytes become visible only after the last check, when the staged inode gets
//! its name.
//!
//! Types of `s3s` do not leave this crate.
#![forbid(unsafe_code)]

mod body;
mod config;
mod edge;
mod error;
mod gate;
mod ops;
mod serve;
mod service;

pub use crate::config::{Limits, REQUEST_MEMORY, S3Config};
pub use crate::edge::{BucketEntry, Buckets, CredentialError, Credentials, Found, Identity, Peer, SecretKey};
pub use crate::serve::{accept, serve_connection, serve_connection_until, serve_tcp};

use std::sync::Arc;

/// What the S3 door needs of the rest of the gateway.
#[derive(Clone)]
pub struct S3Deps {
    /// Who may open, make and remove which bucket.
    pub buckets: Arc<dyn Buckets>,
    /// Whose access key and token it is.
    pub credentials: Arc<dyn Credentials>,
    /// Region, host names, limits.
    pub config: S3Config,
}

/// S3 as a router that answers every path. The peer the channel vouches for, when there is one, arrives as an
/// extension of type [`Peer`] on the request ([`serve_connection`] puts it there).
pub fn router(deps: S3Deps) -> axum::Router {
    let service = gate::Gate::new(deps);
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let service = service.clone();
        async move { service.answer(request).await }
    })
}
