//! Attributes and lengths: setattr, truncation, allocate.

use super::map::{Piece, block_end, block_start, signed};
use super::{Held, Tx, Volume};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::inode::{self, Inode};
use crate::keys::map::BLOCK;
use bytes::{Bytes, BytesMut};
use mooring_policy::action::Action;
use mooring_protocol::caps::MAX_FILE_SIZE;
use mooring_protocol::types::{Allocate, Attr, Ino, SetAttr, SetTime};
use std::sync::Arc;

/// Map rows dropped by one commit.
const STEP: usize = 4096;
/// Bytes of a file with many rows that are cleared by one commit.
const CLEAR: u64 = 64 << 20;

impl Volume {
    pub(super) async fn do_setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        let held = self.lock(cx, &[ino], &[]).await?;
        self.confine(cx, ino).await?;
        let mut old = self.live_inode(ino).await?;
        if set.size.is_some() {
            self.file(ino).await?;
            old = self.own_map(&held, ino, old).await?;
            if old.has(inode::TRIM) {
                old = self.finish_trim(&held, ino, old).await?;
            }
        }
        let mut tx = self.tx(&held);
        let mut new = Inode::clone(&old);
        if let Some(size) = set.size {
            self.resize(&mut tx, &mut new, size).await?;
        }
        apply(&mut new, set, cx);
        let new = tx.set_inode(ino, &old, new);
        self.commit(tx.done()).await?;
        let new = if new.has(inode::TRIM) { self.finish_trim(&held, ino, new).await? } else { new };
        Ok(new.attr(ino))
    }

    /// Cuts or extends a file. Where too many rows lie behind the cut for one commit, the file is cut at once and
    /// marked; [`Self::finish_trim`] drops the rows, and nothing may be written behind the end before it has.
    async fn resize(&self, tx: &mut Tx<'_>, file: &mut Inode, size: u64) -> Result<()> {
        if size > MAX_FILE_SIZE {
            return Err(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes"));
        }
        if size < file.size && file.blocks > 0 {
            let mut from = size;
            let mut rows = 0;
            loop {
                let page = self.map_page(file.map, from.saturating_add(1), STEP).await?;
                let Some(&(last, _)) = page.last() else { break };
                from = last;
                for (end, row) in page {
                    let start = end - row.blocks * BLOCK;
                    rows += 1;
                    if start < size {
                        tx.drop_row(file.map, end, &row);
                        let kept = row.shortened(size - start);
                        tx.put_row(file.map, start + kept.blocks * BLOCK, &kept);
                        let cut = kept.blocks * BLOCK;
                        if cut < row.blocks * BLOCK {
                            let gone = self.blocks_of(end, &row.part(cut, row.blocks * BLOCK)).await?;
                            file.blocks = file.blocks.saturating_sub(gone);
                        }
                        continue;
                    }
                    file.blocks = file.blocks.saturating_sub(self.blocks_of(end, &row).await?);
                    if rows <= STEP {
                        tx.drop_row(file.map, end, &row);
                    } else {
                        file.flags |= inode::TRIM;
                    }
                }
            }
        }
        file.size = size;
        Ok(())
    }

    /// Drops the rows that a truncation left behind the end of the file.
    pub(crate) async fn finish_trim(
        &self,
        held: &Arc<Held>,
        ino: Ino,
        mut old: Arc<Inode>,
    ) -> Result<Arc<Inode>> {
        old = self.own_map(held, ino, old).await?;
        while old.has(inode::TRIM) {
            let mut tx = self.tx(held);
            let page = self.map_page(old.map, block_end(old.size).saturating_add(1), STEP).await?;
            let mut new = Inode::clone(&old);
            if page.is_empty() {
                new.flags &= !inode::TRIM;
            }
            for (end, row) in page {
                tx.drop_row(old.map, end, &row);
            }
            old = tx.set_inode(ino, &old, new);
            self.commit(tx.done()).await?;
        }
        Ok(old)
    }

    pub(super) async fn do_allocate(
        &self,
        cx: &Caller,
        ino: Ino,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        let end = offset.checked_add(length).filter(|end| *end <= MAX_FILE_SIZE);
        let end = end.ok_or(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes"))?;
        if length == 0 {
            return Err(StoreError::Invalid("a range of no bytes"));
        }
        let held = self.lock(cx, &[ino], &[]).await?;
        self.confine(cx, ino).await?;
        let mut old = self.file(ino).await?;
        old = self.own_map(&held, ino, old).await?;
        if old.has(inode::TRIM) {
            old = self.finish_trim(&held, ino, old).await?;
        }
        let mut offset = offset;
        if !matches!(how, Allocate::Reserve { .. }) {
            (old, offset) = self.clear_ahead(cx, &held, (ino, old), (offset, end)).await?;
        }
        let mut tx = self.tx(&held);
        let mut new = Inode::clone(&old);
        let grow = match how {
            Allocate::Reserve { keep_size } => {
                self.room_for_blocks(signed((block_end(end) - block_start(offset)) / BLOCK))?;
                !keep_size
            }
            Allocate::PunchHole => {
                self.clear(&mut tx, cx, ino, &mut new, (offset, end)).await?;
                false
            }
            Allocate::ZeroRange { keep_size } => {
                self.clear(&mut tx, cx, ino, &mut new, (offset, end)).await?;
                !keep_size
            }
        };
        if grow {
            new.size = new.size.max(end);
        }
        new.modify(cx.now, None);
        let new = tx.set_inode(ino, &old, new);
        self.commit(tx.done()).await?;
        Ok(new.attr(ino))
    }

    /// Clears a range too large for one commit, in steps from the front.
    async fn clear_ahead(
        &self,
        cx: &Caller,
        held: &Arc<Held>,
        (ino, mut old): (Ino, Arc<Inode>),
        (mut offset, end): (u64, u64),
    ) -> Result<(Arc<Inode>, u64)> {
        while old.blocks > STEP as u64 && end.min(old.size).saturating_sub(offset) > CLEAR {
            let step = block_start(offset + CLEAR);
            let mut tx = self.tx(held);
            let mut new = Inode::clone(&old);
            self.clear(&mut tx, cx, ino, &mut new, (offset, step)).await?;
            new.modify(cx.now, None);
            old = tx.set_inode(ino, &old, new);
            self.commit(tx.done()).await?;
            offset = step;
        }
        Ok((old, offset))
    }

    /// Makes `[offset, end)` read as zeros: whole blocks become holes, blocks at the edges keep their other bytes.
    async fn clear(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        ino: Ino,
        file: &mut Inode,
        range: (u64, u64),
    ) -> Result<()> {
        let (offset, end) = (range.0.min(file.size), range.1);
        // Behind the end of the file there is nothing to keep, so its last block goes as a whole.
        let end = if end >= file.size { block_end(file.size) } else { end };
        if offset >= end {
            return Ok(());
        }
        let mut pieces = Vec::new();
        for block in edge_blocks(offset, end) {
            let (from, to) = (offset.max(block), end.min(block + BLOCK));
            if self.block_is_data(file.map, block).await? {
                let bytes = self.block_locked(ino, file.map, block).await?;
                let bytes = zeroed(&bytes, (from - block) as usize, (to - block) as usize);
                pieces.extend(self.block_piece(cx, file, block, bytes).await?);
            }
        }
        let range = (block_start(offset), block_end(end));
        let grown = self.replace_range(tx, file.map, range, &pieces).await?;
        file.blocks = file.blocks.saturating_add_signed(grown);
        Ok(())
    }

    async fn block_piece(&self, cx: &Caller, file: &Inode, block: u64, bytes: Bytes) -> Result<Vec<Piece>> {
        if block == 0 && file.size <= BLOCK {
            return Ok(vec![Piece::inline(0, bytes)]);
        }
        self.store_run(cx, file.map, block, bytes, BLOCK).await
    }
}

/// The blocks that `[offset, end)` covers in part: none, one or two.
fn edge_blocks(offset: u64, end: u64) -> Vec<u64> {
    let mut blocks = Vec::new();
    if !offset.is_multiple_of(BLOCK) {
        blocks.push(block_start(offset));
    }
    if !end.is_multiple_of(BLOCK) && blocks.first() != Some(&block_start(end)) {
        blocks.push(block_start(end));
    }
    blocks
}

fn zeroed(bytes: &Bytes, from: usize, to: usize) -> Bytes {
    let mut zeroed = BytesMut::from(&bytes[..]);
    let len = zeroed.len();
    zeroed[from.min(len)..to.min(len)].fill(0);
    zeroed.freeze()
}

fn apply(file: &mut Inode, set: &SetAttr, cx: &Caller) {
    if let Some(mode) = set.mode {
        file.mode = mode & 0o7777;
    }
    file.uid = set.uid.unwrap_or(file.uid);
    file.gid = set.gid.unwrap_or(file.gid);
    // On a directory the set-group-id bit says what its entries inherit, and stays.
    if set.clear_suid_sgid && !file.is_dir() {
        file.clear_suid();
    }
    if set.size.is_some() {
        file.modify(cx.now, None);
    } else {
        file.touch(cx.now);
    }
    let time = |time: SetTime| match time {
        SetTime::Now => cx.now,
        SetTime::At(time) => time,
    };
    file.atime = set.atime.map_or(file.atime, time);
    file.mtime = set.mtime.map_or(file.mtime, time);
}
