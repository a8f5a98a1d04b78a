//! Extents, each stored once: `h`, domain u48, hash 16 bytes.
//!
//! Maps name an extent by domain and hash; this row alone says where its bytes are and how many map rows name it. So
//! moving an extent to another pack changes one row, and the count is exact because it changes in the commit that
//! changes the maps.

use super::map::ExtentId;
use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use crate::pack::{ExtentRef, PackId};
use bytes::Bytes;

const FAMILY: u8 = b'h';
const WHAT: &str = "extent";

/// Where an extent is and how often it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where its bytes are.
    pub place: ExtentRef,
    /// Map rows that name it; at least 1.
    pub refs: u64,
}

/// The row of an extent.
#[must_use]
pub fn key(id: ExtentId) -> Vec<u8> {
    KeyWriter::new(FAMILY).u48(id.domain).bytes(&id.hash).done()
}

/// Beginning of all extents.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The extent of a key.
pub fn parse(key: &[u8]) -> Result<ExtentId, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let id = ExtentId { domain: reader.u48()?, hash: reader.array()? };
    reader.end()?;
    Ok(id)
}

/// The value: pack, offset, stored length, raw length, flags, references. The hash is in the key.
#[must_use]
pub fn encode(extent: &Extent) -> Bytes {
    let Extent { place, refs } = extent;
    pack_value(&(
        place.pack.0.to_be_bytes(),
        place.offset,
        place.stored_len,
        place.raw_len,
        place.flags,
        refs,
    ))
}

/// The extent in a value of the row of `id`.
pub fn decode(id: ExtentId, value: &[u8]) -> Result<Extent, RowError> {
    let (pack, offset, stored_len, raw_len, flags, refs) =
        unpack_value::<([u8; 16], u32, u32, u32, u8, u64)>(WHAT, value)?;
    let pack = PackId(u128::from_be_bytes(pack));
    Ok(Extent { place: ExtentRef { pack, offset, stored_len, raw_len, flags, hash: id.hash }, refs })
}
