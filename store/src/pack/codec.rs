//! Compression, when it pays.
//!
//! LZ4 is the one real cost of writing (0.3 to 0.5 GB/s a core; hashing and sealing run at several), so a sample is
//! tried first: bytes that are compressed or encrypted already cost one small probe.

use super::extent::FLAG_LZ4;
use bytes::Bytes;

/// Shorter extents gain less than a row's worth.
const MIN_BYTES: usize = 256;
/// Longer ones are probed with a sample from their middle.
const SAMPLE: usize = 4096;
/// Kept only when at least this part is saved.
const MIN_SAVED: usize = 8;

/// The bytes to store and their flags.
pub(super) fn encode(data: &Bytes) -> (Bytes, u8) {
    let pays = |from: usize, to: usize| to < from - from / MIN_SAVED;
    if data.len() < MIN_BYTES {
        return (data.clone(), 0);
    }
    if data.len() > 2 * SAMPLE {
        let middle = data.len() / 2;
        let sample = &data[middle - SAMPLE / 2..middle + SAMPLE / 2];
        if !pays(SAMPLE, lz4_flex::block::compress(sample).len()) {
            return (data.clone(), 0);
        }
    }
    let packed = lz4_flex::block::compress(data);
    if pays(data.len(), packed.len()) { (packed.into(), FLAG_LZ4) } else { (data.clone(), 0) }
}

/// The raw bytes; `None` when they are not `raw_len` long or not of the codec.
pub(super) fn decode(stored: Vec<u8>, flags: u8, raw_len: usize) -> Option<Bytes> {
    match flags {
        0 if stored.len() == raw_len => Some(stored.into()),
        FLAG_LZ4 => {
            let raw = lz4_flex::block::decompress(&stored, raw_len).ok()?;
            (raw.len() == raw_len).then(|| raw.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use mooring_policy::rng::{Random, SeededRandom};

    #[test]
    fn text_is_packed_and_noise_is_not() {
        for len in [1, 255, 256, 5000, 100_000] {
            let text = Bytes::from(b"mooring ".repeat(len / 8 + 1)[..len].to_vec());
            let (stored, flags) = encode(&text);
            assert_eq!(flags == FLAG_LZ4, len >= MIN_BYTES);
            assert_eq!(decode(stored.to_vec(), flags, len).unwrap(), text);
            assert!(decode(stored.to_vec(), flags, len + 1).is_none());
            let mut noise = vec![0; len];
            SeededRandom::new(1).fill(&mut noise);
            let (stored, flags) = encode(&noise.clone().into());
            assert_eq!((flags, stored.len()), (0, len));
        }
    }
}
