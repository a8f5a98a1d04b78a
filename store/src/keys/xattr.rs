//! Extended attributes: `x`, layer u32, inode u48, name. The value is the attribute's bytes behind the version.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_bytes, unpack_bytes};
use bytes::Bytes;
use mooring_protocol::types::Ino;

const FAMILY: u8 = b'x';
const WHAT: &str = "xattr";

/// The row of attribute `name` of `ino`.
#[must_use]
pub fn key(layer: Layer, ino: Ino, name: &[u8]) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).bytes(name).done()
}

/// Beginning of all attributes of `ino`.
#[must_use]
pub fn prefix(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
}

/// Layer, inode and name of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino, &[u8]), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    Ok((reader.layer()?, reader.ino()?, reader.rest()))
}

/// The value.
#[must_use]
pub fn encode(bytes: &[u8]) -> Bytes {
    pack_bytes(bytes)
}

/// The attribute's bytes.
pub fn decode(value: &Bytes) -> Result<Bytes, RowError> {
    unpack_bytes(WHAT, value)
}
