//! Frames: what travels on any byte stream between agent and gateway.
//!
//! ```text
//! | header, 104 bytes, little-endian | body: postcard of a message | payload: raw bytes |
//!
//!  off  size  field
//!    0    4   magic "MRNG"
//!    4    2   version
//!    6    1   kind
//!    7    1   reserved, zero
//!    8    2   op            what the body asks, for metrics and tracing; never for decisions
//!   10    2   status        replies; zero elsewhere
//!   12    4   deadline_ms   requests: time the caller will wait; zero = no limit of its own
//!   16    8   volume
//!   24    8   epoch         session epoch: which incarnation of the session speaks
//!   32    8   request       chosen by the requester, never zero on requests, echoed in replies
//!   40    8   origin        forwarding gateway; zero = none
//!   48    8   principal     interned by the gateways; zero from guests, and ignored from them
//!   56    8   trace
//!   64    4   body_len
//!   68    4   payload_len
//!   72    8   received      watermarks: highest batch sequence the gateway has in memory,
//!   80    8   journalled      in its local journal,
//!   88    8   stored          and in the store. Meaningful on replies.
//!   96    4   reserved, zero
//!  100    4   crc32c of bytes 0..100
//! ```
//!
//! Replies come in any order; the request id ties them to their request. The payload never passes
//! through a serializer: it is written by reference in one vectored write and read into one buffer of
//! exactly its size. Streams below (vsock, unix sockets, TLS) keep bytes intact, so only the header
//! has a checksum: it catches a writer and a reader out of step, which is the failure that happens.
//!
//! Every error of this layer ends the connection, because after it nobody knows where the next frame
//! begins. Errors in a *body* do not: the frame's bounds are known and one request is answered.

mod decoder;
mod error;
mod header;
mod io;

pub use decoder::{Decoder, Frame, Side};
pub use error::{BodyError, EncodeError, FrameError, ReadError};
pub use header::{HEADER_LEN, Header, Kind, MAGIC, VERSION, Watermarks};
pub use io::{FrameReader, write_frame};

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use crate::caps;

/// Appends header and body to `out`, ready to be followed on the stream by `payload_len` raw bytes.
///
/// On an error `out` is as it was before.
///
/// # Errors
/// When body or payload are over their limits, or the body cannot be serialised.
pub fn encode_into<B: Serialize + ?Sized>(
    out: &mut BytesMut,
    header: &Header,
    body: &B,
    payload_len: usize,
) -> Result<(), EncodeError> {
    if payload_len > caps::MAX_PAYLOAD {
        return Err(EncodeError::PayloadTooLarge { len: payload_len, limit: caps::MAX_PAYLOAD });
    }
    let start = out.len();
    out.put_bytes(0, HEADER_LEN);
    let written = write_body(out, body).and_then(|()| {
        let len = out.len() - start - HEADER_LEN;
        if len > caps::MAX_BODY {
            return Err(EncodeError::BodyTooLarge { len, limit: caps::MAX_BODY });
        }
        Ok(len)
    });
    match written {
        Ok(body_len) => {
            // Both lengths were just held against limits that fit u32.
            let raw = header.to_bytes(body_len as u32, payload_len as u32);
            out[start..start + HEADER_LEN].copy_from_slice(&raw);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn write_body<B: Serialize + ?Sized>(out: &mut BytesMut, body: &B) -> Result<(), EncodeError> {
    postcard::to_io(body, out.writer()).map(|_| ()).map_err(EncodeError::Serialize)
}
