//! Directory entries: `d`, layer u32, parent u48, name, and `/` for a directory.
//!
//! The slash gives S3's order: a depth-first walk of these rows meets keys in the order of their bytes. Value:
//! version, kind (as [`kind_byte`]), inode u48, then, for an entry that stands for a key that is no path, the rest of
//! that key behind its directory (see [`super::side`]).

use super::{KeyReader, KeyWriter, Layer, RowError, VERSION, body};
use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino};

const FAMILY: u8 = b'd';
const WHAT: &str = "dentry";

/// What an entry points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// Set when the entry is the mount's name of a side key: the rest of that key.
    pub side: Option<Bytes>,
}

/// The row of `name` in `parent`.
#[must_use]
pub fn key(layer: Layer, parent: Ino, name: &[u8], is_dir: bool) -> Vec<u8> {
    let key = KeyWriter::new(FAMILY).layer(layer).ino(parent).bytes(name);
    if is_dir { key.bytes(b"/").done() } else { key.done() }
}

/// Beginning of all entries of `parent`.
#[must_use]
pub fn prefix(layer: Layer, parent: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(parent).done()
}

/// Layer, parent and cursor (name, with `/` for a directory) of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino, &[u8]), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    Ok((reader.layer()?, reader.ino()?, reader.rest()))
}

/// The value of an entry.
#[must_use]
pub fn encode(dentry: &Dentry) -> Bytes {
    let mut value = vec![VERSION, kind_byte(dentry.kind)];
    value.extend_from_slice(&dentry.ino.get().to_be_bytes()[2..]);
    value.extend_from_slice(dentry.side.as_deref().unwrap_or_default());
    Bytes::from(value)
}

/// The entry in a value.
pub fn decode(value: &[u8]) -> Result<Dentry, RowError> {
    let damaged = RowError::Value(WHAT);
    let (&kind, rest) = body(WHAT, value)?.split_first().ok_or(damaged.clone())?;
    let (ino, side) = rest.split_first_chunk::<6>().ok_or(damaged.clone())?;
    let mut whole = [0; 8];
    whole[2..].copy_from_slice(ino);
    Ok(Dentry {
        ino: Ino::new(u64::from_be_bytes(whole)).ok_or(damaged.clone())?,
        kind: kind_from(kind).ok_or(damaged)?,
        side: (!side.is_empty()).then(|| Bytes::copy_from_slice(side)),
    })
}

/// The byte a kind is stored as.
#[must_use]
pub fn kind_byte(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 1,
        FileKind::Dir => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    }
}

fn kind_from(byte: u8) -> Option<FileKind> {
    Some(match byte {
        1 => FileKind::File,
        2 => FileKind::Dir,
        3 => FileKind::Symlink,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        6 => FileKind::CharDevice,
        7 => FileKind::BlockDevice,
        _ => return None,
    })
}
