//! Maps: which rows cover a range, and replacing a range.

use super::change::Stored;
use super::rows::scan;
use super::{Tx, Volume};
use crate::api::Result;
use crate::keys::RowError;
use crate::keys::map::{self, BLOCK, ExtentId, Row, Source};
use bytes::Bytes;

/// Rows of one scan.
const PAGE: u64 = 1024;
/// Ranges of more windows go around the cache: who asks for so much takes it away or copies it.
const CACHED_WINDOWS: u64 = 16;
/// Frozen maps under frozen maps are flattened long before this; deeper is damage.
const MAX_DEPTH: u32 = 64;

/// A new row on its way into a map.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) row: Row,
    pub(crate) stored: Option<Stored>,
}

impl Piece {
    /// Bytes `data` at `start` (a block's beginning), in the extent `id`.
    pub(crate) fn extent(start: u64, data: &Bytes, id: ExtentId, stored: Stored) -> Piece {
        Piece { start, row: row_of(data.len() as u64, Source::Extent { id, skip: 0 }), stored: Some(stored) }
    }

    /// At most one block of bytes kept in the row.
    pub(crate) fn inline(start: u64, data: Bytes) -> Piece {
        Piece { start, row: row_of(data.len() as u64, Source::Inline(data)), stored: None }
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.row.blocks * BLOCK
    }
}

fn row_of(len: u64, source: Source) -> Row {
    Row { blocks: len.div_ceil(BLOCK).max(1), len, source }
}

/// A run of bytes of a file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Where it begins in the file.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Where its bytes are.
    pub(crate) source: Source,
}

impl Row {
    /// The row between two offsets in it, both whole blocks.
    pub(crate) fn part(&self, from: u64, to: u64) -> Row {
        let covered = to - from;
        let source = match &self.source {
            Source::Extent { id, skip } => {
                Source::Extent { id: *id, skip: skip.saturating_add(u32::try_from(from).unwrap_or(u32::MAX)) }
            }
            Source::Inline(bytes) => {
                Source::Inline(bytes.slice(usize::try_from(from.min(self.len)).unwrap_or(0)..))
            }
            Source::Slice { map, offset } => Source::Slice { map: *map, offset: offset + from },
        };
        Row { blocks: covered / BLOCK, len: self.len.saturating_sub(from).min(covered), source }
    }

    /// The row with at most `len` bytes.
    pub(crate) fn shortened(&self, len: u64) -> Row {
        let len = self.len.min(len);
        let source = match &self.source {
            Source::Inline(bytes) => {
                Source::Inline(bytes.slice(..usize::try_from(len).unwrap_or(bytes.len())))
            }
            other => other.clone(),
        };
        Row { blocks: self.blocks.min(len.div_ceil(BLOCK).max(1)), len, source }
    }
}

impl Volume {
    /// Rows that overlap `[start, end)`, with the offset each ends at. The lock of the map's inode is held.
    pub(crate) async fn rows_between(&self, map: u64, start: u64, end: u64) -> Result<Vec<(u64, Row)>> {
        let span = self.shared.caches.maps.span();
        let (first, last) = (start / span, end.saturating_sub(1) / span);
        if start >= end || last - first > CACHED_WINDOWS {
            return self.stored_between(map, start, end).await;
        }
        let mut found = Vec::new();
        for window in first..=last {
            let (key, range) = ((map, window), (start, end));
            if self.shared.caches.maps.collect(key, range, &mut found) {
                continue;
            }
            let from = window * span;
            let rows = self.stored_between(map, from, from.saturating_add(span)).await?;
            self.shared.caches.maps.fill(key, &rows);
            let above = found.last().map_or(start, |(last, _)| start.max(*last));
            let wanted = |(row_end, row): &(u64, Row)| *row_end > above && row_end - row.blocks * BLOCK < end;
            found.extend(rows.into_iter().filter(wanted));
        }
        Ok(found)
    }

    /// [`Self::rows_between`] from the engine.
    async fn stored_between(&self, map: u64, start: u64, end: u64) -> Result<Vec<(u64, Row)>> {
        let mut found = Vec::new();
        let mut from = start.saturating_add(1);
        let expected = (end.saturating_sub(start) / self.config.extent_bytes).saturating_add(2).min(PAGE);
        if start >= end {
            return Ok(found);
        }
        loop {
            let limit = usize::try_from(expected).unwrap_or(usize::MAX);
            let page = self.map_page(map, from, limit).await?;
            let Some(&(last, _)) = page.last() else { break };
            from = last.saturating_add(1);
            for (row_end, row) in page {
                if row_end - row.blocks * BLOCK >= end {
                    return Ok(found);
                }
                found.push((row_end, row));
            }
            if last >= end {
                break;
            }
        }
        Ok(found)
    }

    /// Up to `limit` rows that end at or behind `from`.
    pub(crate) async fn map_page(&self, map: u64, from: u64, limit: usize) -> Result<Vec<(u64, Row)>> {
        let prefix = map::prefix(map);
        let page = scan(&**self.rows().meta(), &prefix, &from.to_be_bytes(), limit).await?;
        let mut rows = Vec::with_capacity(page.len());
        for (rest, value) in page {
            let end = rest.first_chunk().map(|end| u64::from_be_bytes(*end)).filter(|_| rest.len() == 8);
            let row = map::decode(&value)?;
            let end = end.filter(|end| row.blocks * BLOCK <= *end).ok_or(RowError::Value("map"))?;
            rows.push((end, row));
        }
        Ok(rows)
    }

    /// Where the bytes of `[start, end)` are, in order; holes are left out. Follows slices of frozen maps.
    pub(crate) async fn segments(&self, map: u64, start: u64, end: u64) -> Result<Vec<Segment>> {
        let mut found = Vec::new();
        self.collect(map, start, end, start, MAX_DEPTH, &mut found).await?;
        Ok(found)
    }

    /// Adds what lies in `[start, end)` of a map, shown at `shown` in the file.
    async fn collect(
        &self,
        map: u64,
        start: u64,
        end: u64,
        shown: u64,
        depth: u32,
        found: &mut Vec<Segment>,
    ) -> Result<()> {
        if depth == 0 {
            return Err(RowError::Value("map").into());
        }
        for (row_end, row) in self.rows_between(map, start, end).await? {
            let row_start = row_end - row.blocks * BLOCK;
            let (from, to) = (row_start.max(start), (row_start + row.len).min(end));
            if from >= to {
                continue;
            }
            let (skip, len, at) = (from - row_start, to - from, shown + (from - start));
            if let Source::Slice { map, offset } = row.source {
                let below = offset + skip;
                Box::pin(self.collect(map, below, below + len, at, depth - 1, found)).await?;
                continue;
            }
            found.push(Segment { start: at, len, source: row.part(skip, row.blocks * BLOCK).source });
        }
        Ok(())
    }

    /// Replaces `[start, end)` (whole blocks) by `pieces`, which lie in it; the rest becomes a hole. Returns by how many
    /// blocks the map grew.
    pub(crate) async fn replace_range(
        &self,
        tx: &mut Tx<'_>,
        map: u64,
        (start, end): (u64, u64),
        pieces: &[Piece],
    ) -> Result<i64> {
        let mut grown = 0;
        for (row_end, row) in self.rows_between(map, start, end).await? {
            let covered = row.blocks * BLOCK;
            let row_start = row_end - covered;
            tx.drop_row(map, row_end, &row);
            if row_start < start {
                tx.put_row(map, start, &row.part(0, start - row_start));
            }
            if row_end > end {
                tx.put_row(map, row_end, &row.part(end - row_start, covered));
            }
            grown -= signed((row_end.min(end) - row_start.max(start)) / BLOCK);
        }
        for piece in pieces {
            tx.put_piece(map, piece);
            grown += signed(piece.row.blocks);
        }
        Ok(grown)
    }
}

pub(crate) fn signed(blocks: u64) -> i64 {
    i64::try_from(blocks).unwrap_or(i64::MAX)
}

/// The beginning of the block that holds `offset`.
pub(crate) fn block_start(offset: u64) -> u64 {
    offset - offset % BLOCK
}

/// The end of the block that holds the byte before `offset`.
pub(crate) fn block_end(offset: u64) -> u64 {
    offset.div_ceil(BLOCK) * BLOCK
}
