//! Snapshots: `n`, name; of a head but the first `n`, NUL, head u48, name. No name begins with NUL.
//!
//! A snapshot is a layer that nothing is written into any more, with those below it. See [`super::layer`].

use super::{HeadId, KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::Time;

const FAMILY: u8 = b'n';
const WHAT: &str = "snapshot";

/// What is kept of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Tells it apart in inode numbers of a mount; unique in its head while it exists, never 0 or
    /// 0xFFFF.
    pub view: u16,
    /// Its newest layer.
    pub layer: Layer,
    /// When it was taken.
    pub created: Time,
    /// Inodes of the volume at that time.
    pub inodes: u64,
    /// Blocks of the volume at that time.
    pub blocks: u64,
}

/// The row of the snapshot `name` of a head.
#[must_use]
pub fn key(head: HeadId, name: &str) -> Vec<u8> {
    let key = KeyWriter::new(FAMILY);
    let key = if head == HeadId::FIRST { key } else { key.bytes(&[0]).u48(head.0) };
    key.bytes(name.as_bytes()).done()
}

/// Beginning of all snapshots of all heads.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// Head and name of a key.
pub fn parse(key: &[u8]) -> Result<(HeadId, &str), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let wrong = reader.wrong();
    let mut head = HeadId::FIRST;
    if key.get(1) == Some(&0) {
        let [_] = reader.array()?;
        head = HeadId(reader.u48()?);
    }
    Ok((head, std::str::from_utf8(reader.rest()).map_err(|_| wrong)?))
}

/// The value.
#[must_use]
pub fn encode(snapshot: &Snapshot) -> Bytes {
    let Snapshot { view, layer, created, inodes, blocks } = snapshot;
    pack_value(&(view, layer.0, created, inodes, blocks))
}

/// The snapshot in a value.
pub fn decode(value: &[u8]) -> Result<Snapshot, RowError> {
    let (view, layer, created, inodes, blocks) = unpack_value::<(u16, u32, Time, u64, u64)>(WHAT, value)?;
    Ok(Snapshot { view, layer: Layer(layer), created, inodes, blocks })
}
