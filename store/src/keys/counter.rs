//! Numbers of the volume as a whole: `c`, which u8. Those of a head but the first have its number (u48) behind that. A
//! head is there as long as its row of [`Counter::Head`] is.

use super::{HeadId, KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;

const FAMILY: u8 = b'c';
const WHAT: &str = "counter";

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Inode and map numbers below this may have been handed out.
    NextId = 1,
    /// Inodes that a head shows.
    Inodes = 2,
    /// Blocks of 4 KiB that files of a head hold, shared ones counted once for each file.
    Blocks = 3,
    /// The layer the head writes into.
    Head = 4,
}

/// The row of `which`, of the volume or its first head.
#[must_use]
pub fn key(which: Counter) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(&[which as u8]).done()
}

/// The row of `which` of a head.
#[must_use]
pub fn of(which: Counter, head: HeadId) -> Vec<u8> {
    let key = KeyWriter::new(FAMILY).bytes(&[which as u8]);
    if head == HeadId::FIRST { key.done() } else { key.u48(head.0).done() }
}

/// The counter of a key, and the head it is of; those of the volume say the first.
pub fn parse(key: &[u8]) -> Result<(Counter, HeadId), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let [byte] = reader.array()?;
    let found = [Counter::NextId, Counter::Inodes, Counter::Blocks, Counter::Head];
    let which = found.into_iter().find(|&which| which as u8 == byte).ok_or_else(|| reader.wrong())?;
    if key.len() == 2 {
        return Ok((which, HeadId::FIRST));
    }
    let (head, wrong) = (reader.u48()?, reader.wrong());
    reader.end()?;
    if head == 0 || which == Counter::NextId { Err(wrong) } else { Ok((which, HeadId(head))) }
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
