//! Maps that nothing names any more, or nothing yet: `g`, map u48. The value is empty behind its version.
//!
//! Their rows are dropped in the background, in steps; what they refer to is counted until then. A map that is made in
//! several commits stands here until the last of them.

use super::{KeyReader, KeyWriter, RowError, body, pack_bytes};
use bytes::Bytes;

const FAMILY: u8 = b'g';
const WHAT: &str = "garbage map";

/// The row of `map`.
#[must_use]
pub fn key(map: u64) -> Vec<u8> {
    KeyWriter::new(FAMILY).u48(map).done()
}

/// Beginning of all of them.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The map of a key.
pub fn parse(key: &[u8]) -> Result<u64, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let map = reader.u48()?;
    reader.end()?;
    Ok(map)
}

/// The value.
#[must_use]
pub fn encode() -> Bytes {
    pack_bytes(&[])
}

/// Checks a value.
pub fn decode(value: &[u8]) -> Result<(), RowError> {
    if body(WHAT, value)?.is_empty() { Ok(()) } else { Err(RowError::Value(WHAT)) }
}
