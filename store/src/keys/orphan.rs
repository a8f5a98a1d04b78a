//! Inodes without a name: `o`, layer u32, inode u48.
//!
//! An inode stands here from the moment it has no name (an unlinked file that is still open, bytes on their way to an
//! object) until it is freed or named, so that a crash frees it too. The value keeps the directory it last belonged
//! to: an open handle of a share stays good while that directory is under the share's root.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;
use mooring_protocol::types::{Ino, Time};
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'o';
const WHAT: &str = "orphan";

/// Why an inode has no name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its last name was removed.
    Unlinked,
    /// It was never given one yet: an object on its way, or a part (then the part's row keeps it).
    Staged,
    /// It is a part of a multipart upload and lives as long as that part's row.
    Part,
    /// Its last name was removed while the bucket had a trash: it stays until that is emptied.
    Trashed {
        /// The name.
        name: Vec<u8>,
        /// The rest of the key, when that is no path.
        side: Option<Vec<u8>>,
        /// When.
        at: Time,
    },
}

/// What is kept about an orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Why.
    pub why: Why,
    /// The directory it last belonged to.
    pub parent: Ino,
}

/// The row of `ino`.
#[must_use]
pub fn key(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
}

/// Beginning of all orphans.
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

/// The value.
#[must_use]
pub fn encode(orphan: &Orphan) -> Bytes {
    pack_value(orphan)
}

/// The orphan in a value.
pub fn decode(value: &[u8]) -> Result<Orphan, RowError> {
    unpack_value(WHAT, value)
}
