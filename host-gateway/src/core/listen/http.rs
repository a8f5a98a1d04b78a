//! HTTP on accepted streams.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Port;
use crate::core::identity::Peer;

/// How long a request's head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Who answers HTTP.
pub trait HttpDoors: Send + Sync {
    /// The router for one connection of `peer`, which puts the peer's identity into its requests.
    fn router(&self, peer: &Peer, port: Port) -> axum::Router;
}

/// Serves one connection until it ends; when the gateway stops, until the request under way is answered.
pub async fn serve<S>(stream: S, router: axum::Router, stopping: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = end {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
