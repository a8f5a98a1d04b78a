//! A volume over an engine in memory that counts what it is asked.

use super::keys;
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::rng::SystemRandom;
use mooring_policy::time::SystemClock;
use mooring_store::backend::VolumeDir;
use mooring_store::memory::Memory;
use mooring_store::meta::{Batch, MemoryMeta, Meta, MetaError, Rows, Seq, View, Watermarks};
use mooring_store::pack::{ExtentCache, PackOptions, PackStore};
use mooring_store::volume::{Config, Parts, Volume};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what the engine is asked.
#[derive(Default)]
pub struct Counting {
    engine: Arc<MemoryMeta>,
    /// Questions.
    pub asked: AtomicU64,
    /// Rows that were found by scans.
    pub scanned: AtomicU64,
}

#[async_trait]
impl Meta for Counting {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.engine.get(key).await
    }

    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.engine.scan(start, end, limit).await?;
        self.scanned.fetch_add(found.len() as u64, Ordering::SeqCst);
        Ok(found)
    }

    async fn commit(&self, batch: Batch) -> Result<Seq, MetaError> {
        self.engine.commit(batch).await
    }

    async fn sync(&self) -> Result<Seq, MetaError> {
        self.engine.sync().await
    }

    async fn view(&self) -> Result<Box<dyn View>, MetaError> {
        self.engine.view().await
    }

    fn watermarks(&self) -> Watermarks {
        self.engine.watermarks()
    }

    async fn close(self: Arc<Self>) -> Result<(), MetaError> {
        self.engine.clone().close().await
    }
}

/// Packs are in `dir`, rows in `meta`.
pub async fn volume(dir: &Path, meta: Arc<dyn Meta>, memory: u64, config: Config) -> Arc<Volume> {
    let home = VolumeDir::at(dir.join("volume"));
    home.prepare().unwrap();
    let options = PackOptions {
        dir: home.packs(),
        keys: keys(),
        epoch: 1,
        random: Arc::new(SystemRandom),
        cache: ExtentCache::new(32 << 20),
        pack_bytes: 4 << 20,
    };
    let packs = PackStore::open(options).await.unwrap();
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let memory = Memory::new(memory);
    Volume::open(Parts { meta, packs, memory, clock, random, config }).await.unwrap()
}
