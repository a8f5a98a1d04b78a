//! Copying a range without moving its bytes.

use super::map::{Piece, block_end, block_start};
use super::write::{WriteAs, domain};
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
        let held = self.lock(cx, &[to], &[from]).await?;
        self.confine(cx, from).await?;
        self.confine(cx, to).await?;
        let source = self.file(from).await?;
        let length = length.min(source.size.saturating_sub(from_offset));
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
            let (step, by_reference) = match (fits, edge) {
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
        let domain = domain(cx);
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
        let grown = self.replace_range(&mut tx, target.map, (into, into + len), &pieces).await?;
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
