//! The aws-chunked encoding: `size[;chunk-signature=sig]\r\n data \r\n` repeated, a chunk of size zero, trailers.
//!
//! Signed chunks form a chain: each signature covers the one before and the SHA-256 of the data; the chain starts at
//! the request's own signature, so chunks can neither be changed, dropped, repeated nor reordered. Data is handed on
//! as it comes and its signature checked when the chunk ends: whoever reads must not let the bytes be seen before
//! [`ChunkDecoder::finish`] says yes. So a chunk of any size takes no memory.
//!
//! Format: "Transferring payload in multiple chunks" of the Amazon S3 API reference, with trailers.

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use bytes::{Buf as _, Bytes};

use crate::config::{CHUNK_LINE, TRAILER_BYTES};
use crate::edge::SecretKey;
use crate::error::Refusal;

/// The running chain of chunk signatures.
pub(crate) struct Chain {
    key: Box<hmac::Key>,
    timestamp: String,
    scope: String,
    previous: String,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Chain {
    /// A chain that starts at the request's signature.
    pub fn new(secret: &SecretKey, date: &str, region: &str, timestamp: &str, seed: &str) -> Self {
        let step = |key: &[u8], data: &str| hmac::sign(&hmac::Key::new(HMAC_SHA256, key), data.as_bytes());
        let first = zeroize::Zeroizing::new(format!("AWS4{}", secret.expose()));
        let key = step(first.as_bytes(), date);
        let key = step(key.as_ref(), region);
        let key = step(key.as_ref(), "s3");
        let key = step(key.as_ref(), "aws4_request");
        Self {
            key: Box::new(hmac::Key::new(HMAC_SHA256, key.as_ref())),
            timestamp: timestamp.to_owned(),
            scope: format!("{date}/{region}/s3/aws4_request"),
            previous: seed.to_owned(),
        }
    }

    /// Checks the next link: `tail` is what follows the previous signature in the string to sign.
    fn link(&mut self, kind: &str, tail: &str, given: &str) -> Result<(), Refusal> {
        let text = format!("{kind}\n{}\n{}\n{}\n{tail}", self.timestamp, self.scope, self.previous);
        let given_bytes = hex::decode(given).map_err(|_| Refusal::ChunkSignature)?;
        hmac::verify(&self.key, text.as_bytes(), &given_bytes).map_err(|_| Refusal::ChunkSignature)?;
        self.previous = hex::encode(given_bytes);
        Ok(())
    }

    fn chunk(&mut self, hash: &[u8], given: &str) -> Result<(), Refusal> {
        let tail = format!("{}\n{}", hex::encode(digest(&SHA256, b"")), hex::encode(hash));
        self.link("AWS4-HMAC-SHA256-PAYLOAD", &tail, given)
    }

    fn trailers(&mut self, canonical: &str, given: &str) -> Result<(), Refusal> {
        let tail = hex::encode(digest(&SHA256, canonical.as_bytes()));
        self.link("AWS4-HMAC-SHA256-TRAILER", &tail, given)
    }
}

/// Where in the framing the decoder stands.
enum State {
    /// In the line that opens a chunk.
    Line(Vec<u8>),
    /// In data; so many bytes to come.
    Data(u64),
    /// Before the line end behind data; so many of its two bytes seen.
    End(usize),
    /// Behind the last chunk.
    Trailers(Vec<u8>),
}

/// Takes the framing off a body.
pub(crate) struct ChunkDecoder {
    state: State,
    chain: Option<Chain>,
    /// Hash and given signature of the chunk under way, when chunks are signed.
    open: Option<(Context, String)>,
}

impl ChunkDecoder {
    /// A decoder; with a chain, every chunk and the trailers must be signed.
    pub fn new(chain: Option<Chain>) -> Self {
        Self { state: State::Line(Vec::new()), chain, open: None }
    }

    /// Eats a piece of the body and adds the data in it to `out`.
    pub fn feed(&mut self, mut bytes: Bytes, out: &mut impl Extend<Bytes>) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    let end = bytes.iter().position(|b| *b == b'\n');
                    let take = end.map_or(bytes.len(), |at| at + 1);
                    if line.len() + take > CHUNK_LINE {
                        return Err(Refusal::Framing);
                    }
                    line.extend_from_slice(&bytes.split_to(take));
                    if end.is_some() {
                        let line = std::mem::take(line);
                        self.open_chunk(&line)?;
                    }
                }
                State::Data(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let data = bytes.split_to(take);
                    *left -= take as u64;
                    if *left == 0 {
                        self.state = State::End(0);
                    }
                    if let Some((hash, _)) = &mut self.open {
                        hash.update(&data);
                    }
                    out.extend([data]);
                }
                State::End(seen) => {
                    if bytes.get_u8() != b"\r\n"[*seen] {
                        return Err(Refusal::Framing);
                    }
                    *seen += 1;
                    if *seen == 2 {
                        self.close_chunk()?;
                        self.state = State::Line(Vec::new());
                    }
                }
                State::Trailers(text) => {
                    if text.len() + bytes.len() > TRAILER_BYTES {
                        return Err(Refusal::Framing);
                    }
                    text.extend_from_slice(&bytes);
                    bytes.clear();
                }
            }
        }
        Ok(())
    }

    fn open_chunk(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal::Framing)?;
        let line = std::str::from_utf8(line).map_err(|_| Refusal::Framing)?;
        let (size, signature) = match (line.split_once(";chunk-signature="), &self.chain) {
            (Some((size, signature)), Some(_)) => (size, Some(signature)),
            (None, None) => (line, None),
            _ => return Err(Refusal::Framing),
        };
        if !(1..=16).contains(&size.len()) || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refusal::Framing);
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| Refusal::Framing)?;
        self.open = signature.map(|signature| (Context::new(&SHA256), signature.to_owned()));
        if size == 0 {
            self.close_chunk()?;
            self.state = State::Trailers(Vec::new());
        } else {
            self.state = State::Data(size);
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<(), Refusal> {
        match (self.open.take(), &mut self.chain) {
            (Some((hash, given)), Some(chain)) => chain.chunk(hash.finish().as_ref(), &given),
            _ => Ok(()),
        }
    }

    /// The body is over: was it whole? Returns the trailers, their signature checked.
    pub fn finish(mut self) -> Result<Vec<(String, String)>, Refusal> {
        let State::Trailers(text) = &self.state else { return Err(Refusal::Incomplete) };
        let text = std::str::from_utf8(text).map_err(|_| Refusal::Trailer)?;
        let (mut trailers, mut signature) = (Vec::new(), None);
        for line in text.split('\n').map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Refusal::Trailer)?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            if name == "x-amz-trailer-signature" {
                signature = Some(value);
            } else {
                trailers.push((name, value));
            }
        }
        match (&mut self.chain, signature) {
            (Some(chain), Some(given)) => {
                let mut sorted: Vec<_> = trailers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
                sorted.sort();
                chain.trailers(&sorted.concat(), &given)?;
            }
            (Some(_), None) if !trailers.is_empty() => return Err(Refusal::Trailer),
            _ => {}
        }
        Ok(trailers)
    }
}

#[cfg(test)]
mod tests;
