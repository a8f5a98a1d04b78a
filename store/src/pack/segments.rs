//! Segments: what of a long extent is sealed together.
//!
//! A stream is kept in extents of up to 1 MiB, which keeps its rows and hashes few. Under one seal, a program that reads
//! 4 KiB at random would have all of that read and opened. So extents of more than [`LONG_BYTES`] are sealed in segments
//! of [`SEGMENT_BYTES`] raw bytes, each with a tag of its own, compressed each by itself:
//!
//! ```text
//!   flags SEGMENTS          segment 0 | segment 1 | ...                  each: cipher text of 16 KiB, tag
//!   flags SEGMENTS | LZ4    index | segment 0 | segment 1 | ...          index: length u32 of each segment, sealed, tag
//! ```
//!
//! A segment as long as its raw bytes is not compressed. The nonce of a piece is where it begins in the pack: offsets in
//! a pack are given out once, and a record's own offset, the nonce of extents under one seal, is never one of them. What
//! is bound is [`super::format::place`] of the extent: a piece opens at its own place in its own extent only.

use super::extent::{ExtentRef, FLAG_LZ4, FLAG_SEGMENTS};
use super::format::EXTENT_HEAD;
use crate::seal::TAG_BYTES;
use std::ops::Range;

/// Raw bytes of a segment; the last of an extent may have fewer.
pub const SEGMENT_BYTES: u32 = 16 << 10;

/// Longer extents are sealed in segments.
pub(super) const LONG_BYTES: usize = 32 << 10;

/// Bytes of the index for one segment.
const INDEX_ROW: usize = 4;

const TAG: u32 = TAG_BYTES as u32;

/// Where the segments of an extent are in its body. An extent under one seal is one segment.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    raw_len: u32,
    flags: u8,
    stored_len: u32,
    /// Where each begins, when they are compressed.
    starts: Vec<u32>,
}

impl Layout {
    /// The layout, when it does not take the index to know it.
    pub fn plain(extent: &ExtentRef) -> Option<Layout> {
        let ExtentRef { raw_len, flags, stored_len, .. } = *extent;
        let layout = Layout { raw_len, flags, stored_len, starts: Vec::new() };
        let compressed = flags & FLAG_LZ4 != 0 && flags & FLAG_SEGMENTS != 0;
        (!compressed).then_some(layout)
    }

    /// The layout by its index; `None` when that is not of this extent.
    pub fn indexed(extent: &ExtentRef, index: &[u8]) -> Option<Layout> {
        let ExtentRef { raw_len, flags, stored_len, .. } = *extent;
        let mut layout = Layout { raw_len, flags, stored_len, starts: Vec::new() };
        let count = layout.count();
        if index.len() != count as usize * INDEX_ROW {
            return None;
        }
        let mut at = index_sealed_len(raw_len);
        let mut starts = Vec::with_capacity(count as usize);
        for (segment, row) in index.chunks_exact(INDEX_ROW).enumerate() {
            let len = u32::from_le_bytes(row.try_into().ok()?);
            if len == 0 || len > layout.raw_len(segment as u32) {
                return None;
            }
            starts.push(at);
            at += len + TAG;
        }
        layout.starts = starts;
        (at == stored_len).then_some(layout)
    }

    fn is_segmented(&self) -> bool {
        self.flags & FLAG_SEGMENTS != 0
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        if self.is_segmented() { self.raw_len.div_ceil(SEGMENT_BYTES) } else { 1 }
    }

    /// Raw bytes of one.
    pub fn raw_len(&self, segment: u32) -> u32 {
        let Range { start, end } = self.raw(segment..segment + 1);
        end - start
    }

    /// The raw bytes that some have.
    pub fn raw(&self, segments: Range<u32>) -> Range<u32> {
        if !self.is_segmented() {
            return 0..self.raw_len;
        }
        let at = |segment: u32| segment.saturating_mul(SEGMENT_BYTES).min(self.raw_len);
        at(segments.start)..at(segments.end)
    }

    fn start(&self, segment: u32) -> u32 {
        if segment == self.count() {
            return self.stored_len;
        }
        let even = segment * (SEGMENT_BYTES + TAG);
        self.starts.get(segment as usize).copied().unwrap_or(even)
    }

    /// Where some are in the body, tags included.
    pub fn sealed(&self, segments: Range<u32>) -> Range<u32> {
        self.start(segments.start)..self.start(segments.end)
    }

    /// Whether one is compressed.
    pub fn is_compressed(&self, segment: u32) -> bool {
        let Range { start, end } = self.sealed(segment..segment + 1);
        self.flags & FLAG_LZ4 != 0 && (!self.is_segmented() || end - start != self.raw_len(segment) + TAG)
    }

    /// The nonce of one.
    pub fn nonce(&self, extent: &ExtentRef, segment: u32) -> u64 {
        if self.is_segmented() {
            place_in_pack(extent, self.start(segment))
        } else {
            u64::from(extent.offset)
        }
    }
}

/// Where in its pack a place in the body of an extent is.
pub(super) fn place_in_pack(extent: &ExtentRef, at: u32) -> u64 {
    u64::from(extent.offset) + EXTENT_HEAD as u64 + u64::from(at)
}

/// Bytes of the sealed index of a compressed extent of this length.
pub(super) fn index_sealed_len(raw_len: u32) -> u32 {
    raw_len.div_ceil(SEGMENT_BYTES) * INDEX_ROW as u32 + TAG
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::pack::PackId;

    fn extent(raw_len: u32, stored_len: u32, flags: u8) -> ExtentRef {
        ExtentRef { pack: PackId(1), offset: 56, stored_len, raw_len, flags, hash: [0; 16] }
    }

    #[test]
    fn segments_of_plain_extents_are_where_arithmetic_says() {
        let extent = extent(40_000, 40_000 + 3 * TAG, FLAG_SEGMENTS);
        let layout = Layout::plain(&extent).unwrap();
        assert_eq!((layout.count(), layout.raw_len(2)), (3, 40_000 - 2 * SEGMENT_BYTES));
        assert_eq!(layout.sealed(1..3), SEGMENT_BYTES + TAG..40_000 + 3 * TAG);
        assert_eq!(layout.nonce(&extent, 1), 56 + 72 + u64::from(SEGMENT_BYTES + TAG));
        assert!(!layout.is_compressed(2));
    }

    #[test]
    fn an_index_that_does_not_fit_its_extent_is_refused() {
        let lens = [100_u32, SEGMENT_BYTES, 7];
        let rows: Vec<u8> = lens.iter().flat_map(|len| len.to_le_bytes()).collect();
        let stored = index_sealed_len(40_000) + lens.iter().sum::<u32>() + 3 * TAG;
        let of = |raw, stored| extent(raw, stored, FLAG_SEGMENTS | FLAG_LZ4);
        let layout = Layout::indexed(&of(40_000, stored), &rows).unwrap();
        assert_eq!((0..3).map(|at| layout.is_compressed(at)).collect::<Vec<_>>(), [true, false, true]);
        assert!(Layout::plain(&of(40_000, stored)).is_none());
        assert!(Layout::indexed(&of(40_000, stored + 1), &rows).is_none());
        assert!(Layout::indexed(&of(60_000, stored), &rows).is_none());
        for (at, len) in [(0, 0), (1, SEGMENT_BYTES + 1), (2, u32::MAX)] {
            let mut rows = rows.clone();
            rows[at * 4..at * 4 + 4].copy_from_slice(&len.to_le_bytes());
            assert!(Layout::indexed(&of(40_000, stored), &rows).is_none(), "{len}");
        }
    }
}
