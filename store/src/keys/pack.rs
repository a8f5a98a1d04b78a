//! Live bytes of packs: `p`, pack 16 bytes. Stored bytes of the pack's extents that some map refers to; changed in
//! the commit that changes the references.

use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;

const FAMILY: u8 = b'p';
const WHAT: &str = "pack";

/// The row of `pack`.
#[must_use]
pub fn key(pack: u128) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(&pack.to_be_bytes()).done()
}

/// Beginning of all packs.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The pack of a key.
pub fn parse(key: &[u8]) -> Result<u128, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let pack = u128::from_be_bytes(reader.array()?);
    reader.end()?;
    Ok(pack)
}

/// The value.
#[must_use]
pub fn encode(live: u64) -> Bytes {
    pack_value(&live)
}

/// Live bytes in a value.
pub fn decode(value: &[u8]) -> Result<u64, RowError> {
    unpack_value(WHAT, value)
}
