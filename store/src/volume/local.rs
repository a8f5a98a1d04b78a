//! Opening a volume in the local-directory store.

use super::named::Named;
use super::{Config, Parts, Volume};
use crate::api::Result;
use crate::backend::{BackendError, VolumeDir};
use crate::error::StoreError;
use crate::journal::FILE_BYTES;
use crate::memory::Memory;
use crate::meta::{SPACE_RESERVE, SlateMeta, SlateOptions};
use crate::pack::{PackOptions, PackStore};
use crate::seal::VolumeKeys;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use std::sync::Arc;

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
    pub async fn open_local(options: LocalOptions) -> Result<Arc<Volume>> {
        let LocalOptions { dir, keys, memory, random, clock, config } = options;
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
            dir: dir.clone(),
            lock,
            keys,
            cache: memory.blocks(),
            data: Some(Arc::new(Named(packs.clone()))),
            random: random.clone(),
            clock: clock.clone(),
            space_reserve: SPACE_RESERVE,
            journal_file_bytes: FILE_BYTES,
        })
        .await?;
        packs.set_epoch(meta.epoch());
        packs.forget_lists();
        let config = Config { directory: Some(dir.path().to_owned()), ..config };
        Volume::open(Parts { meta, packs, memory, clock, random, config }).await
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> StoreError {
        StoreError::Store(Box::new(error))
    }
}
