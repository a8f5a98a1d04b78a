//! Snapshots: `n`, name.
//!
//! A snapshot is a layer that nothing is written into any more, with those below it. See [`super::layer`].

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::Time;

const FAMILY: u8 = b'n';
const WHAT: &str = "snapshot";

/// What is kept of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Tells it apart in inode numbers of a mount; unique while it exists, never 0 or 0xFFFF.
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

/// The row of the snapshot `name`.
#[must_use]
pub fn key(name: &str) -> Vec<u8> {
    KeyWriter::new(FAMILY).bytes(name.as_bytes()).done()
}

/// Beginning of all snapshots.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The name of a key.
pub fn parse(key: &[u8]) -> Result<&str, RowError> {
    let reader = KeyReader::new(WHAT, FAMILY, key)?;
    let wrong = reader.wrong();
    std::str::from_utf8(reader.rest()).map_err(|_| wrong)
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
