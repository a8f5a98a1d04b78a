//! Reading bytes.

use super::Volume;
use super::map::{Segment, block_end, block_start};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::RowError;
use crate::keys::extent;
use crate::keys::inode::Inode;
use crate::keys::map::{BLOCK, ExtentId, Source};
use crate::pack::{ExtentRef, PackError};
use bytes::{Bytes, BytesMut};
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino, Seek};
use std::sync::Arc;

/// Holes are answered with slices of this.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How often a pack may go between a look and its fetch before that counts as damage.
const LOOKS: usize = 3;

impl Volume {
    pub(super) async fn do_read(
        &self,
        cx: &Caller,
        ino: Ino,
        offset: u64,
        size: u32,
    ) -> Result<(Vec<Bytes>, u64)> {
        // What was looked up under the lock may have been freed, and its pack deleted, before it is fetched.
        for _ in 0..LOOKS {
            match self.read_once(cx, ino, offset, size).await {
                Err(StoreError::Damaged { source, .. }) if is_missing(&*source) => {}
                other => return other,
            }
        }
        self.read_once(cx, ino, offset, size).await
    }

    async fn read_once(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        cx.authority.check(Action::Read, None)?;
        let (segments, end, version) = {
            let _held = self.lock(cx, &[], &[ino]).await?;
            self.confine(cx, ino).await?;
            let inode = self.file(ino).await?;
            let end = offset.saturating_add(u64::from(size)).min(inode.size);
            if offset >= end {
                return Ok((Vec::new(), inode.version));
            }
            let segments = self.segments(inode.map, offset, end).await?;
            (self.placed(segments).await?, end, inode.version)
        };
        // The lock is released: packs never change, and a pack that is dropped meanwhile shows as a failed read, which
        // looks the extent up again.
        let mut data = Vec::with_capacity(segments.len());
        let mut at = offset;
        for (segment, place) in segments {
            push_zeros(&mut data, segment.start - at);
            at = segment.start + segment.len;
            data.push(self.fetch(ino, &segment, place).await?);
        }
        push_zeros(&mut data, end - at);
        Ok((data, version))
    }

    pub(super) async fn do_seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        cx.authority.check(Action::Read, None)?;
        let _held = self.lock(cx, &[], &[ino]).await?;
        self.confine(cx, ino).await?;
        let inode = self.file(ino).await?;
        if offset >= inode.size {
            return Err(StoreError::Range);
        }
        match what {
            Seek::Data => {
                let found = self.next_data(inode.map, offset, block_end(inode.size)).await?;
                found.filter(|at| *at < inode.size).ok_or(StoreError::Range)
            }
            Seek::Hole => {
                let found = self.next_hole(inode.map, offset, block_end(inode.size)).await?;
                Ok(found.min(inode.size))
            }
        }
    }

    /// The inode of a regular file; its lock is held.
    pub(crate) async fn file(&self, ino: Ino) -> Result<Arc<Inode>> {
        let inode = self.live_inode(ino).await?;
        match inode.kind {
            FileKind::File => Ok(inode),
            FileKind::Dir => Err(StoreError::IsDir),
            _ => Err(StoreError::Invalid("not a regular file")),
        }
    }

    /// Adds to each segment where its extent is. The file's lock is held, so the extents are in use.
    async fn placed(&self, segments: Vec<Segment>) -> Result<Vec<(Segment, Option<ExtentRef>)>> {
        let mut placed = Vec::with_capacity(segments.len());
        for segment in segments {
            let place = match segment.source {
                Source::Extent { id, .. } => Some(self.place(id).await?),
                _ => None,
            };
            placed.push((segment, place));
        }
        Ok(placed)
    }

    async fn place(&self, id: ExtentId) -> Result<ExtentRef> {
        if let Some(place) = self.shared.trunk.places.get(&id) {
            return Ok(place);
        }
        let place =
            self.stored_place(id).await?.ok_or(RowError::Missing { family: "extent", of: id.domain })?;
        self.shared.trunk.places.set(id, Some(place));
        Ok(place)
    }

    pub(crate) async fn stored_place(&self, id: ExtentId) -> Result<Option<ExtentRef>> {
        match self.rows().meta().get(&extent::key(id)).await? {
            Some(value) => Ok(Some(extent::decode(id, &value)?.place)),
            None => Ok(None),
        }
    }

    async fn fetch(&self, ino: Ino, segment: &Segment, place: Option<ExtentRef>) -> Result<Bytes> {
        let damaged = RowError::Value("map");
        match (&segment.source, place) {
            (Source::Inline(bytes), _) => {
                let end = usize::try_from(segment.len).ok().filter(|end| *end <= bytes.len());
                Ok(bytes.slice(..end.ok_or(damaged)?))
            }
            (Source::Extent { id, skip }, Some(place)) => {
                let end =
                    u32::try_from(segment.len).ok().and_then(|len| skip.checked_add(len)).ok_or(damaged)?;
                let range = *skip..end;
                let read = match self.packs.read(&place, range.clone()).await {
                    Err(PackError::Missing { .. }) => self.fetch_again(*id, place, range).await?,
                    read => read,
                };
                match read {
                    Ok(bytes) => {
                        self.heal(&place).await;
                        Ok(bytes)
                    }
                    Err(error @ (PackError::Corrupt { .. } | PackError::Missing { .. })) => {
                        self.note_damage(*id, &place, &[ino], &error).await;
                        Err(unreadable(error, ino, segment.start))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            _ => Err(damaged.into()),
        }
    }

    /// The extent may have been moved to another pack since it was looked up.
    async fn fetch_again(
        &self,
        id: ExtentId,
        tried: ExtentRef,
        range: std::ops::Range<u32>,
    ) -> Result<Result<Bytes, PackError>> {
        let mut tried = tried;
        for _ in 0..LOOKS {
            self.shared.trunk.places.set(id, None);
            match self.stored_place(id).await? {
                Some(place) if place != tried => tried = place,
                _ => break,
            }
            match self.packs.read(&tried, range.clone()).await {
                Err(PackError::Missing { .. }) => {}
                read => return Ok(read),
            }
        }
        Ok(Err(PackError::Missing { pack: tried.pack }))
    }

    /// The bytes of a whole range under a lock that is held; holes read as zeros.
    pub(crate) async fn read_locked(&self, ino: Ino, map: u64, start: u64, end: u64) -> Result<Bytes> {
        let mut data =
            BytesMut::zeroed(usize::try_from(end.saturating_sub(start)).map_err(|_| StoreError::Range)?);
        for (segment, place) in self.placed(self.segments(map, start, end).await?).await? {
            let bytes = self.fetch(ino, &segment, place).await?;
            let at = (segment.start - start) as usize;
            data[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(data.freeze())
    }

    /// The bytes a block really holds: none for a hole, fewer than a block at the end of what was written.
    pub(crate) async fn block_locked(&self, ino: Ino, map: u64, offset: u64) -> Result<Bytes> {
        let start = block_start(offset);
        match self.segments(map, start, start + BLOCK).await?.last() {
            Some(last) => self.read_locked(ino, map, start, last.start + last.len).await,
            None => Ok(Bytes::new()),
        }
    }

    /// Whether a block holds data.
    pub(crate) async fn block_is_data(&self, map: u64, offset: u64) -> Result<bool> {
        let start = block_start(offset);
        Ok(self.data_blocks(map, start, start + BLOCK).await? > 0)
    }
}

/// Bytes that do not check or are not there are this file's loss alone; anything else is the store's.
fn unreadable(error: PackError, ino: Ino, offset: u64) -> StoreError {
    match error {
        PackError::Corrupt { .. } | PackError::Missing { .. } => {
            StoreError::Damaged { ino, offset, source: Box::new(error) }
        }
        other => other.into(),
    }
}

/// Whether a read failed because a pack is not there, and not because of what is in it.
fn is_missing(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(source.downcast_ref::<PackError>(), Some(PackError::Missing { .. }))
}

fn push_zeros(data: &mut Vec<Bytes>, mut len: u64) {
    while len > 0 {
        let step = len.min(ZEROS.len() as u64);
        data.push(Bytes::from_static(&ZEROS[..step as usize]));
        len -= step;
    }
}
