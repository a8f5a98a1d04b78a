//! Shapes of the rows a volume is made of: one file per family, each with the same four functions.
//!
//! `key` builds a row's key, `parse` takes it apart again, `encode` and `decode` do the same with its value. The first
//! byte of a key is its family, the first byte of every value its version: `0` is a tombstone (a row that hides the
//! same row of an older layer and has nothing behind it), `1` the first form. Numbers in keys are big-endian, so
//! that rows lie in the order of their numbers; values behind the version byte are postcard (variable-length
//! numbers, no field names), unless the family says otherwise.
//!
//! | byte | family | key after it | value |
//! |---|---|---|---|
//! | `i` | [`inode`] | layer u32, inode u48 | the inode |
//! | `d` | [`dentry`] | layer u32, parent u48, name, `/` for a directory | kind, inode, side key |
//! | `b` | [`backlink`] | layer u32, inode u48, parent u48, name | nothing |
//! | `x` | [`xattr`] | layer u32, inode u48, name | value bytes |
//! | `l` | [`symlink`] | layer u32, inode u48 | target bytes |
//! | `s` | [`side`] | layer u32, directory u48, rest of the key | inode, name in the mount |
//! | `m` | [`object`] | layer u32, inode u48 | headers, user metadata, etag |
//! | `o` | [`orphan`] | layer u32, inode u48 | last parent |
//! | `e` | [`map`] | map u48, end offset u64 | extent, slice of a frozen map, or inline bytes |
//! | `h` | [`extent`] | domain u48, hash 16 bytes | place in a pack, references |
//! | `f` | [`frozen`] | map u48 | rows that name the map, when it is not one |
//! | `g` | [`garbage`] | map u48 | nothing: the map's rows are to be dropped |
//! | `p` | [`pack`] | pack 16 bytes | live bytes |
//! | `u` | [`upload`] | 0 u48 and head u48 but for the first, root u48, object key, NUL, id | the upload |
//! | `q` | [`part`] | upload 16 bytes, part number u16 | the part |
//! | `a` | [`account`] | nothing | sums over extents |
//! | `c` | [`counter`] | which u8, head u48 but for the first | the number |
//! | `n` | [`snapshot`] | NUL and head u48 but for the first, name | view, newest layer, time, totals |
//! | `y` | [`layer`] | layer u32 | the layer's parent |
//!
//! Namespace families carry their layer: a head is a short chain of layers and a row is looked for from the newest
//! on. Families about bytes do not: a map is frozen and shared as a whole, by its number.
//!
//! A volume has several heads when its bucket was cloned: trees that are written each for itself over layers they share.
//! What belongs to one head and to no layer (counters, snapshots, uploads) has the head in its key, but for the first
//! head, whose rows are those of a volume that has no other.

use bytes::Bytes;
use mooring_protocol::types::Ino;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub mod account;
pub mod backlink;
pub mod counter;
pub mod dentry;
pub mod extent;
pub mod frozen;
pub mod garbage;
pub mod inode;
pub mod layer;
pub mod map;
pub mod object;
pub mod orphan;
pub mod pack;
pub mod part;
pub mod side;
pub mod snapshot;
pub mod symlink;
pub mod upload;
pub mod xattr;

/// A layer of the namespace. The head writes into its newest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer(pub u32);

impl Layer {
    /// The layer of a volume that was never snapshotted.
    pub const FIRST: Layer = Layer(1);
}

/// A head: one of the trees of a volume that can be written. Whoever clones one gives the number, which no other head of
/// the volume ever had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadId(pub u64);

impl HeadId {
    /// The head a volume is made with.
    pub const FIRST: HeadId = HeadId(0);
}

impl std::fmt::Display for HeadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Version byte of every value written today.
pub const VERSION: u8 = 1;

/// The value that hides a row of an older layer.
pub const TOMBSTONE: &[u8] = &[0];

/// A row that is not what its family says. Never the caller's fault: the row was damaged or written by a newer
/// program.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    /// The key has the wrong length or family.
    #[error("key {key} does not belong to family {family}")]
    Key {
        /// Which family was expected.
        family: &'static str,
        /// The key, escaped.
        key: String,
    },
    /// A version this program does not know.
    #[error("value of family {family} has version {version}; this program knows {VERSION}: use a newer one")]
    Version {
        /// Which family.
        family: &'static str,
        /// The version byte found.
        version: u8,
    },
    /// The bytes behind the version byte make no sense.
    #[error("value of family {0} is damaged")]
    Value(&'static str),
    /// A row that must exist does not.
    #[error("a row of family {family} is missing for {of}")]
    Missing {
        /// Which family.
        family: &'static str,
        /// What the row was to tell of.
        of: u64,
    },
}

/// Builds keys.
pub(crate) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    pub(crate) fn new(family: u8) -> KeyWriter {
        let mut key = Vec::with_capacity(48);
        key.push(family);
        KeyWriter(key)
    }

    pub(crate) fn layer(mut self, layer: Layer) -> KeyWriter {
        self.0.extend_from_slice(&layer.0.to_be_bytes());
        self
    }

    pub(crate) fn u48(mut self, number: u64) -> KeyWriter {
        self.0.extend_from_slice(&number.to_be_bytes()[2..]);
        self
    }

    pub(crate) fn ino(self, ino: Ino) -> KeyWriter {
        self.u48(ino.get())
    }

    pub(crate) fn u64(mut self, number: u64) -> KeyWriter {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> KeyWriter {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Takes keys apart.
pub(crate) struct KeyReader<'a> {
    family: &'static str,
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    pub(crate) fn new(family: &'static str, byte: u8, key: &'a [u8]) -> Result<KeyReader<'a>, RowError> {
        let reader = KeyReader { family, whole: key, rest: key };
        match key.split_first() {
            Some((&first, rest)) if first == byte => Ok(KeyReader { rest, ..reader }),
            _ => Err(reader.wrong()),
        }
    }

    pub(crate) fn wrong(&self) -> RowError {
        RowError::Key { family: self.family, key: self.whole.escape_ascii().to_string() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.wrong())?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn layer(&mut self) -> Result<Layer, RowError> {
        Ok(Layer(u32::from_be_bytes(self.take()?)))
    }

    pub(crate) fn u48(&mut self) -> Result<u64, RowError> {
        let tail: [u8; 6] = self.take()?;
        let mut whole = [0; 8];
        whole[2..].copy_from_slice(&tail);
        Ok(u64::from_be_bytes(whole))
    }

    pub(crate) fn ino(&mut self) -> Result<Ino, RowError> {
        Ino::new(self.u48()?).ok_or_else(|| self.wrong())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RowError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        self.take()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(self) -> Result<(), RowError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong()) }
    }
}

/// The version byte and `value` in postcard.
pub(crate) fn pack_value<T: Serialize>(value: &T) -> Bytes {
    // Serialising a plain value into growing memory has no way to fail; an empty body would be refused by `decode`.
    let body = postcard::to_extend(value, vec![VERSION]).unwrap_or_default();
    Bytes::from(body)
}

/// What is behind the version byte.
pub(crate) fn body<'a>(family: &'static str, value: &'a [u8]) -> Result<&'a [u8], RowError> {
    match value.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(RowError::Version { family, version }),
        None => Err(RowError::Value(family)),
    }
}

/// Undoes [`pack_value`]; bytes left over are an error.
pub(crate) fn unpack_value<T: DeserializeOwned>(family: &'static str, value: &[u8]) -> Result<T, RowError> {
    match postcard::take_from_bytes::<T>(body(family, value)?) {
        Ok((decoded, [])) => Ok(decoded),
        _ => Err(RowError::Value(family)),
    }
}

/// A value that is the version byte and the bytes themselves.
pub(crate) fn pack_bytes(bytes: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(1 + bytes.len());
    value.push(VERSION);
    value.extend_from_slice(bytes);
    Bytes::from(value)
}

/// Undoes [`pack_bytes`] without copying.
pub(crate) fn unpack_bytes(family: &'static str, value: &Bytes) -> Result<Bytes, RowError> {
    body(family, value)?;
    Ok(value.slice(1..))
}
