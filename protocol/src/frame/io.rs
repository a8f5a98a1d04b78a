//! The two places where frames meet a stream. Everything that decides is in the decoder.

use std::io::IoSlice;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::decoder::{Decoder, Frame, Side};
use super::error::ReadError;

/// Bytes asked from the stream at once outside payloads: dozens of small frames in one system call,
/// and no more than this much of a payload is copied once.
const READ_CHUNK: usize = 16 << 10;

/// Reads frames from a stream, several per system call when they are small.
///
/// [`FrameReader::next`] is cancel-safe: a frame begun is kept and continued by the next call.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader on a new connection; it expects the peer's greeting first.
    pub fn new(stream: R, side: Side) -> FrameReader<R> {
        FrameReader { stream, decoder: Decoder::new(side), buffer: BytesMut::with_capacity(READ_CHUNK) }
    }

    /// The greeting was accepted; see [`Decoder::open`].
    pub fn open(&mut self) {
        self.decoder.open();
    }

    /// The next frame, or `None` when the stream ended between two frames.
    ///
    /// # Errors
    /// The stream failed or is broken; either way it is to be closed.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            let read = if let Some(mut room) = self.decoder.payload_room() {
                self.stream.read_buf(&mut room).await?
            } else {
                self.buffer.reserve(self.decoder.body_missing(&self.buffer).max(READ_CHUNK));
                self.stream.read_buf(&mut self.buffer).await?
            };
            if read == 0 {
                self.decoder.finish(&self.buffer)?;
                return Ok(None);
            }
        }
    }
}

/// Writes what [`encode_into`](super::encode_into) made and the payload that belongs to it, in one
/// vectored write where the stream can, and without copying either.
///
/// Not cancel-safe: a frame half written breaks the stream, so one task owns the writing half.
///
/// # Errors
/// The stream failed.
pub async fn write_frame<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut head: &[u8],
    mut payload: &[u8],
) -> std::io::Result<()> {
    while !head.is_empty() {
        let wrote = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(payload)]).await?;
        if wrote == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        let of_head = wrote.min(head.len());
        head = &head[of_head..];
        payload = &payload[wrote - of_head..];
    }
    stream.write_all(payload).await
}
