//! Copying a range without moving its bytes.
//!
//! A file or a large part of one is shared in one step, whatever its size ([`super::freeze`]). A confined caller gets
//! its own references row by row, because what it stores may be shared within its share only.

use super::map::{Piece, block_end, block_start, signed};
use super::write::WriteAs;
use super::{Held, Volume};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::inode::{self, Inode};
use crate::keys::map::{BLOCK, Source};
use mooring_policy::action::Action;
use mooring_protocol::caps::MAX_FILE_SIZE;
use mooring_protocol::types::{Attr, Ino};
use std::sync::Arc;

/// Bytes copied by one commit: bounds the rows of a batch, and what is copied through memory where offsets do not
/// fit blocks.
const STEP: u64 = 64 << 20;
const STEP_BYTES: u64 = 1 << 20;
/// Rows that a shared range may replace in one step.
const REPLACED: usize = 4096;

/// Which range of one file another shows.
struct Sharing {
    from: u64,
    into: u64,
    len: u64,
}

impl Volume {
    pub(super) async fn do_copy_range(
        &self,
        cx: &Caller,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        cx.authority.check(Action::Read, None)?;
        cx.authority.check(Action::Write, None)?;
        if from != to {
            self.prepare_source(cx, from, (from_offset, length)).await?;
        }
        let held = self.lock(cx, &[to], &[from]).await?;
        self.confine(cx, from).await?;
        self.confine(cx, to).await?;
        let source = self.file(from).await?;
        let length = length.min(source.size.saturating_sub(from_offset));
        // What goes through memory is cut short rather than keep others waiting: who copies goes on behind it.
        let fits = from_offset % BLOCK == to_offset % BLOCK;
        let length = if fits { length } else { length.min(STEP) };
        let target = self.file(to).await?;
        if length == 0 {
            return Ok((0, target.attr(to)));
        }
        if from == to && from_offset < to_offset.saturating_add(length) && to_offset < from_offset + length {
            return Err(StoreError::Invalid("the ranges of a copy within one file overlap"));
        }
        if to_offset.checked_add(length).is_none_or(|end| end > MAX_FILE_SIZE) {
            return Err(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes"));
        }
        let target =
            self.copy_locked(cx, &held, (from, source), from_offset, (to, target), to_offset, length).await?;
        Ok((length, target.attr(to)))
    }

    /// Copies under locks that are held.
    #[expect(clippy::too_many_arguments, reason = "one copy, said completely")]
    pub(crate) async fn copy_locked(
        &self,
        cx: &Caller,
        held: &Arc<Held>,
        (from, source): (Ino, Arc<Inode>),
        from_offset: u64,
        (to, mut target): (Ino, Arc<Inode>),
        to_offset: u64,
        length: u64,
    ) -> Result<Arc<Inode>> {
        target = self.own_map(held, to, target).await?;
        if target.has(inode::TRIM) {
            target = self.finish_trim(held, to, target).await?;
        }
        let fits = from_offset % BLOCK == to_offset % BLOCK;
        let mut done = 0;
        while done < length {
            let (at, into) = (from_offset + done, to_offset + done);
            let left = length - done;
            // Blocks at the edges go through memory, whole blocks between them by reference.
            let edge = (block_end(at) - at).min(left);
            let may_share = fits && edge == 0 && !cx.confined && from != to;
            // The last block of the source may be cut short where nothing of the target lies behind it.
            let whole = may_share && at + left == source.size && into + left >= target.size;
            if may_share {
                let shared = if whole { left } else { block_start(left) };
                if shared > 0 {
                    let sharing = Sharing { from: at, into, len: shared };
                    if let Some(shown) = self.share(cx, held, &source, (to, &target), &sharing).await? {
                        target = shown;
                        done += shared;
                        continue;
                    }
                }
            }
            let (step, by_reference) = match (fits, edge) {
                (true, 0) if whole && left <= STEP => (left, true),
                (true, 0) if left >= BLOCK => (block_start(left.min(STEP)), true),
                (true, 0) => (left, false),
                (true, edge) => (edge, false),
                (false, _) => (left.min(STEP_BYTES), false),
            };
            target = if by_reference {
                self.copy_rows(cx, held, &source, at, (to, target), into, step).await?
            } else {
                let bytes = self.read_locked(from, source.map, at, at + step).await?;
                self.write_locked(cx, held, (to, target), into, bytes, Vec::new(), WriteAs::default()).await?
            };
            done += step;
        }
        Ok(target)
    }

    /// Freezes the source's map where a copy of this range would refer to it. No lock is held.
    pub(crate) async fn prepare_source(
        &self,
        cx: &Caller,
        from: Ino,
        (offset, length): (u64, u64),
    ) -> Result<()> {
        if cx.confined {
            return Ok(());
        }
        for exclusive in [false, true] {
            let (write, read): (&[Ino], &[Ino]) = if exclusive { (&[from], &[]) } else { (&[], &[from]) };
            let held = self.lock(cx, write, read).await?;
            let source = self.file(from).await?;
            let end = offset.saturating_add(length).min(source.size);
            let range = (block_end(offset), block_end(end));
            if range.0 >= range.1 || source.depth() >= inode::MAX_DEPTH || !self.tx(&held).owns_map(&source) {
                return Ok(());
            }
            if !self.slices(&source, range, 0).await?.is_some_and(|slices| slices.freezes) {
                return Ok(());
            }
            if exclusive {
                let source = match source.has(inode::TRIM) {
                    true => self.finish_trim(&held, from, source).await?,
                    false => source,
                };
                self.freeze_map(&held, from, source).await?;
            }
        }
        Ok(())
    }

    /// Shows a range of another file, as it is. `None`: that takes more than one step.
    async fn share(
        &self,
        cx: &Caller,
        held: &Arc<Held>,
        source: &Inode,
        (to, target): (Ino, &Arc<Inode>),
        sharing: &Sharing,
    ) -> Result<Option<Arc<Inode>>> {
        let Sharing { from, into, len } = *sharing;
        let end = block_end(from + len);
        let Some(mut slices) = self.slices(source, (from, end), into).await? else { return Ok(None) };
        let inline = |piece: &Piece| matches!(piece.row.source, Source::Inline(_));
        let small = into == 0 && target.size.max(len) <= BLOCK;
        if (slices.freezes && self.tx(held).owns_map(source)) || (!small && slices.pieces.iter().any(inline))
        {
            return Ok(None);
        }
        let mut tx = self.tx(held);
        let mut new = Inode::clone(target);
        let covered = (into, into + (end - from));
        let blocks = match from == 0 && len == source.size {
            true => source.blocks,
            false if source.blocks == source.size.div_ceil(BLOCK) => (end - from) / BLOCK,
            false => self.data_blocks(source.map, from, end).await?,
        };
        let mut grown = signed(blocks);
        if into == 0 && len >= target.size && target.blocks > 0 {
            // All of it goes: the old map goes as a whole.
            new.map = self.new_ino().await?.get();
            new.set_depth(0);
            grown -= signed(target.blocks);
        } else if target.blocks > 0 {
            let page = self.map_page(target.map, into.saturating_add(1), REPLACED + 1).await?;
            if page.get(REPLACED).is_some_and(|(end, row)| end - row.blocks * BLOCK < covered.1) {
                return Ok(None);
            }
            grown += self.replace_range(&mut tx, target.map, covered, &[]).await?;
            self.coalesce(&mut tx, target.map, &mut slices.pieces).await?;
        }
        self.room_for_blocks(grown)?;
        slices.pieces.iter().for_each(|piece| tx.put_piece(new.map, piece));
        new.size = new.size.max(into + len);
        new.blocks = new.blocks.saturating_add_signed(grown);
        new.set_depth(new.depth().max(slices.depth));
        new.modify(cx.now, None);
        let new = tx.set_inode(to, target, new);
        self.commit(tx.done()).await?;
        Ok(Some(new))
    }

    /// Lets the first piece go on where a slice of the same map ends.
    async fn coalesce(&self, tx: &mut super::Tx<'_>, map: u64, pieces: &mut [Piece]) -> Result<()> {
        let Some(Piece { start, row, .. }) = pieces.first_mut() else { return Ok(()) };
        let (Source::Slice { map: below, offset }, true) = (&mut row.source, *start > 0) else {
            return Ok(());
        };
        for (row_end, before) in self.rows_between(map, *start - BLOCK, *start).await? {
            let covered = before.blocks * BLOCK;
            let follows = Source::Slice { map: *below, offset: offset.saturating_sub(covered) };
            if row_end == *start && before.len == covered && *offset >= covered && before.source == follows {
                tx.drop_row(map, row_end, &before);
                (*start, *offset) = (*start - covered, *offset - covered);
                (row.blocks, row.len) = (row.blocks + before.blocks, row.len + before.len);
                break;
            }
        }
        Ok(())
    }

    /// Refers to the extents of whole blocks from another place; holes stay holes.
    #[expect(clippy::too_many_arguments, reason = "one copy, said completely")]
    async fn copy_rows(
        &self,
        cx: &Caller,
        held: &Arc<Held>,
        source: &Inode,
        from: u64,
        (to, target): (Ino, Arc<Inode>),
        into: u64,
        len: u64,
    ) -> Result<Arc<Inode>> {
        let domain = self.domain(cx);
        let mut pieces = Vec::new();
        for segment in self.segments(source.map, from, from + len).await? {
            let start = segment.start - from + into;
            match segment.source {
                Source::Extent { id, .. } if id.domain == domain => {
                    let row = crate::keys::map::Row {
                        blocks: segment.len.div_ceil(BLOCK),
                        len: segment.len,
                        source: segment.source,
                    };
                    pieces.push(Piece { start, row, stored: None });
                }
                _ => {
                    // Bytes of a row, or of another domain: stored anew in the caller's.
                    let end = segment.start + segment.len;
                    let bytes = self.read_locked(to, source.map, segment.start, end).await?;
                    pieces.extend(
                        self.store_run(cx, target.map, start, bytes, self.config.extent_bytes).await?,
                    );
                }
            }
        }
        let mut tx = self.tx(held);
        let grown = self.replace_range(&mut tx, target.map, (into, block_end(into + len)), &pieces).await?;
        self.room_for_blocks(grown)?;
        let mut new = Inode::clone(&target);
        new.size = new.size.max(into + len);
        new.blocks = new.blocks.saturating_add_signed(grown);
        new.modify(cx.now, None);
        let new = tx.set_inode(to, &target, new);
        self.commit(tx.done()).await?;
        Ok(new)
    }
}
