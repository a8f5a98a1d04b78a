//! Frozen maps: sharing bytes without touching them.
//!
//! A map that somebody else names too never changes again; it is *frozen*. Who wants to change it gets a map of its own
//! first, which refers to the old one:
//!
//! ```text
//!   before       inode a ─▶ map 7: 800,000 rows
//!   clone to b   inode a ─▶ map 9:  one row, a slice of 7 ─┐
//!                inode b ─▶ map 10: one row, a slice of 7 ─┴▶ map 7 (named by two rows)
//! ```
//!
//! So cloning costs the same whatever the size. Maps of few rows are not worth that: their rows are repeated, and a
//! clone of a clone refers to what the first clone refers to. What names a map is counted exactly ([`frozen`]): slices,
//! and inodes in any layer. After a snapshot every inode lies in a frozen layer, so its first change of data finds a map
//! that is named twice.
//!
//! Slices of slices would make reading slow without end. An inode knows how deep its map may be nested; where one more
//! level would be too many, the rows are repeated down to the extents instead.

use super::map::{Piece, block_end};
use super::{Held, Volume};
use crate::api::Result;
use crate::keys::garbage;
use crate::keys::inode::{self, Inode, MAX_DEPTH};
use crate::keys::map::{BLOCK, Row, Source};
use mooring_protocol::types::{FileKind, Ino};
use std::sync::Arc;

#[cfg(doc)]
use crate::keys::frozen;

/// Bytes of a file whose rows are repeated by one commit.
const STEP: u64 = 64 << 20;

/// Rows that show a range of another map.
pub(crate) struct Slices {
    pub(crate) pieces: Vec<Piece>,
    /// How deep slices are nested in them, at most.
    pub(crate) depth: u8,
    /// They name that map, which must not change any more.
    pub(crate) freezes: bool,
}

impl Volume {
    /// Rows that show `[from, to)` of a file (whole blocks, beginning at `into` in another), as they would stand in a
    /// map. `None`: the map is nested too deep for that.
    pub(crate) async fn slices(
        &self,
        source: &Inode,
        range: (u64, u64),
        into: u64,
    ) -> Result<Option<Slices>> {
        let deep = if source.depth() < MAX_DEPTH { 0 } else { MAX_DEPTH };
        self.slices_or_few(source, range, into, self.config.few_rows << deep).await
    }

    /// The same, where up to `few` rows are repeated.
    async fn slices_or_few(
        &self,
        source: &Inode,
        (from, to): (u64, u64),
        into: u64,
        few: usize,
    ) -> Result<Option<Slices>> {
        let page = self.map_page(source.map, from.saturating_add(1), few + 1).await?;
        let starts_in = |(end, row): &&(u64, Row)| end - row.blocks * BLOCK < to;
        let rows: Vec<&(u64, Row)> = page.iter().take_while(starts_in).collect();
        let end_of_file = source.size;
        if rows.len() > few {
            let slice = Source::Slice { map: source.map, offset: from };
            let row = Row { blocks: (to - from) / BLOCK, len: to.min(end_of_file) - from, source: slice };
            let pieces = vec![Piece { start: into, row, stored: None }];
            let depth = source.depth() + 1;
            return Ok((depth <= MAX_DEPTH).then_some(Slices { pieces, depth, freezes: true }));
        }
        let mut pieces = Vec::with_capacity(rows.len());
        for (row_end, row) in rows {
            let row_start = row_end - row.blocks * BLOCK;
            let (start, end) = (row_start.max(from), (*row_end).min(to));
            // What a truncation has left behind the end of the file is none of its bytes.
            let part = row.part(start - row_start, end - row_start);
            let left = end_of_file.saturating_sub(start);
            if left > 0 && part.len > 0 {
                pieces.push(Piece { start: start - from + into, row: part.shortened(left), stored: None });
            }
        }
        Ok(Some(Slices { pieces, depth: source.depth(), freezes: false }))
    }

    /// The inode with a map that nobody else names. Its lock is held exclusively.
    pub(crate) async fn own_map(&self, held: &Arc<Held>, ino: Ino, old: Arc<Inode>) -> Result<Arc<Inode>> {
        if old.kind != FileKind::File || self.tx(held).owns_map(&old) {
            return Ok(old);
        }
        let map = self.new_ino().await?.get();
        // The deeper it is, the more rows are worth repeating: so the depth grows with the logarithm of what is changed
        // between snapshots, and not with their number.
        let few = self.config.few_rows << old.depth();
        let Some(slices) = self.slices_or_few(&old, (0, block_end(old.size)), 0, few).await? else {
            return self.repeat_map(held, ino, old, map).await;
        };
        let mut tx = self.tx(held);
        slices.pieces.iter().for_each(|piece| tx.put_piece(map, piece));
        let new = with_map(&old, map, slices.depth);
        let new = tx.set_inode(ino, &old, new);
        self.commit(tx.done()).await?;
        Ok(new)
    }

    /// Freezes a file's map: the file gets one that refers to it. Its lock is held exclusively, and it owns its map.
    pub(crate) async fn freeze_map(&self, held: &Arc<Held>, ino: Ino, old: Arc<Inode>) -> Result<Arc<Inode>> {
        let map = self.new_ino().await?.get();
        let end = block_end(old.size);
        let slice = Source::Slice { map: old.map, offset: 0 };
        let row = Row { blocks: end / BLOCK, len: old.size, source: slice };
        let mut tx = self.tx(held);
        if end > 0 {
            tx.put_piece(map, &Piece { start: 0, row, stored: None });
        }
        let new = with_map(&old, map, old.depth() + 1);
        let new = tx.set_inode(ino, &old, new);
        self.commit(tx.done()).await?;
        Ok(new)
    }

    /// Makes `map` show what the file's map shows, without slices, in as many commits as that takes, and gives it to the
    /// file. Until the last of them the new map is garbage, so that a crash leaves nothing behind.
    async fn repeat_map(&self, held: &Arc<Held>, ino: Ino, old: Arc<Inode>, map: u64) -> Result<Arc<Inode>> {
        let _building = self.shared.trunk.building.lock().await;
        let mut tx = self.tx(held);
        tx.put_plain(garbage::key(map), garbage::encode());
        self.commit(tx.done()).await?;
        let end = block_end(old.size);
        let mut from = 0;
        while from < end {
            let to = end.min(from + STEP);
            let mut tx = self.tx(held);
            for segment in self.segments(old.map, from, to.min(old.size)).await? {
                let row =
                    Row { blocks: segment.len.div_ceil(BLOCK), len: segment.len, source: segment.source };
                tx.put_piece(map, &Piece { start: segment.start, row, stored: None });
            }
            self.commit(tx.done()).await?;
            from = to;
        }
        let mut tx = self.tx(held);
        tx.delete_plain(garbage::key(map));
        let new = tx.set_inode(ino, &old, with_map(&old, map, 0));
        self.commit(tx.done()).await?;
        Ok(new)
    }
}

/// The inode with a fresh map, which holds nothing behind the end of the file.
fn with_map(old: &Inode, map: u64, depth: u8) -> Inode {
    let mut new = Inode { map, ..old.clone() };
    new.flags &= !(inode::SHARED | inode::TRIM);
    new.set_depth(depth);
    new
}
