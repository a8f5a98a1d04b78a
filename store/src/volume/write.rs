//! Writing bytes.
//!
//! Bytes go into packs as extents before anything names them. Whole blocks of a large write are stored before the
//! inode is locked; the blocks at its edges, which may hold bytes that stay, are read and stored under the lock.
//! A file of one block is kept in its map row and touches no pack: a create and its first write are rows only. One
//! block is the bound because a row is rewritten by compaction a few times in its life, which for larger files
//! costs more than a pack's one extra row saves.

use super::change::{Change, Stored};
use super::map::{Piece, block_end, block_start};
use super::{Held, Volume};
use crate::api::{Caller, Result, WriteAt};
use crate::error::StoreError;
use crate::keys::HeadId;
use crate::keys::RowError;
use crate::keys::inode::{self, Inode};
use crate::keys::map::{BLOCK, ExtentId};
use crate::pack::{Domain, ExtentIn};
use crate::seal::Hash;
use bytes::{Bytes, BytesMut};
use mooring_policy::action::Action;
use mooring_protocol::caps::MAX_FILE_SIZE;
use mooring_protocol::types::{Attr, Ino, Time};
use std::collections::HashMap;
use std::sync::Arc;

/// Smaller writes are stored under the lock in one go.
const STORE_BEFORE_LOCK: usize = 128 << 10;

/// A write's times and the caller's wish about privileges.
#[derive(Clone, Copy, Default)]
pub(crate) struct WriteAs {
    pub(crate) stamp: Option<Time>,
    pub(crate) clear_suid_sgid: bool,
}

impl Volume {
    pub(super) async fn do_write(
        &self,
        cx: &Caller,
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        how: WriteAs,
    ) -> Result<(u64, Attr)> {
        cx.authority.check(Action::Write, None)?;
        let early = match at {
            WriteAt::Offset(offset) => {
                check_end(offset, data.len() as u64)?;
                self.store_early(cx, ino, offset, &data).await?
            }
            WriteAt::End => Vec::new(),
        };
        let held = self.lock(cx, &[ino], &[]).await?;
        self.confine(cx, ino).await?;
        let old = self.file(ino).await?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => old.size,
        };
        if data.is_empty() {
            return Ok((offset, old.attr(ino)));
        }
        check_end(offset, data.len() as u64)?;
        let new = self.write_locked(cx, &held, (ino, old), offset, data, early, how).await?;
        Ok((offset, new.attr(ino)))
    }

    /// Stores the whole blocks of a large write. Nothing names them yet.
    async fn store_early(&self, cx: &Caller, ino: Ino, offset: u64, data: &Bytes) -> Result<Vec<Piece>> {
        if data.len() < STORE_BEFORE_LOCK {
            return Ok(Vec::new());
        }
        // Before anything is stored for it, the file must be there and the caller's.
        let held = self.lock(cx, &[], &[ino]).await?;
        self.confine(cx, ino).await?;
        let file = self.file(ino).await?;
        drop(held);
        let (start, end) = (block_end(offset), block_start(offset + data.len() as u64));
        let middle = data.slice((start - offset) as usize..(end - offset) as usize);
        let chunk = self.extent_size(offset == file.size, data.len());
        self.store_run(cx, file.map, start, middle, chunk).await
    }

    fn extent_size(&self, continues: bool, len: usize) -> u64 {
        let streams = continues && len as u64 >= self.config.stream_bytes;
        if streams { self.config.stream_bytes } else { self.config.extent_bytes }
    }

    #[expect(clippy::too_many_arguments, reason = "one write, said completely")]
    pub(crate) async fn write_locked(
        &self,
        cx: &Caller,
        held: &Arc<Held>,
        (ino, mut old): (Ino, Arc<Inode>),
        offset: u64,
        data: Bytes,
        early: Vec<Piece>,
        how: WriteAs,
    ) -> Result<Arc<Inode>> {
        let end = offset + data.len() as u64;
        old = self.own_map(held, ino, old).await?;
        if end > old.size && old.has(inode::TRIM) {
            old = self.finish_trim(held, ino, old).await?;
        }
        let size = old.size.max(end);
        let pieces = self.pieces(cx, (ino, &old), offset, data, early, size).await?;
        let mut tx = self.tx(held);
        let range = (block_start(offset), block_end(end));
        if old.blocks == 0 && !old.has(inode::TRIM) {
            // There are no rows, which the engine need not be asked.
            self.shared.caches.maps.know_empty(old.map, range);
        }
        let grown = self.replace_range(&mut tx, old.map, range, &pieces).await?;
        self.room_for_blocks(grown)?;
        let mut new = Inode::clone(&old);
        new.size = size;
        new.blocks = new.blocks.saturating_add_signed(grown);
        if how.clear_suid_sgid {
            new.clear_suid();
        }
        new.modify(cx.now, how.stamp);
        let new = tx.set_inode(ino, &old, new);
        self.commit(tx.done()).await?;
        Ok(new)
    }

    /// The rows that show `data` at `offset`, with what stays of the blocks at the edges.
    async fn pieces(
        &self,
        cx: &Caller,
        (ino, old): (Ino, &Inode),
        offset: u64,
        data: Bytes,
        mut early: Vec<Piece>,
        size: u64,
    ) -> Result<Vec<Piece>> {
        let end = offset + data.len() as u64;
        if size <= BLOCK {
            return Ok(vec![Piece::inline(0, self.merged(ino, old, offset, data).await?)]);
        }
        let chunk = self.extent_size(offset == old.size, data.len());
        let edges = match (early.first(), early.last()) {
            (Some(first), Some(last)) => [(offset, first.start), (last.end(), end)],
            _ => [(offset, end), (end, end)],
        };
        for (from, to) in edges {
            if from < to {
                let run = data.slice((from - offset) as usize..(to - offset) as usize);
                let run = self.merged(ino, old, from, run).await?;
                early.extend(self.store_run(cx, old.map, block_start(from), run, chunk).await?);
            }
        }
        Ok(early)
    }

    /// `data` completed to whole blocks with what the file holds around it. The last block may stay short: what is
    /// missing reads as zeros.
    async fn merged(&self, ino: Ino, old: &Inode, offset: u64, data: Bytes) -> Result<Bytes> {
        let end = offset + data.len() as u64;
        let (first, last) = (block_start(offset), block_start(end));
        let head = match offset > first {
            true => self.block_locked(ino, old.map, first).await?,
            false => Bytes::new(),
        };
        let tail = match end > last && end < old.size {
            true => self.block_locked(ino, old.map, last).await?,
            false => Bytes::new(),
        };
        let tail = tail.slice(tail.len().min((end - last) as usize)..);
        if offset == first && tail.is_empty() {
            return Ok(data);
        }
        let gap = (offset - first) as usize;
        let mut run = BytesMut::with_capacity(gap + data.len() + tail.len());
        run.extend_from_slice(&head[..head.len().min(gap)]);
        run.resize(gap, 0);
        run.extend_from_slice(&data);
        run.extend_from_slice(&tail);
        Ok(run.freeze())
    }

    /// Stores a run of bytes of map `map` that begins with a block, cut where multiples of `chunk` lie. Bytes that are
    /// stored in the caller's domain already are not stored again.
    pub(crate) async fn store_run(
        &self,
        cx: &Caller,
        map: u64,
        start: u64,
        data: Bytes,
        chunk: u64,
    ) -> Result<Vec<Piece>> {
        let parts = cut(start, data, chunk);
        let (starts, parts): (Vec<u64>, Vec<Bytes>) = parts.into_iter().unzip();
        let hashes = self.packs.hash_all(&parts).await?;
        let domain = self.domain(cx);
        let mut known: HashMap<Hash, Stored> = HashMap::new();
        let mut missing = Vec::new();
        for ((data, &hash), &at) in parts.iter().zip(&hashes).zip(&starts) {
            let id = ExtentId { domain, hash };
            if known.contains_key(&hash) {
                continue;
            }
            known.insert(hash, Stored::Before(data.clone()));
            if self.shared.trunk.places.get(&id).is_none() && self.stored_place(id).await?.is_none() {
                missing.push(ExtentIn { domain: Domain(domain), owner: (map, at), data: data.clone(), hash });
            }
        }
        if !missing.is_empty() {
            for place in self.packs.append_pinned(missing).await? {
                known.insert(place.extent.hash, Stored::At(place));
            }
        }
        let pieces = starts.into_iter().zip(parts).zip(hashes);
        Ok(pieces
            .filter_map(|((at, data), hash)| {
                let stored = known.get(&hash)?.clone();
                Some(Piece::extent(at, &data, ExtentId { domain, hash }, stored))
            })
            .collect())
    }

    /// Whose bytes a caller's may be shared with. A grantee's are shared within its share only: from the time a write
    /// takes it must not learn what the owner has elsewhere. The same directory in a clone is another share.
    pub(crate) fn domain(&self, cx: &Caller) -> u64 {
        match (cx.confined, self.shared.head) {
            (false, _) => 0,
            (true, HeadId::FIRST) => cx.root.get(),
            (true, head) => {
                let both = [head.0.to_be_bytes(), cx.root.get().to_be_bytes()].concat();
                let mut number = [0; 8];
                number[2..].copy_from_slice(&blake3::hash(&both).as_bytes()[..6]);
                u64::from_be_bytes(number).max(1)
            }
        }
    }

    /// Bytes that were found stored are gone again: stores them for the change that counted on them.
    pub(crate) async fn store_again(&self, change: &mut Change, id: ExtentId) -> Result<()> {
        let missing = RowError::Missing { family: "extent", of: id.domain };
        let wanted = change.refs.get_mut(&id).ok_or(missing.clone())?;
        let bytes = wanted.bytes.take().ok_or(missing)?;
        let extent = ExtentIn { domain: Domain(id.domain), owner: (0, 0), data: bytes, hash: id.hash };
        wanted.place = self.packs.append_pinned(vec![extent]).await?.pop();
        Ok(())
    }
}

/// Cuts a run at the multiples of `chunk`; each part with where it begins.
fn cut(start: u64, mut data: Bytes, chunk: u64) -> Vec<(u64, Bytes)> {
    let mut parts = Vec::new();
    let mut at = start;
    while !data.is_empty() {
        let len = usize::try_from(chunk - at % chunk).map_or(data.len(), |len| len.min(data.len()));
        parts.push((at, data.split_to(len)));
        at += len as u64;
    }
    parts
}

fn check_end(offset: u64, len: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= MAX_FILE_SIZE => Ok(()),
        _ => Err(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes")),
    }
}
