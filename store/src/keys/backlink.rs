//! Backlinks, one for every name of an inode: `b`, layer u32, inode u48, parent u48, name. The value is empty behind
//! its version.

use super::{KeyReader, KeyWriter, Layer, RowError, body, pack_bytes};
use bytes::Bytes;
use mooring_protocol::types::Ino;

const FAMILY: u8 = b'b';
const WHAT: &str = "backlink";

/// The row that says `ino` is called `name` in `parent`.
#[must_use]
pub fn key(layer: Layer, ino: Ino, parent: Ino, name: &[u8]) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).ino(parent).bytes(name).done()
}

/// Beginning of all backlinks of `ino`.
#[must_use]
pub fn prefix(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
}

/// Layer, inode, parent and name of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino, Ino, &[u8]), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    Ok((reader.layer()?, reader.ino()?, reader.ino()?, reader.rest()))
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
