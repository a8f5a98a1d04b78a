//! Parts of multipart uploads: `q`, upload id 16 bytes, part number u16.

use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::{Ino, Time};
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'q';
const WHAT: &str = "part";

/// What is kept of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The nameless inode with its bytes.
    pub ino: Ino,
    /// Bytes.
    pub size: u64,
    /// MD5, hexadecimal.
    pub etag: String,
    /// Checksums given with it.
    pub checksums: Vec<(String, String)>,
    /// When it was stored.
    pub modified: Time,
}

/// The row of part `number` of `upload`.
#[must_use]
pub fn key(upload: [u8; 16], number: u16) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(&upload).bytes(&number.to_be_bytes()).done()
}

/// Beginning of all parts of `upload`.
#[must_use]
pub fn prefix(upload: [u8; 16]) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(&upload).done()
}

/// Beginning of all parts.
#[must_use]
pub fn family() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// Upload and number of a key.
pub fn parse(key: &[u8]) -> Result<([u8; 16], u16), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let parsed = (reader.array()?, reader.u16()?);
    reader.end()?;
    Ok(parsed)
}

/// The value.
#[must_use]
pub fn encode(part: &Part) -> Bytes {
    pack_value(part)
}

/// The part in a value.
pub fn decode(value: &[u8]) -> Result<Part, RowError> {
    unpack_value(WHAT, value)
}
