//! Multipart uploads: `u`, root u48, object key, NUL, id (32 hexadecimal digits). Object keys hold no NUL byte, so rows lie in the
//! order of keys, then ids. The root is the directory the key is relative to. Those of a head but the first have `0` and the
//! head (u48 each) before the root, which is never 0.

use super::{HeadId, KeyReader, KeyWriter, RowError, pack_value, unpack_value};
use crate::api::ObjectMeta;
use bytes::Bytes;
use mooring_protocol::types::{Ino, Time};
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'u';
const WHAT: &str = "upload";

/// Digits of an upload's id.
pub const ID_DIGITS: usize = 32;

/// What is kept of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// When it began.
    pub started: Time,
    /// What the object will carry.
    pub meta: ObjectMeta,
    /// Set once it was completed: the object's inode and ETag, so that a repeated completion gets the same answer.
    pub completed: Option<(Ino, String)>,
}

fn of(head: HeadId) -> KeyWriter {
    let key = KeyWriter::new(FAMILY);
    if head == HeadId::FIRST { key } else { key.u48(0).u48(head.0) }
}

/// The row of upload `id` of `object` under `root`.
#[must_use]
pub fn key(head: HeadId, root: Ino, object: &[u8], id: &str) -> Vec<u8> {
    of(head).ino(root).bytes(object).bytes(&[0]).bytes(id.as_bytes()).done()
}

/// Beginning of all uploads under `root` for keys that begin with `object`.
#[must_use]
pub fn prefix(head: HeadId, root: Ino, object: &[u8]) -> Vec<u8> {
    of(head).ino(root).bytes(object).done()
}

/// Where the uploads of a head begin and end.
#[must_use]
pub fn range(head: HeadId) -> (Vec<u8>, Vec<u8>) {
    if head == HeadId::FIRST {
        return (KeyWriter::new(FAMILY).u48(1).done(), crate::meta::prefix_end(&family()));
    }
    let from = of(head).done();
    let end = crate::meta::prefix_end(&from);
    (from, end)
}

/// Beginning of all uploads of all heads.
#[must_use]
pub fn family() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// Head, root, object key and id of a key.
pub fn parse(key: &[u8]) -> Result<(HeadId, Ino, &[u8], &str), RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let wrong = reader.wrong();
    let (head, root) = match reader.u48()? {
        0 => (HeadId(reader.u48()?), reader.ino()?),
        root => (HeadId::FIRST, Ino::new(root).ok_or_else(|| reader.wrong())?),
    };
    let rest = reader.rest();
    let cut = rest.len().checked_sub(ID_DIGITS + 1).filter(|&cut| rest[cut] == 0).ok_or(wrong.clone())?;
    let id = std::str::from_utf8(&rest[cut + 1..]).map_err(|_| wrong)?;
    Ok((head, root, &rest[..cut], id))
}

/// The value.
#[must_use]
pub fn encode(upload: &Upload) -> Bytes {
    pack_value(upload)
}

/// The upload in a value.
pub fn decode(value: &[u8]) -> Result<Upload, RowError> {
    unpack_value(WHAT, value)
}
