//! What S3 stored with an object: `m`, layer u32, inode u48.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use crate::api::ObjectMeta;
use bytes::Bytes;
use mooring_protocol::types::Ino;
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'm';
const WHAT: &str = "object";

/// ETag and headers of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Holds while the inode's content version is this; a write in a mount moves past it.
    pub content: u64,
    /// Without quotes.
    pub etag: String,
    /// Headers and user metadata.
    pub meta: ObjectMeta,
}

/// The row of `ino`.
#[must_use]
pub fn key(layer: Layer, ino: Ino) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).ino(ino).done()
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
pub fn encode(object: &Object) -> Bytes {
    pack_value(object)
}

/// The object in a value.
pub fn decode(value: &[u8]) -> Result<Object, RowError> {
    unpack_value(WHAT, value)
}
