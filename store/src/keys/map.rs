//! Rows of maps, which say where a file's bytes are: `e`, map u48, end offset u64.
//!
//! A row covers the blocks from its start to the end offset in its key, so that a scan from `offset + 1` begins with
//! the row that holds `offset`. Ranges are whole blocks of [`BLOCK`] bytes and never overlap; what no row covers is a
//! hole. A row may hold fewer bytes than it covers: what is missing behind them reads as zeros (the tail of the
//! last block of a file).

use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'e';
const WHAT: &str = "map";

/// Granularity of maps, bytes.
pub const BLOCK: u64 = 4096;

/// Names an extent: bytes of this hash in this domain. Domain 0 is the owner's, others are the root of the share
/// through which the bytes were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtentId {
    /// Who may share it.
    pub domain: u64,
    /// Keyed hash of its bytes.
    pub hash: [u8; 16],
}

/// Where the bytes of a row are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// In an extent, from its byte `skip` on.
    Extent {
        /// Which.
        id: ExtentId,
        /// Bytes of the extent before this row's.
        skip: u32,
    },
    /// In the row itself: a file of one block at most.
    Inline(Bytes),
    /// In a frozen map, from its byte `offset` on.
    Slice {
        /// The frozen map.
        map: u64,
        /// Where in it.
        offset: u64,
    },
}

/// One row: `[start, end)` of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Blocks covered; the row begins that many blocks before its key's end.
    pub blocks: u64,
    /// Bytes it holds from its start on, at most what it covers.
    pub len: u64,
    /// Where they are.
    pub source: Source,
}

/// The row of `map` that ends at `end`.
#[must_use]
pub fn key(map: u64, end: u64) -> Vec<u8> {
    KeyWriter::new(FAMILY).u48(map).u64(end).done()
}

/// Beginning of the rows of all maps.
#[must_use]
pub fn all() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// Beginning of all rows of `map`.
#[must_use]
pub fn prefix(map: u64) -> Vec<u8> {
    KeyWriter::new(FAMILY).u48(map).done()
}

/// Map and end of a key.
pub fn parse(key: &[u8]) -> Result<(u64, u64), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let parsed = (reader.u48()?, reader.u64()?);
    reader.end()?;
    Ok(parsed)
}

/// The value.
#[must_use]
pub fn encode(row: &Row) -> Bytes {
    pack_value(row)
}

/// The row in a value.
pub fn decode(value: &[u8]) -> Result<Row, RowError> {
    let row: Row = unpack_value(WHAT, value)?;
    let covered = row.blocks.checked_mul(BLOCK).filter(|&bytes| bytes > 0 && row.len <= bytes);
    covered.map(|_| row).ok_or(RowError::Value(WHAT))
}
