//! Compression, when it pays.
//!
//! LZ4 is the one real cost of writing (0.3 to 0.5 GB/s a core; hashing and sealing run at several), so a sample is
//! tried first: bytes that are compressed or encrypted already cost one small probe.

use super::extent::{FLAG_LZ4, FLAG_SEGMENTS};
use super::segments::{LONG_BYTES, Layout, SEGMENT_BYTES};
use bytes::Bytes;
use std::ops::Range;

/// Shorter extents gain less than a row's worth.
const MIN_BYTES: usize = 256;
/// Longer ones are probed with a sample from their middle.
const SAMPLE: usize = 4096;
/// Kept only when at least this part is saved.
const MIN_SAVED: usize = 8;

/// An extent as it is to be sealed.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    /// All pieces, one after the other.
    pub stored: Bytes,
    /// See [`FLAG_LZ4`] and [`FLAG_SEGMENTS`].
    pub flags: u8,
    /// Length of each piece: what is sealed by itself.
    pub pieces: Vec<u32>,
}

/// The bytes to store.
pub(super) fn encode(data: &Bytes) -> Encoded {
    let plain = || {
        let segmented = data.len() > LONG_BYTES;
        let pieces = match segmented {
            true => data.chunks(SEGMENT_BYTES as usize).map(|piece| piece.len() as u32).collect(),
            false => vec![data.len() as u32],
        };
        Encoded { stored: data.clone(), flags: if segmented { FLAG_SEGMENTS } else { 0 }, pieces }
    };
    if data.len() < MIN_BYTES {
        return plain();
    }
    if data.len() > 2 * SAMPLE {
        let middle = data.len() / 2;
        let sample = &data[middle - SAMPLE / 2..middle + SAMPLE / 2];
        if !pays(SAMPLE, lz4_flex::block::compress(sample).len()) {
            return plain();
        }
    }
    let packed = if data.len() > LONG_BYTES { pack_segments(data) } else { pack_whole(data) };
    if pays(data.len(), packed.stored.len()) { packed } else { plain() }
}

fn pays(from: usize, to: usize) -> bool {
    to < from - from / MIN_SAVED
}

fn pack_whole(data: &[u8]) -> Encoded {
    let packed = lz4_flex::block::compress(data);
    Encoded { pieces: vec![packed.len() as u32], stored: packed.into(), flags: FLAG_LZ4 }
}

/// Index and segments, each of them compressed where that makes it shorter.
fn pack_segments(data: &[u8]) -> Encoded {
    let chunks = data.chunks(SEGMENT_BYTES as usize);
    let index = chunks.len() * 4;
    let mut pieces = Vec::with_capacity(1 + chunks.len());
    pieces.push(index as u32);
    let mut stored = vec![0; index];
    for (at, chunk) in chunks.enumerate() {
        let packed = lz4_flex::block::compress(chunk);
        let piece = if packed.len() < chunk.len() { &packed } else { chunk };
        stored[at * 4..at * 4 + 4].copy_from_slice(&(piece.len() as u32).to_le_bytes());
        stored.extend_from_slice(piece);
        pieces.push(piece.len() as u32);
    }
    Encoded { stored: stored.into(), flags: FLAG_SEGMENTS | FLAG_LZ4, pieces }
}

/// The raw bytes of some segments, whose stored bytes stand one after the other; `None` when they are not of the codec.
pub(super) fn decode(stored: Vec<u8>, layout: &Layout, segments: Range<u32>) -> Option<Bytes> {
    let raw = layout.raw(segments.clone());
    if !segments.clone().any(|segment| layout.is_compressed(segment)) {
        return (stored.len() == raw.len()).then(|| stored.into());
    }
    let mut out = vec![0; raw.len()];
    let (mut rest, mut to) = (&stored[..], &mut out[..]);
    for segment in segments {
        let sealed = layout.sealed(segment..segment + 1);
        let (piece, after) = rest.split_at_checked(sealed.len() - crate::seal::TAG_BYTES)?;
        let (place, behind) = to.split_at_mut_checked(layout.raw_len(segment) as usize)?;
        if !layout.is_compressed(segment) {
            place.copy_from_slice(piece);
        } else if lz4_flex::block::decompress_into(piece, place).ok()? != place.len() {
            return None;
        }
        (rest, to) = (after, behind);
    }
    rest.is_empty().then(|| out.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::pack::{ExtentRef, PackId};
    use crate::seal::TAG_BYTES;
    use mooring_policy::rng::{Random, SeededRandom};

    /// The whole of it, decoded as an extent of `len` bytes.
    fn back(encoded: &Encoded, len: usize) -> Option<Bytes> {
        let stored_len = (encoded.stored.len() + encoded.pieces.len() * TAG_BYTES) as u32;
        let (flags, raw_len) = (encoded.flags, len as u32);
        let extent = ExtentRef { pack: PackId(1), offset: 56, stored_len, raw_len, flags, hash: [0; 16] };
        let (layout, from) = match Layout::plain(&extent) {
            Some(layout) => (layout, 0),
            None => {
                let index = encoded.pieces[0] as usize;
                (Layout::indexed(&extent, &encoded.stored[..index])?, index)
            }
        };
        let all = 0..layout.count();
        decode(encoded.stored[from..].to_vec(), &layout, all)
    }

    #[test]
    fn text_is_packed_and_noise_is_not() {
        for len in [1, 255, 256, 5000, LONG_BYTES, LONG_BYTES + 1, 100_000, 1 << 20] {
            let text = Bytes::from(b"mooring ".repeat(len / 8 + 1)[..len].to_vec());
            let encoded = encode(&text);
            assert_eq!(encoded.flags & FLAG_LZ4 != 0, len >= MIN_BYTES);
            assert_eq!(encoded.flags & FLAG_SEGMENTS != 0, len > LONG_BYTES);
            assert_eq!(encoded.pieces.iter().sum::<u32>() as usize, encoded.stored.len());
            assert_eq!(back(&encoded, len).unwrap(), text);
            assert!(back(&encoded, len + 1).is_none());
            let mut noise = vec![0; len];
            SeededRandom::new(1).fill(&mut noise);
            let noise = Bytes::from(noise);
            let encoded = encode(&noise);
            assert_eq!((encoded.flags & FLAG_LZ4, encoded.stored.len()), (0, len));
            assert_eq!(back(&encoded, len).unwrap(), noise);
        }
    }

    #[test]
    fn a_segment_of_noise_among_text_is_kept_as_it_is() {
        let mut data = b"mooring ".repeat(1 << 14);
        SeededRandom::new(1).fill(&mut data[32 << 10..48 << 10]);
        let data = Bytes::from(data);
        let encoded = encode(&data);
        assert_eq!((encoded.flags, encoded.pieces[3]), (FLAG_SEGMENTS | FLAG_LZ4, SEGMENT_BYTES));
        assert_eq!(back(&encoded, data.len()).unwrap(), data);
    }
}
