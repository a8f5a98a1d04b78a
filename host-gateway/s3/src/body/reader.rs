//! A payload as batches of about [`BATCH`] bytes, framing off, with its length held to what was declared.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::body::Framing;
use crate::body::chunked::ChunkDecoder;
use crate::config::BATCH;
use crate::error::Refusal;

enum Decoder {
    Plain,
    Chunked(Box<ChunkDecoder>),
}

/// Reads a body to its end.
pub(crate) struct Reader {
    body: Body,
    decoder: Decoder,
    ready: VecDeque<Bytes>,
    received: u64,
    length: u64,
    stall: Duration,
    over: bool,
}

impl Reader {
    pub fn new(body: Body, framing: Framing, length: u64, stall: Duration) -> Self {
        let decoder = match framing {
            Framing::Plain(_) => Decoder::Plain,
            Framing::Chunked(chain) => Decoder::Chunked(Box::new(ChunkDecoder::new(chain))),
        };
        Self { body, decoder, ready: VecDeque::new(), received: 0, length, stall, over: false }
    }

    /// The next batch: of [`BATCH`] bytes or a little more while there is more to come, `None` at the end.
    pub async fn batch(&mut self) -> Result<Option<Bytes>, Refusal> {
        let mut held = 0;
        while held < BATCH && !self.over {
            let before = self.ready.iter().map(Bytes::len).sum::<usize>();
            self.pull().await?;
            held = self.ready.iter().map(Bytes::len).sum::<usize>();
            self.received += (held - before) as u64;
            if self.received > self.length {
                return Err(Refusal::Overlong);
            }
        }
        Ok(self.joined())
    }

    async fn pull(&mut self) -> Result<(), Refusal> {
        let frame =
            tokio::time::timeout(self.stall, self.body.frame()).await.map_err(|_| Refusal::Stalled)?;
        let Some(frame) = frame else {
            self.over = true;
            return Ok(());
        };
        let data = frame.map_err(|error| Refusal::Connection(error.into_inner()))?.into_data();
        match (data, &mut self.decoder) {
            (Ok(data), Decoder::Plain) => {
                self.ready.extend([data].into_iter().filter(|data| !data.is_empty()))
            }
            (Ok(data), Decoder::Chunked(decoder)) => decoder.feed(data, &mut self.ready)?,
            // HTTP trailers of a chunked transfer say nothing S3 uses.
            (Err(_), _) => {}
        }
        Ok(())
    }

    /// All that is ready, as one piece; pieces that are already one are not copied.
    fn joined(&mut self) -> Option<Bytes> {
        match self.ready.len() {
            0 | 1 => self.ready.pop_front(),
            _ => {
                let mut joined = BytesMut::with_capacity(self.ready.iter().map(Bytes::len).sum());
                self.ready.drain(..).for_each(|piece| joined.extend_from_slice(&piece));
                Some(joined.freeze())
            }
        }
    }

    /// After the last batch: was it all, and what followed it?
    pub fn finish(self) -> Result<Vec<(String, String)>, Refusal> {
        let trailers = match self.decoder {
            Decoder::Plain => Vec::new(),
            Decoder::Chunked(decoder) => decoder.finish()?,
        };
        if self.received == self.length { Ok(trailers) } else { Err(Refusal::Incomplete) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    async fn read(pieces: Vec<usize>, length: u64) -> Result<Vec<usize>, &'static str> {
        let pieces = pieces.into_iter().map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![1; size])));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let mut reader = Reader::new(body, Framing::Plain(None), length, Duration::from_secs(5));
        let mut sizes = Vec::new();
        while let Some(batch) = reader.batch().await.map_err(|e| e.code().0)? {
            sizes.push(batch.len());
        }
        reader.finish().map_err(|e| e.code().0)?;
        Ok(sizes)
    }

    #[tokio::test]
    async fn pieces_are_gathered_and_counted() {
        assert_eq!(read(vec![], 0).await, Ok(vec![]));
        assert_eq!(read(vec![10, 0, 20], 30).await, Ok(vec![30]));
        assert_eq!(read(vec![BATCH / 2; 5], BATCH as u64 * 5 / 2).await, Ok(vec![BATCH, BATCH, BATCH / 2]));
        assert_eq!(read(vec![10], 11).await, Err("IncompleteBody"));
        assert_eq!(read(vec![10], 9).await, Err("IncompleteBody"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut reader = Reader::new(body, Framing::Plain(None), 5, Duration::from_secs(60));
        assert_eq!(reader.batch().await.unwrap_err().code().0, "RequestTimeout");
    }
}
