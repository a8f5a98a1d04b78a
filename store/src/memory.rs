//! Memory that all volumes of a process share, under one bound.
//!
//! A host has few busy buckets and many quiet ones, and which are busy changes. A cache for each would be too small for
//! the busy ones or too large for all of them together; so there is one of each kind, and a bucket has as much of it as
//! it uses. What is cached is found by the volume it belongs to: nothing of one is ever an answer to another.
//!
//! | part | what | share |
//! |---|---|---|
//! | [`BlockCache`] | tables of the metadata engine | 1/4 |
//! | the same | rows that are in no table yet: past the bound, tables are written early | 1/8 |
//! | [`RowCache`] | decoded inodes, names, places of extents and maps | 1/4 |
//! | [`ExtentCache`] | decoded bytes of files | 3/8 |
//!
//! Beside memory there is room on the disk for copies of what an object store has ([`Copies`]), with a bound of its own.
//!
//! What is known of names has half, because it has nothing behind it that is as fast: bytes of files that are not here
//! are often in the memory of the kernel, and each guest has its own. A million files take about 110 MiB of tables.

use crate::meta::BlockCache;
use crate::pack::{Copies, ExtentCache, USUAL_COPIES};
use crate::volume::RowCache;
use std::sync::Arc;

/// The caches of a process.
pub struct Memory {
    pub(crate) blocks: Arc<BlockCache>,
    pub(crate) extents: ExtentCache,
    pub(crate) rows: Arc<RowCache>,
    pub(crate) copies: Arc<Copies>,
}

impl Memory {
    /// Caches of about `bytes` together, and a little of the disk.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Memory> {
        Memory::with_disk(bytes, USUAL_COPIES)
    }

    /// Caches of about `bytes` together; and copies of packs that an object store has, of at most `disk` bytes.
    #[must_use]
    pub fn with_disk(bytes: u64, disk: u64) -> Arc<Memory> {
        Arc::new(Memory {
            blocks: Arc::new(BlockCache::new(bytes / 4, bytes / 8)),
            extents: ExtentCache::new(bytes / 8 * 3),
            rows: Arc::new(RowCache::new(bytes / 4)),
            copies: Copies::new(disk),
        })
    }

    /// What is on the disk of what an object store has.
    #[must_use]
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The metadata engine's part, which the registry uses too.
    #[must_use]
    pub fn blocks(&self) -> Arc<BlockCache> {
        self.blocks.clone()
    }

    /// Bytes of rows that are in no table yet.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.blocks.unwritten_bytes()
    }

    /// Bytes of files and of decoded rows that are cached now.
    pub async fn used(&self) -> (u64, u64) {
        (self.extents.bytes().await, self.rows.bytes())
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
