//! The cache of blocks, indexes and filters of tables, which the engine asks.
//!
//! What was used last stays. A cache that keeps what was used *often* does better under a steady load; here, tables
//! are replaced by compaction and volumes are closed and opened, and then what was used often is what nobody will ask
//! for again. It kept the new blocks out for as long as it took their counts to fade.

use async_trait::async_trait;
use moka::policy::EvictionPolicy;
use slatedb::db_cache::{CachedEntry, CachedKey, DbCache};

/// About what the cache itself adds to an entry, bytes.
const OVERHEAD: usize = 256;

type Found = Result<Option<CachedEntry>, slatedb::Error>;

/// See the module documentation.
pub(super) struct Blocks {
    entries: moka::sync::Cache<CachedKey, CachedEntry>,
}

impl Blocks {
    /// A cache of about `bytes`.
    pub fn new(bytes: u64) -> Self {
        let weigh =
            |_: &CachedKey, entry: &CachedEntry| u32::try_from(entry.size() + OVERHEAD).unwrap_or(u32::MAX);
        let entries = moka::sync::Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigh)
            .max_capacity(bytes)
            .build();
        Self { entries }
    }

    fn get(&self, key: &CachedKey) -> Found {
        Ok(self.entries.get(key))
    }
}

#[async_trait]
impl DbCache for Blocks {
    async fn get_block(&self, key: &CachedKey) -> Found {
        self.get(key)
    }

    async fn get_index(&self, key: &CachedKey) -> Found {
        self.get(key)
    }

    async fn get_filter(&self, key: &CachedKey) -> Found {
        self.get(key)
    }

    async fn get_stats(&self, key: &CachedKey) -> Found {
        self.get(key)
    }

    async fn insert(&self, key: CachedKey, value: CachedEntry) {
        self.entries.insert(key, value);
    }

    async fn remove(&self, key: &CachedKey) {
        self.entries.invalidate(key);
    }

    fn entry_count(&self) -> u64 {
        self.entries.entry_count()
    }
}
