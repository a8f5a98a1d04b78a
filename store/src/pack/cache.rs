//! Decoded extents in memory, for all volumes of a process: a pack's id is like no other.

use super::error::PackError;
use super::extent::PackId;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

/// About what the cache adds to an extent, bytes.
const OVERHEAD: usize = 64;

/// Extents as they are read, by pack and offset. Cheap to clone; the clones are one cache.
#[derive(Clone)]
pub struct ExtentCache {
    extents: moka::future::Cache<(PackId, u32), Bytes>,
}

impl ExtentCache {
    /// A cache of about `bytes`; 0 keeps nothing.
    #[must_use]
    pub fn new(bytes: u64) -> ExtentCache {
        let weigh =
            |_: &(PackId, u32), bytes: &Bytes| u32::try_from(bytes.len() + OVERHEAD).unwrap_or(u32::MAX);
        ExtentCache { extents: moka::future::Cache::builder().weigher(weigh).max_capacity(bytes).build() }
    }

    /// Bytes cached now.
    pub async fn bytes(&self) -> u64 {
        // Sizes are counted by the cache's housekeeping, which would come by itself a little later.
        self.extents.run_pending_tasks().await;
        self.extents.weighted_size()
    }

    /// The extent, loaded when it is not here; who asks for it meanwhile waits for the same load.
    pub(super) async fn get(
        &self,
        key: (PackId, u32),
        load: impl Future<Output = Result<Bytes, PackError>>,
    ) -> Result<Bytes, PackError> {
        self.extents.try_get_with(key, load).await.map_err(|error: Arc<PackError>| (*error).clone())
    }
}
