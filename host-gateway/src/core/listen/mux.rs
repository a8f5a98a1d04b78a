//! Which protocol a stream speaks, by its first bytes, which are then read again by whoever serves it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mooring_protocol::caps;
use mooring_protocol::frame::MAGIC;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes that tell.
const LEN: usize = 4;

/// A stream whose first bytes were read already.
pub struct Again<S> {
    first: [u8; LEN],
    taken: usize,
    stream: S,
}

/// What a stream speaks.
pub enum Spoken<S> {
    /// Frames.
    Frames(Again<S>),
    /// Anything else: HTTP, or its server says that it is not.
    Http(Again<S>),
}

/// Waits for the first bytes, not longer than for a greeting.
pub async fn tell<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Spoken<S>> {
    let mut first = [0; LEN];
    tokio::time::timeout(caps::HELLO_DEADLINE, stream.read_exact(&mut first)).await??;
    let again = Again { first, taken: 0, stream };
    Ok(if u32::from_le_bytes(first) == MAGIC { Spoken::Frames(again) } else { Spoken::Http(again) })
}

impl<S: AsyncRead + Unpin> AsyncRead for Again<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken < LEN && buf.remaining() > 0 {
            let len = buf.remaining().min(LEN - self.taken);
            let from = self.taken;
            buf.put_slice(&self.first[from..from + len]);
            self.taken += len;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Again<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
