//! Reading extents.
//!
//! An extent under one seal is read whole and kept decoded. Of one in segments, as much is read as is asked for, until
//! reads follow one another: then the whole is, which the next read finds in memory.

use super::cache::Slot;
use super::error::PackError;
use super::extent::{ExtentRef, FLAG_SEGMENTS, PackId};
use super::fetch::{Handle, check_lengths, corrupt, layout_by};
use super::medium::PackFile;
use super::segments::{self, Layout};
use super::store::PackStore;
use crate::failpoints::{Point, pass};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;

/// Up to this many stored bytes are read and opened on the caller's thread when the kernel has them in memory: some
/// microseconds, less than handing them to another thread costs.
const INLINE_BYTES: usize = 32 << 10;

/// Who begins an extent with a read of this many bytes reads on, as a rule.
const STREAM_BYTES: u32 = 64 << 10;

impl PackStore {
    /// The bytes `range` of an extent. They are authentic, or there is an error.
    ///
    /// What is decoded is kept in a bounded cache; readers of one place share the work.
    ///
    /// # Errors
    /// [`PackError::Corrupt`] names pack and offset when the bytes on disk were changed. Of an extent in segments, only
    /// reads of the changed ones fail. A copy of what an object store has is given up instead, and the store is asked.
    pub async fn read(self: &Arc<Self>, extent: &ExtentRef, range: Range<u32>) -> Result<Bytes, PackError> {
        match self.read_once(extent, range.clone()).await {
            Err(PackError::Corrupt { .. } | PackError::Io { .. }) if self.is_elsewhere(extent.pack) => {
                self.read_once(extent, range).await
            }
            done => done,
        }
    }

    /// Whether the store has what does not read here. The copy here goes.
    fn is_elsewhere(&self, pack: PackId) -> bool {
        let Some(spool) = &self.spool else { return false };
        if spool.copies.discard(pack) {
            tracing::warn!(%pack, "a copy of a pack does not read; the store is asked instead");
        }
        self.handle(pack).is_ok_and(|handle| matches!(handle.file, PackFile::Remote(_)))
    }

    async fn read_once(self: &Arc<Self>, extent: &ExtentRef, range: Range<u32>) -> Result<Bytes, PackError> {
        if range.start > range.end || range.end > extent.raw_len {
            return Err(corrupt(extent, "the row asks for bytes beyond the extent's end"));
        }
        check_lengths(extent)?;
        if extent.flags & FLAG_SEGMENTS == 0 || range.is_empty() {
            return self.whole_cached(extent, range).await;
        }
        let which = range.start / segments::SEGMENT_BYTES..range.end.div_ceil(segments::SEGMENT_BYTES);
        if self.reads_on(extent, &range, which.start).await {
            match self.whole_cached(extent, range.clone()).await {
                Err(PackError::Corrupt { .. }) => {}
                done => return done,
            }
        }
        self.part(extent, range, which).await
    }

    /// Reads an extent from its file, past the cache, and holds its bytes against its hash.
    pub async fn verify(&self, extent: &ExtentRef) -> Result<(), PackError> {
        check_lengths(extent)?;
        let (extent, hash_key) = (*extent, self.hash_key.clone());
        let verify = move |handle: &Handle| {
            if hash_key.hash(&handle.whole(&extent)?) == extent.hash {
                Ok(())
            } else {
                Err(corrupt(&extent, "the bytes have another hash"))
            }
        };
        self.blocking(self.handle(extent.pack)?, verify).await
    }

    async fn whole_cached(
        self: &Arc<Self>,
        extent: &ExtentRef,
        range: Range<u32>,
    ) -> Result<Bytes, PackError> {
        let load = async {
            let handle = self.ready(extent)?;
            if let Some(layout) = Layout::plain(extent)
                && extent.stored_len as usize <= INLINE_BYTES
                && let Some(bytes) = handle.segments_in_memory(extent, &layout, 0..layout.count())?
            {
                return Ok(bytes);
            }
            let extent = *extent;
            self.blocking(handle, move |handle| handle.whole(&extent)).await
        };
        let whole = self.options.cache.get(Slot::whole(extent), load).await?;
        // A cached extent answers only for the row it was read for.
        if whole.len() != extent.raw_len as usize {
            return Err(corrupt(extent, "the row has another length"));
        }
        Ok(whole.slice(range.start as usize..range.end as usize))
    }

    /// Whether the whole extent is worth having for a read of `range`, which begins in the segment `first`.
    async fn reads_on(&self, extent: &ExtentRef, range: &Range<u32>, first: u32) -> bool {
        let len = range.end - range.start;
        let cache = &self.options.cache;
        len > extent.raw_len / 2
            || len >= STREAM_BYTES && (range.start == 0 || self.is_far(extent))
            || cache.has(Slot::whole(extent))
            || first > 0
                && !cache.has(Slot::segment(extent, first))
                && cache.has(Slot::segment(extent, first - 1))
    }

    /// Whether a request costs more than the bytes of an extent: then those who read parts of it side by side, as
    /// read-ahead does, share one.
    fn is_far(&self, extent: &ExtentRef) -> bool {
        self.spool.is_some()
            && self.handle(extent.pack).is_ok_and(|handle| matches!(handle.file, PackFile::Remote(_)))
    }

    /// A range out of the segments `which`.
    async fn part(
        self: &Arc<Self>,
        extent: &ExtentRef,
        range: Range<u32>,
        which: Range<u32>,
    ) -> Result<Bytes, PackError> {
        let layout = self.layout(extent).await?;
        let begin = layout.raw(which.clone()).start;
        let within = (range.start - begin) as usize..(range.end - begin) as usize;
        if which.len() == 1 {
            let load = self.load(extent, &layout, which.clone());
            let bytes = self.options.cache.get(Slot::segment(extent, which.start), load).await?;
            if bytes.len() != layout.raw_len(which.start) as usize {
                return Err(corrupt(extent, "the row has another length"));
            }
            return Ok(bytes.slice(within));
        }
        if let Some(bytes) = self.cached(extent, &layout, which.clone()).await {
            return Ok(bytes.slice(within));
        }
        let bytes = self.load(extent, &layout, which.clone()).await?;
        for segment in which {
            let at = layout.raw(segment..segment + 1);
            // A copy: a slice would keep all that was read as long as itself.
            let piece =
                Bytes::copy_from_slice(&bytes[(at.start - begin) as usize..(at.end - begin) as usize]);
            self.options.cache.put(Slot::segment(extent, segment), piece).await;
        }
        Ok(bytes.slice(within))
    }

    /// Segments that are all in the cache.
    async fn cached(&self, extent: &ExtentRef, layout: &Layout, which: Range<u32>) -> Option<Bytes> {
        let mut bytes = BytesMut::with_capacity(layout.raw(which.clone()).len());
        for segment in which {
            let piece = self.options.cache.peek(Slot::segment(extent, segment)).await?;
            if piece.len() != layout.raw_len(segment) as usize {
                return None;
            }
            bytes.extend_from_slice(&piece);
        }
        Some(bytes.freeze())
    }

    async fn load(
        self: &Arc<Self>,
        extent: &ExtentRef,
        layout: &Layout,
        which: Range<u32>,
    ) -> Result<Bytes, PackError> {
        let handle = self.ready(extent)?;
        if layout.sealed(which.clone()).len() <= INLINE_BYTES
            && let Some(bytes) = handle.segments_in_memory(extent, layout, which.clone())?
        {
            return Ok(bytes);
        }
        let (extent, layout) = (*extent, layout.clone());
        self.blocking(handle, move |handle| handle.segments(&extent, &layout, which)).await
    }

    async fn layout(self: &Arc<Self>, extent: &ExtentRef) -> Result<Layout, PackError> {
        if let Some(layout) = Layout::plain(extent) {
            return Ok(layout);
        }
        let load = async {
            let handle = self.ready(extent)?;
            if let Some(index) = handle.index_in_memory(extent)? {
                return Ok(index);
            }
            let extent = *extent;
            self.blocking(handle, move |handle| handle.index(&extent)).await
        };
        let index = self.options.cache.get(Slot::index(extent), load).await?;
        layout_by(extent, &index)
    }

    fn ready(self: &Arc<Self>, extent: &ExtentRef) -> Result<Arc<Handle>, PackError> {
        let handle = self.handle(extent.pack)?;
        pass(Point::PackBeforeRead).map_err(|error| PackError::io("read", &handle.path, error))?;
        self.consider(extent.pack, &handle);
        Ok(handle)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        handle: Arc<Handle>,
        work: impl FnOnce(&Handle) -> Result<T, PackError> + Send + 'static,
    ) -> Result<T, PackError> {
        let turn = handle.file.turn().await;
        let inner = Arc::clone(&handle);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        drop(turn);
        joined.map_err(|error| PackError::io("read", &self.options.dir, std::io::Error::other(error)))?
    }
}
