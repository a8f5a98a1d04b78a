//! Maps that several rows name: `f`, map u48.
//!
//! A map is named by the inode that reads through it and, once it is frozen, by slices in other maps and by older
//! inodes of that number in lower layers. A map without this row is named once. The count changes in the commit that
//! changes the rows; a map that nothing names any more becomes [`super::garbage`].

use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;

const FAMILY: u8 = b'f';
const WHAT: &str = "frozen map";

/// The row of `map`.
#[must_use]
pub fn key(map: u64) -> Vec<u8> {
    KeyWriter::new(FAMILY).u48(map).done()
}

/// The map of a key.
pub fn parse(key: &[u8]) -> Result<u64, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let map = reader.u48()?;
    reader.end()?;
    Ok(map)
}

/// The value: how many rows name the map.
#[must_use]
pub fn encode(refs: u64) -> Bytes {
    pack_value(&refs)
}

/// How many rows name the map.
pub fn decode(value: &[u8]) -> Result<u64, RowError> {
    unpack_value(WHAT, value)
}
