//! Inodes: `i`, layer u32, inode u48.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino, Time};
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'i';
const WHAT: &str = "inode";

/// A directory that a PUT made on the way to an object: it vanishes when it is emptied through S3.
pub const IMPLICIT: u8 = 1;
/// Rows of the map beyond the end of the file are left from an interrupted truncation and must go before the file
/// grows again.
pub const TRIM: u8 = 2;
/// An object row (etag, headers) belongs to the inode.
pub const OBJECT: u8 = 4;
/// Extended attributes may exist.
pub const XATTRS: u8 = 8;
/// Older inodes of this number, in lower layers, have the same map: it is copied before it changes.
pub const SHARED: u8 = 16;
/// The three highest bits: how deep slices of frozen maps are nested in the map, at most.
const DEPTH_SHIFT: u8 = 5;
/// The deepest nesting.
pub const MAX_DEPTH: u8 = 7;

/// What is stored of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid, sticky.
    pub mode: u16,
    /// Names; for a directory 2 and one for each directory in it.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Bytes of a file or symlink; entries of a directory.
    pub size: u64,
    /// Blocks of 4 KiB that hold data.
    pub blocks: u64,
    /// Access time.
    pub atime: Time,
    /// Content change.
    pub mtime: Time,
    /// Any change.
    pub ctime: Time,
    /// Birth.
    pub btime: Time,
    /// Grows with every change.
    pub version: u64,
    /// The version of the last change of content.
    pub content: u64,
    /// The map that holds its data; equals the inode until the map is shared.
    pub map: u64,
    /// The directory it is in, for directories; 0 otherwise.
    pub parent: u64,
    /// Keys that are no paths kept at this directory.
    pub sides: u32,
    /// Bits above.
    pub flags: u8,
    /// The layer this row was found in. Not stored: it is in the key.
    #[serde(skip)]
    pub layer: Layer,
}

impl Inode {
    /// How deep slices are nested in its map, at most.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.flags >> DEPTH_SHIFT
    }

    /// Sets that, at most [`MAX_DEPTH`].
    pub fn set_depth(&mut self, depth: u8) {
        let rest = self.flags & ((1 << DEPTH_SHIFT) - 1);
        self.flags = rest | depth.min(MAX_DEPTH) << DEPTH_SHIFT;
    }
}

/// The row of `ino`.
#[must_use]
pub fn key(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
}

/// Beginning of all inode rows of a layer.
#[must_use]
pub fn prefix(layer: Layer) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).done()
}

/// Layer and inode of a key.
pub fn parse(key: &[u8]) -> Result<(Layer, Ino), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let parsed = (reader.layer()?, reader.ino()?);
    reader.end()?;
    Ok(parsed)
}

/// The value of an inode.
#[must_use]
pub fn encode(inode: &Inode) -> Bytes {
    pack_value(inode)
}

/// The inode in a value.
pub fn decode(value: &[u8]) -> Result<Inode, RowError> {
    unpack_value(WHAT, value)
}
