//! Decoded extents, and segments of them, in memory, for all volumes of a process: a pack's id is like no other.

use super::error::PackError;
use super::extent::{ExtentRef, PackId};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

/// About what the cache adds to an extent, bytes.
const OVERHEAD: usize = 64;

/// What is kept: something of the extent at an offset of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pack: PackId,
    offset: u32,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    Index,
    Segment(u32),
}

impl Slot {
    pub fn whole(extent: &ExtentRef) -> Self {
        Self { pack: extent.pack, offset: extent.offset, part: Part::Whole }
    }

    pub fn index(extent: &ExtentRef) -> Self {
        Self { part: Part::Index, ..Self::whole(extent) }
    }

    pub fn segment(extent: &ExtentRef, segment: u32) -> Self {
        Self { part: Part::Segment(segment), ..Self::whole(extent) }
    }
}

/// Extents as they are read. Cheap to clone; the clones are one cache.
#[derive(Clone)]
pub struct ExtentCache {
    extents: moka::future::Cache<Slot, Bytes>,
}

impl ExtentCache {
    /// A cache of about `bytes`; 0 keeps nothing.
    #[must_use]
    pub fn new(bytes: u64) -> ExtentCache {
        let weigh = |_: &Slot, bytes: &Bytes| u32::try_from(bytes.len() + OVERHEAD).unwrap_or(u32::MAX);
        ExtentCache { extents: moka::future::Cache::builder().weigher(weigh).max_capacity(bytes).build() }
    }

    /// Bytes cached now.
    pub async fn bytes(&self) -> u64 {
        // Sizes are counted by the cache's housekeeping, which would come by itself a little later.
        self.extents.run_pending_tasks().await;
        self.extents.weighted_size()
    }

    /// Whether something is here now.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.extents.contains_key(&slot)
    }

    /// What is here now.
    pub(super) async fn peek(&self, slot: Slot) -> Option<Bytes> {
        self.extents.get(&slot).await
    }

    /// Keeps what was loaded.
    pub(super) async fn put(&self, slot: Slot, bytes: Bytes) {
        self.extents.insert(slot, bytes).await;
    }

    /// What is there, loaded when it is not here; who asks for it meanwhile waits for the same load.
    pub(super) async fn get(
        &self,
        slot: Slot,
        load: impl Future<Output = Result<Bytes, PackError>>,
    ) -> Result<Bytes, PackError> {
        self.extents.try_get_with(slot, load).await.map_err(|error: Arc<PackError>| (*error).clone())
    }
}
