//! Opening a volume in the local-directory store.

use super::named::Named;
use super::{Config, Parts, Volume};
use crate::api::{Result, Tree};
use crate::backend::{BackendError, VolumeDir};
use crate::checkpoint::{self, Head};
use crate::error::StoreError;
use crate::memory::Memory;
use crate::meta::{Meta, SPACE_RESERVE, SlateMeta, SlateOptions};
use crate::pack::{PackOptions, PackStore};
use crate::seal::VolumeKeys;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use std::sync::Arc;
use std::time::Duration;

/// How long a checkpoint waits for the store to have what it tells of, and how often that is looked at.
const STORE_LIMIT: Duration = Duration::from_secs(60);
const STORE_LOOK: Duration = Duration::from_millis(50);

/// Where a volume lies and what it needs to be opened.
#[derive(Clone)]
pub struct LocalOptions {
    /// Its directory; made when it is missing.
    pub dir: VolumeDir,
    /// Its keys.
    pub keys: VolumeKeys,
    /// Memory shared by all volumes of the process.
    pub memory: Arc<Memory>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bounds and sizes; the directory is filled in.
    pub config: Config,
}

impl Volume {
    /// Opens the volume in a directory, or makes it there. Takes the directory's lock until the volume is closed and
    /// dropped.
    ///
    /// # Errors
    /// [`super::RebuildNeeded`] when there are packs and no rows: it would be empty, and its packs garbage.
    pub async fn open_local(options: LocalOptions) -> Result<Arc<Volume>> {
        super::rebuild::refuse_without_rows(&options.dir)?;
        Volume::open_unguarded(options).await
    }

    pub(super) async fn open_unguarded(options: LocalOptions) -> Result<Arc<Volume>> {
        let (meta, packs) = Volume::open_parts(&options).await?;
        Volume::open_with(&options, meta, packs).await
    }

    /// The engine and the packs of a directory.
    pub(super) async fn open_parts(options: &LocalOptions) -> Result<(Arc<SlateMeta>, Arc<PackStore>)> {
        let LocalOptions { dir, keys, memory, random, clock, config } = options.clone();
        dir.prepare()?;
        let lock = Arc::new(dir.lock()?);
        // Packs first: what the journal names is looked up in them.
        let packs = PackStore::open(PackOptions {
            dir: dir.packs(),
            keys: keys.clone(),
            epoch: 0,
            random: random.clone(),
            cache: memory.extents.clone(),
            pack_bytes: config.pack_bytes,
        })
        .await?;
        let meta = SlateMeta::open(SlateOptions {
            dir,
            lock,
            keys,
            cache: memory.blocks(),
            data: Some(Arc::new(Named(packs.clone()))),
            random,
            clock,
            space_reserve: SPACE_RESERVE,
            journal_file_bytes: config.journal_file_bytes,
        })
        .await?;
        packs.set_epoch(meta.epoch());
        packs.forget_lists();
        Ok((meta, packs))
    }

    pub(super) async fn open_with(
        options: &LocalOptions,
        meta: Arc<dyn Meta>,
        packs: Arc<PackStore>,
    ) -> Result<Arc<Volume>> {
        let LocalOptions { dir, memory, random, clock, config, .. } = options.clone();
        let config = Config { directory: Some(dir.path().to_owned()), ..config };
        Volume::open(Parts { meta, packs, memory, clock, random, config }).await
    }

    /// Writes a copy of all rows beside the volume, from which it can be rebuilt. Returns how many there are.
    pub async fn checkpoint(&self) -> Result<u64> {
        let none = StoreError::Unsupported("checkpoints of a volume that has no directory");
        let place = self.packs.place();
        let beside = || self.packs.directory().parent().map(std::path::Path::to_path_buf);
        let dir = self.config.directory.clone().or_else(|| place.and_then(|_| beside()));
        let dir = VolumeDir::at(dir.ok_or(none)?);
        // Packs before rows: what comes behind these ends is in no row that is read here.
        let packs = self.packs.list().into_iter();
        let packs = packs.map(|pack| (pack.id.0, if pack.sealed { u64::MAX } else { pack.bytes })).collect();
        let view = self.rows().meta().view().await?;
        // No loss of power may take back what a checkpoint says was there.
        self.rows().meta().sync().await?;
        let head = Head { taken: self.clock.now().as_millis(), seq: view.seq().0, packs };
        let (keys, random) = (self.packs.keys(), &*self.random);
        let Some(place) = place else {
            return Ok(checkpoint::write(&dir, keys, random, &*view, &head).await?);
        };
        self.in_store(view.seq().0).await?;
        Ok(checkpoint::store::write_to(place, &dir, keys, random, (&*view, &head)).await?)
    }

    /// Waits until the store has every change up to `seq`. With durability `host` nothing else waits for that.
    async fn in_store(&self, seq: u64) -> Result<()> {
        let waited = tokio::time::timeout(STORE_LIMIT, async {
            while Tree::watermarks(self).stored < seq {
                self.alive()?;
                tokio::time::sleep(STORE_LOOK).await;
            }
            Ok(())
        });
        waited.await.map_err(|elapsed| StoreError::Store(Box::new(elapsed)))?
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> StoreError {
        StoreError::Store(Box::new(error))
    }
}
