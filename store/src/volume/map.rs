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
/// Rows read at a time to count blocks, and to find where data ends.
const COUNT_PAGE: usize = 1024;
const SEEK_PAGE: usize = 64;
/// Bytes of a slice that an overwrite in it leaves in one row with the gap.
const WIDE: u64 = 256 << 20;

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

    /// How many blocks of `[start, end)` (whole blocks) hold data. Follows slices.
    pub(crate) async fn data_blocks(&self, map: u64, start: u64, end: u64) -> Result<u64> {
        self.count(map, start, end, MAX_DEPTH).await
    }

    async fn count(&self, map: u64, start: u64, end: u64, depth: u32) -> Result<u64> {
        let mut blocks = 0;
        let mut from = start;
        while from < end {
            // No row covers less than a block.
            let rows = usize::try_from((end - from) / BLOCK + 1).unwrap_or(COUNT_PAGE).min(COUNT_PAGE);
            let page = self.map_page(map, from.saturating_add(1), rows).await?;
            let Some(&(last, _)) = page.last() else { break };
            for (row_end, row) in page {
                let row_start = row_end - row.blocks * BLOCK;
                blocks += self.row_blocks(&row, (row_start, row_end), (start, end), depth).await?;
            }
            from = last;
        }
        Ok(blocks)
    }

    /// How many blocks of a row hold data, of those in `[start, end)`.
    async fn row_blocks(
        &self,
        row: &Row,
        at: (u64, u64),
        (start, end): (u64, u64),
        depth: u32,
    ) -> Result<u64> {
        let (from, to) = (at.0.max(start), at.1.min(end));
        if from >= to {
            return Ok(0);
        }
        match row.source {
            Source::Slice { .. } if depth == 0 => Err(RowError::Value("map").into()),
            Source::Slice { map, offset } => {
                let (from, to) = (offset + from - at.0, offset + to - at.0);
                Box::pin(self.count(map, from, to, depth - 1)).await
            }
            _ => Ok((to - from) / BLOCK),
        }
    }

    /// How many blocks of a row that ends at `row_end` hold data.
    pub(crate) async fn blocks_of(&self, row_end: u64, row: &Row) -> Result<u64> {
        let at = (row_end - row.blocks * BLOCK, row_end);
        self.row_blocks(row, at, at, MAX_DEPTH).await
    }

    /// The first byte in `[from, end)` of a map that is data.
    pub(crate) async fn next_data(&self, map: u64, from: u64, end: u64) -> Result<Option<u64>> {
        let mut at = from;
        loop {
            let page = self.map_page(map, at.saturating_add(1), SEEK_PAGE).await?;
            let Some(&(last, _)) = page.last() else { return Ok(None) };
            for (row_end, row) in page {
                let row_start = row_end - row.blocks * BLOCK;
                let (start, until) = (row_start.max(at), row_end.min(end));
                if start >= end {
                    return Ok(None);
                }
                let Source::Slice { map, offset } = row.source else { return Ok(Some(start)) };
                let below = (offset + start - row_start, offset + until - row_start);
                if let Some(found) = Box::pin(self.next_data(map, below.0, below.1)).await? {
                    return Ok(Some(found - offset + row_start));
                }
            }
            at = last;
        }
    }

    /// The first byte in `[from, end)` of a map that is a hole, or `end`.
    pub(crate) async fn next_hole(&self, map: u64, from: u64, end: u64) -> Result<u64> {
        let mut at = from;
        while at < end {
            let page = self.map_page(map, at.saturating_add(1), SEEK_PAGE).await?;
            if page.is_empty() {
                return Ok(at);
            }
            for (row_end, row) in page {
                let row_start = row_end - row.blocks * BLOCK;
                if row_start > at || at >= end {
                    return Ok(at.min(end));
                }
                if let Source::Slice { map, offset } = row.source {
                    let below = (offset + at - row_start, offset + row_end.min(end) - row_start);
                    let hole = Box::pin(self.next_hole(map, below.0, below.1)).await?;
                    if hole < below.1 {
                        return Ok(hole - offset + row_start);
                    }
                }
                at = row_end;
            }
        }
        Ok(end)
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
            let row_start = row_end - row.blocks * BLOCK;
            tx.drop_row(map, row_end, &row);
            let wide = matches!(row.source, Source::Slice { .. });
            for (from, to) in kept((row_start, row_end), (start, end), wide) {
                tx.put_row(map, to, &row.part(from - row_start, to - row_start));
            }
            grown -= signed(self.row_blocks(&row, (row_start, row_end), (start, end), MAX_DEPTH).await?);
        }
        for piece in pieces {
            tx.put_piece(map, piece);
            grown += signed(self.blocks_of(piece.end(), &piece.row).await?);
        }
        Ok(grown)
    }
}

/// What stays of a row when `[start, end)` goes. Of a slice, which may be very long, only pieces up to the next multiples of
/// [`WIDE`] are near the gap, so that the next change near it touches these alone.
fn kept((row_start, row_end): (u64, u64), (start, end): (u64, u64), wide: bool) -> Vec<(u64, u64)> {
    let mut kept = Vec::new();
    let mut keep = |from: u64, cut: u64, to: u64| {
        let cut = if wide { cut.clamp(from.min(to), to) } else { from };
        kept.extend([(from, cut), (cut, to)].into_iter().filter(|(from, to)| from < to));
    };
    if row_start < start {
        keep(row_start, start - start % WIDE, start);
    }
    if row_end > end {
        keep(end, end.next_multiple_of(WIDE), row_end);
    }
    kept
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
