//! The registry of one installation: tenants, buckets, VMs, grants, keys.
//!
//! It is a volume without packs at `<data>/realm/`: the same engine, journal and seal as a tenant's metadata, under a
//! data key of its own in `realm/key` (wrapped by the master key). Its rows are few and asked for at every connection
//! and decision, so all of them are held in memory; a change is committed and made durable first and applied to memory
//! after, so memory never says what a crash could take back.
//!
//! Names once used are remembered: a VM attached again gets a higher generation, a tenant made again a higher epoch,
//! and volume ids are never given out twice. So nothing that was issued for an earlier bearer of a name is worth
//! anything to a later one.
//!
//! Grants are kept as the signed statements they are and verified when the registry opens; one that does not verify is
//! left out and logged. They live here and not yet in the database of the bucket they open: with one gateway per data
//! directory the two are fenced by the same lock.

mod buckets;
mod error;
mod grants;
mod rows;
mod secrets;
mod state;
mod tenants;
mod vms;

use std::sync::Arc;

use mooring_policy::rng::Random;
use mooring_policy::time::{Clock, Timestamp};
use parking_lot::RwLock;

use crate::backend::DataDir;
use crate::meta::{Batch, BlockCache, Meta, SlateMeta, SlateOptions};
use crate::seal::MasterKey;

pub use error::RealmError;
pub use grants::{GrantRecord, door_of};
pub use rows::{BucketRecord, TenantRecord, VmRecord};
use state::State;

/// What the registry needs to open.
pub struct RealmOptions {
    /// The installation's directory.
    pub data: DataDir,
    /// Wraps all data keys.
    pub master: MasterKey,
    /// Blocks of all databases of the process.
    pub cache: Arc<BlockCache>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// The open registry.
pub struct Realm {
    meta: Arc<dyn Meta>,
    master: MasterKey,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: RwLock<State>,
    /// Held from deciding on a change to applying it: changes come one after the other.
    writing: tokio::sync::Mutex<()>,
}

impl Realm {
    /// Opens the registry, and makes it at the first start.
    ///
    /// # Errors
    /// [`RealmError`]: another gateway has it, the master key is not the one, the directory cannot be used.
    pub async fn open(options: RealmOptions) -> Result<Arc<Realm>, RealmError> {
        let dir = options.data.realm();
        dir.prepare()?;
        let lock = Arc::new(dir.lock()?);
        let key = secrets::realm_key(&dir, &options.master, &*options.random)?;
        let meta = SlateMeta::open(SlateOptions {
            dir,
            lock,
            keys: key.volume(secrets::REALM_VOLUME),
            cache: options.cache,
            random: Arc::clone(&options.random),
            clock: Arc::clone(&options.clock),
            space_reserve: crate::meta::SPACE_RESERVE,
            journal_file_bytes: crate::journal::FILE_BYTES,
        })
        .await?;
        Self::over(meta, options.master, options.clock, options.random).await
    }

    /// The registry over any metadata engine.
    ///
    /// # Errors
    /// As [`Self::open`], for rows.
    pub async fn over(
        meta: Arc<dyn Meta>,
        master: MasterKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Realm>, RealmError> {
        let state = match State::load(&*meta).await? {
            Some(state) => state,
            None => secrets::found(&*meta, &*random, clock.now()).await?,
        };
        let realm = Realm {
            meta,
            master,
            clock,
            random,
            state: RwLock::new(state),
            writing: tokio::sync::Mutex::new(()),
        };
        Ok(Arc::new(realm))
    }

    /// Makes everything durable and lets go.
    ///
    /// # Errors
    /// [`RealmError::Meta`].
    pub async fn close(&self) -> Result<(), RealmError> {
        Ok(Arc::clone(&self.meta).close().await?)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes a change durable, then lets memory see it.
    async fn write(&self, batch: Batch, apply: impl FnOnce(&mut State)) -> Result<(), RealmError> {
        self.meta.commit(batch).await?;
        self.meta.sync().await?;
        apply(&mut self.state.write());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
