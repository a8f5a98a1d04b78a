//! The table of layers: `y`, layer u32. The value is the layer below, 0 for none.

use super::{KeyReader, KeyWriter, Layer, RowError, pack_value, unpack_value};
use bytes::Bytes;

const FAMILY: u8 = b'y';
const WHAT: &str = "layer";

/// The row of `layer`.
#[must_use]
pub fn key(layer: Layer) -> Vec<u8> {
    KeyWriter::new(FAMILY).layer(layer).done()
}

/// Beginning of all layers.
#[must_use]
pub fn prefix() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The layer of a key.
pub fn parse(key: &[u8]) -> Result<Layer, RowError> {
    let mut reader = KeyReader::new(WHAT, FAMILY, key)?;
    let layer = reader.layer()?;
    reader.end()?;
    Ok(layer)
}

/// The value.
#[must_use]
pub fn encode(below: Option<Layer>) -> Bytes {
    pack_value(&below.map_or(0, |layer| layer.0))
}

/// The layer below, in a value.
pub fn decode(value: &[u8]) -> Result<Option<Layer>, RowError> {
    let below: u32 = unpack_value(WHAT, value)?;
    Ok((below != 0).then_some(Layer(below)))
}
