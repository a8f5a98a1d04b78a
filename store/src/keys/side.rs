//! Keys that are no paths: `s`, layer u32, directory u48, the rest of the key behind that directory.
//!
//! A key such as `a//b` or `a/.` cannot be a path. It is kept at the deepest directory its good components lead to,
//! under the rest of its bytes, so that renaming that directory takes it along like everything else below it. The
//! value names the inode and the escaped name under which a mount shows it in that directory.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::{Ino, Name};
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b's';
const WHAT: &str = "side";

/// What a side key points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The inode.
    pub ino: Ino,
    /// Its name in the mount, in the same directory.
    pub name: Name,
}

/// The row of `rest` at `dir`.
#[must_use]
pub fn key(layer: Layer, dir: Ino, rest: &[u8]) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(dir).bytes(rest).done()
}

/// Beginning of all side keys of `dir`.
#[must_use]
pub fn prefix(layer: Layer, dir: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(dir).done()
}

/// Layer, directory and rest of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino, &[u8]), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    Ok((reader.layer()?, reader.ino()?, reader.rest()))
}

/// The value.
#[must_use]
pub fn encode(side: &Side) -> Bytes {
    pack_value(side)
}

/// The entry in a value.
pub fn decode(value: &[u8]) -> Result<Side, RowError> {
    unpack_value(WHAT, value)
}
