//! Bytes of files.

use super::{BLOCK, Node, State};
use crate::api::{Caller, Result, WriteAt};
use crate::error::StoreError;
use mooring_protocol::caps::MAX_FILE_SIZE;
use mooring_protocol::types::{Allocate, Attr, Ino, Seek, Time};

impl Node {
    pub(super) fn put(&mut self, offset: u64, data: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + data.len());
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[start..end].copy_from_slice(data);
        self.blocks.extend(offset / BLOCK..(end as u64).div_ceil(BLOCK));
        self.measure();
    }

    pub(super) fn resize(&mut self, size: u64) {
        self.data.resize(size as usize, 0);
        self.measure();
    }

    pub(super) fn clear_suid(&mut self) {
        self.attr.mode &= !0o4000;
        if self.attr.mode & 0o010 != 0 {
            self.attr.mode &= !0o2000;
        }
    }

    fn clear(&mut self, offset: u64, end: u64) {
        let size = self.data.len() as u64;
        // The last block of the file goes whole: nothing behind the end is kept.
        let whole_end = if end >= size { size.div_ceil(BLOCK) } else { end / BLOCK };
        self.blocks.retain(|block| *block < offset.div_ceil(BLOCK) || *block >= whole_end);
        let range = offset.min(size) as usize..end.min(size) as usize;
        self.data[range].fill(0);
        self.measure();
    }

    /// Copies as a volume does: whole blocks keep their holes where the offsets fit, the rest is written. With `tail` a
    /// last block that is cut short by the source's end counts as whole where nothing lies behind it.
    pub(super) fn copy(&mut self, source: &Node, from: u64, to: u64, len: u64, tail: bool) {
        let fits = from % BLOCK == to % BLOCK;
        let tail = tail && from + len == source.attr.size && to + len >= self.attr.size;
        let data = source.data[from as usize..(from + len) as usize].to_vec();
        let holes: Vec<u64> = (0..len.div_ceil(BLOCK) + 1)
            .map(|n| from.div_ceil(BLOCK) + n)
            .filter(|block| {
                fits && ((block + 1) * BLOCK <= from + len || (tail && block * BLOCK < from + len))
            })
            .filter(|block| !source.blocks.contains(block))
            .collect();
        self.put(to, &data);
        for block in holes {
            self.blocks.remove(&((block * BLOCK - from + to) / BLOCK));
        }
        self.measure();
    }
}

fn check_end(offset: u64, len: u64) -> Result<u64> {
    let end = offset.checked_add(len).filter(|end| *end <= MAX_FILE_SIZE);
    end.ok_or(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes"))
}

impl State {
    pub(super) fn write(
        &mut self,
        cx: &Caller,
        ino: Ino,
        at: WriteAt,
        data: &[u8],
        stamp: Option<Time>,
        clear_suid_sgid: bool,
    ) -> Result<(u64, Attr)> {
        if let WriteAt::Offset(offset) = at {
            check_end(offset, data.len() as u64)?;
        }
        let node = self.file(cx, ino)?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => node.attr.size,
        };
        if !data.is_empty() {
            let before = node.attr.ctime;
            node.put(offset, data);
            node.modify(cx.now);
            if let Some(stamp) = stamp {
                node.attr.mtime = stamp.max(before).min(node.attr.ctime);
            }
            if clear_suid_sgid {
                node.clear_suid();
            }
        }
        Ok((offset, node.shown()))
    }

    pub(super) fn allocate(
        &mut self,
        cx: &Caller,
        ino: Ino,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Result<Attr> {
        let end = check_end(offset, length)?;
        if length == 0 {
            return Err(StoreError::Invalid("a range of no bytes"));
        }
        let node = self.file(cx, ino)?;
        let keep = match how {
            Allocate::Reserve { keep_size } => keep_size,
            Allocate::PunchHole => {
                node.clear(offset, end);
                true
            }
            Allocate::ZeroRange { keep_size } => {
                node.clear(offset, end);
                keep_size
            }
        };
        if !keep && end > node.attr.size {
            node.resize(end);
        }
        node.modify(cx.now);
        Ok(node.shown())
    }

    pub(super) fn seek(&mut self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        let node = self.file(cx, ino)?;
        let size = node.attr.size;
        if offset >= size {
            return Err(StoreError::Range);
        }
        let wanted = what == Seek::Data;
        let blocks = offset / BLOCK..size.div_ceil(BLOCK);
        let found = blocks.into_iter().find(|block| node.blocks.contains(block) == wanted);
        match (found, what) {
            (Some(block), _) => Ok(offset.max(block * BLOCK)),
            (None, Seek::Hole) => Ok(size),
            (None, Seek::Data) => Err(StoreError::Range),
        }
    }

    pub(super) fn copy_range(
        &mut self,
        cx: &Caller,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        for ino in [from, to] {
            if cx.confined && !self.within(cx.root, ino) {
                return Err(StoreError::Stale(ino));
            }
        }
        let source = self.file(cx, from)?.clone();
        let length = length.min(source.attr.size.saturating_sub(from_offset));
        let target = self.file(cx, to)?;
        if length == 0 {
            return Ok((0, target.shown()));
        }
        if from == to && from_offset < to_offset.saturating_add(length) && to_offset < from_offset + length {
            return Err(StoreError::Invalid("the ranges of a copy within one file overlap"));
        }
        check_end(to_offset, length)?;
        target.copy(&source, from_offset, to_offset, length, !cx.confined && from != to);
        target.modify(cx.now);
        Ok((length, target.shown()))
    }
}
