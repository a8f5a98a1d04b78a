//! Numbers of the volume as a whole: `c`, which u8.

use super::{KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;

const FAMILY: u8 = b'c';
const WHAT: &str = "counter";

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Inode and map numbers below this may have been handed out.
    NextId = 1,
    /// Inodes that exist.
    Inodes = 2,
    /// Blocks of 4 KiB that files hold, shared ones counted once for each file.
    Blocks = 3,
    /// The layer the head writes into.
    Head = 4,
}

/// The row of `which`.
#[must_use]
pub fn key(which: Counter) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(&[which as u8]).done()
}

/// The counter of a key.
pub fn parse(key: &[u8]) -> Result<Counter, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let [byte] = reader.array()?;
    let found = [Counter::NextId, Counter::Inodes, Counter::Blocks, Counter::Head];
    found.into_iter().find(|&which| which as u8 == byte).ok_or_else(|| reader.wrong())
}

/// The value.
#[must_use]
pub fn encode(number: u64) -> Bytes {
    pack_value(&number)
}

/// The number in a value.
pub fn decode(value: &[u8]) -> Result<u64, RowError> {
    unpack_value(WHAT, value)
}
