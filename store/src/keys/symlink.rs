//! Targets of symbolic links: `l`, layer u32, inode u48. The value is the target's bytes behind the version.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_bytes, unpack_bytes};
use bytes::Bytes;
use mooring_protocol::types::Ino;

const FAMILY: u8 = b'l';
const WHAT: &str = "symlink";

/// The row of `ino`.
#[must_use]
pub fn key(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
}

/// Layer and inode of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let parsed = (reader.layer()?, reader.ino()?);
    reader.end()?;
    Ok(parsed)
}

/// The value.
#[must_use]
pub fn encode(target: &[u8]) -> Bytes {
    pack_bytes(target)
}

/// The target.
pub fn decode(value: &Bytes) -> Result<Bytes, RowError> {
    unpack_bytes(WHAT, value)
}
