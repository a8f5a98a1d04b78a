//! Serving HTTP/1.1 on accepted streams, with deadlines on everything a peer can leave undone.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

use crate::config::HEADERS;
use crate::edge::Peer;

/// A request's head must be there within this, and an idle connection is closed after it.
const HEAD: Duration = Duration::from_secs(75);
/// A peer that takes no bytes for this long is cut off: it holds buffers and a pinned inode.
const WRITE_STALL: Duration = Duration::from_secs(120);
/// Buffer of a connection; also the largest piece of a body that is hashed at once in a connection's task.
const BUFFER: usize = 256 << 10;
/// TCP connections of one listener.
const CONNECTIONS: usize = 4096;
/// Pause when the process is out of file descriptors, so that accepting does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a stream until the peer is done with it. `peer` is what the channel vouches for.
///
/// # Errors
/// What broke the connection.
pub async fn serve_connection<S>(stream: S, router: Router, peer: Option<Peer>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_connection_until(stream, router, peer, std::future::pending()).await
}

/// The same, and when `stop` is ready the request under way is finished and the connection closed.
///
/// # Errors
/// What broke the connection.
pub async fn serve_connection_until<S>(
    stream: S,
    router: Router,
    peer: Option<Peer>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        router.clone().oneshot(request.map(axum::body::Body::new) as Request)
    });
    let io = TokioIo::new(CutOff { stream, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS + 28)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = stop.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Accepts a TCP connection, with Nagle's algorithm off: an answer of header and small body would otherwise wait for the
/// client's delayed ACK (44 ms a small GET on loopback).
///
/// # Errors
/// Of accept(2) or setsockopt(2).
pub async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

/// Serves a TCP listener until `stop`, then waits for the connections to end.
pub async fn serve_tcp(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept_with_slot(&listener, &slots) => accepted,
            () = stop.as_mut() => break,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, mut stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            let stop = async move {
                // An error means the sender is gone, and that is the end too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            if let Err(error) = serve_connection_until(stream, router, None, stop).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    stopping.send_replace(true);
    let _all = slots.acquire_many(CONNECTIONS as u32).await;
}

async fn accept_with_slot(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = accept(listener).await?;
    Ok((stream, slot))
}

/// Cuts a peer off that takes no bytes.
struct CutOff<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> CutOff<S> {
    /// Bounds how long writes stay pending.
    fn bound<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_STALL)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CutOff<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CutOff<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.bound(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bound(cx, poll)
    }
}
