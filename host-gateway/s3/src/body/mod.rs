//! Object bytes on their way in: framing, signatures, checksums, in one pass and a few batches of memory.

pub(crate) mod chunked;
pub(crate) mod digest;
pub(crate) mod ingest;
pub(crate) mod reader;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;

use crate::body::chunked::Chain;
use crate::body::digest::Algorithm;

/// How the body is sent, by `x-amz-content-sha256`.
#[derive(Debug)]
pub(crate) enum Framing {
    /// The bytes themselves; with their SHA-256 when it was signed.
    Plain(Option<[u8; 32]>),
    /// aws-chunked; with the chain of chunk signatures when chunks are signed.
    Chunked(Option<Chain>),
}

/// A body the gate took out of a request, with all that was declared about it.
pub(crate) struct Payload {
    pub body: Body,
    /// Bytes of the object.
    pub length: u64,
    pub framing: Framing,
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// A checksum sent ahead: algorithm and base64 value.
    pub checksum: Option<(Algorithm, String)>,
    /// A checksum that will follow as trailer.
    pub trailer: Option<Algorithm>,
    /// Longest silence.
    pub stall: Duration,
}

/// Carries a [`Payload`] through a request's extensions; it can be taken once.
#[derive(Clone)]
pub(crate) struct PayloadSlot(Arc<Mutex<Option<Payload>>>);

impl PayloadSlot {
    pub fn new(payload: Payload) -> Self {
        Self(Arc::new(Mutex::new(Some(payload))))
    }

    pub fn take(&self) -> Option<Payload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
