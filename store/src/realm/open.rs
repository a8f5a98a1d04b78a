//! Opening and creating a registry.

use super::ring::Ring;
use super::ring::file::Place;
use super::{Realm, RealmError, migrate, rows};
use crate::backend::{BackendError, Backing, DataDir, DirLock, VolumeDir};
use crate::journal::{FILE_BYTES, JournalError};
use crate::meta::{Batch, BlockCache, Meta, MetaError, SPACE_RESERVE, SlateMeta, SlateOptions};
use crate::realm::Durability;
use crate::seal::{MasterKeys, TenantKeys};
use crate::upstream::{Upstream, UpstreamOptions};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use std::sync::Arc;

/// Version of the registry's layout. Raised when rows change in a way that an older program must not touch.
/// 2: the wrapped keys of tenants are in the key ring.
pub(super) const SCHEMA: u32 = 2;

/// The realm's place among volume ids; real ones begin at 1.
const REALM_VOLUME: VolumeId = VolumeId(0);

/// What a registry needs to open.
#[derive(Clone)]
pub struct RealmOptions {
    /// The installation's directory.
    pub data: DataDir,
    /// The installation's master key, and others that may be needed.
    pub master: Arc<MasterKeys>,
    /// The process's block cache.
    pub cache: Arc<BlockCache>,
    /// Ids and keys come from here.
    pub random: Arc<dyn Random>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Realm {
    /// Opens the registry in `options.data`, creating it at first start. Refused while another process has it:
    /// this lock is what makes a second gateway on one data directory impossible.
    pub async fn open(options: RealmOptions) -> Result<Arc<Self>, RealmError> {
        let dir = options.data.realm();
        dir.prepare()?;
        let lock = Arc::new(dir.lock()?);
        refuse(
            &dir,
            dir.path().join("lineage").exists(),
            "the data directory is beside a store; name the store",
        )?;
        let ring = ring(&dir, &lock, &options).await?;
        let meta = SlateMeta::open(engine(&options, dir, lock, &ring.realm()?)).await?;
        Self::over(meta, ring, options.random, options.clock).await
    }

    /// Opens the registry in an object store, creating it at first start, and takes it over from whoever had it: on
    /// another host the master key is all it takes.
    pub async fn open_on(
        options: RealmOptions,
        store: &Backing,
        owner: &str,
    ) -> Result<Arc<Self>, RealmError> {
        let (dir, place) = (options.data.realm(), store.realm());
        dir.prepare()?;
        let lock = Arc::new(dir.lock()?);
        let own = dir.meta().join("db").exists();
        refuse(
            &dir,
            own,
            "the data directory holds an installation of its own; choose another beside a store",
        )?;
        let ring = ring_on(Place::on(place.clone()), store.has_data().await?, &options).await?;
        let key = ring.realm()?;
        let log = UpstreamOptions {
            place,
            dir: dir.clone(),
            keys: key.volume(REALM_VOLUME),
            random: Arc::clone(&options.random),
            class: Durability::Store,
            accept_loss: false,
            owner: owner.to_owned(),
        };
        let upstream = Upstream::open(log.clone()).await?;
        let open = || {
            SlateMeta::open_over(engine(&options, dir.clone(), lock.clone(), &key), Some(upstream.clone()))
        };
        let meta = match open().await {
            Err(MetaError::Journal(JournalError::Behind { .. })) => {
                upstream.import_again(&log).await?;
                open().await?
            }
            opened => opened?,
        };
        Self::over(meta, ring, options.random.clone(), options.clock.clone()).await
    }

    async fn over(
        meta: Arc<dyn Meta>,
        ring: Ring,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, RealmError> {
        let realm = Self { meta, ring: Arc::new(ring), random, clock, turns: super::turns::Turns::default() };
        let key = schema_key();
        match rows::get::<u32>(&*realm.meta, &key).await? {
            Some(SCHEMA) => {}
            Some(found) => {
                let (found, supported) = (u8::try_from(found).unwrap_or(u8::MAX), SCHEMA as u8);
                return Err(RealmError::Version { row: "schema".to_owned(), found, supported });
            }
            None => {
                let (turn, mut batch) = (realm.turn().await?, Batch::new());
                rows::put(&mut batch, key, &SCHEMA)?;
                realm.apply(&turn, batch).await?;
            }
        }
        realm.repair_grant_index().await?;
        realm.destroy_keys_of_removed().await?;
        Ok(Arc::new(realm))
    }
}

pub(super) fn schema_key() -> Vec<u8> {
    rows::key(b'S', &[b"schema"])
}

/// What the registry's engine in `dir` needs.
pub(super) fn engine(
    options: &RealmOptions,
    dir: VolumeDir,
    lock: Arc<DirLock>,
    key: &Arc<TenantKeys>,
) -> SlateOptions {
    SlateOptions {
        dir,
        lock,
        keys: key.volume(REALM_VOLUME),
        cache: Arc::clone(&options.cache),
        data: None,
        random: Arc::clone(&options.random),
        clock: Arc::clone(&options.clock),
        space_reserve: SPACE_RESERVE / 4,
        journal_file_bytes: FILE_BYTES / 4,
    }
}

fn refuse(dir: &VolumeDir, when: bool, detail: &str) -> Result<(), BackendError> {
    let url = format!("file://{}", dir.path().display());
    if when { Err(BackendError::StoreConfig { url, detail: detail.to_owned() }) } else { Ok(()) }
}

/// The key ring: loaded, made of what an earlier release left, or begun at first start.
async fn ring(dir: &VolumeDir, lock: &Arc<DirLock>, options: &RealmOptions) -> Result<Ring, RealmError> {
    let place = Place::new(dir.path());
    let (masters, random) = (options.master.as_ref().clone(), Arc::clone(&options.random));
    let ring = match Ring::load(place.clone(), masters, random).await? {
        Some(ring) => ring,
        None => match migrate::migrate(dir, lock, options).await? {
            Some(ring) => ring,
            None => begin(place, options.data.has_data(), options).await?,
        },
    };
    migrate::finish(dir)?;
    Ok(ring)
}

async fn ring_on(place: Place, has_data: bool, options: &RealmOptions) -> Result<Ring, RealmError> {
    let (masters, random) = (options.master.as_ref().clone(), Arc::clone(&options.random));
    match Ring::load(place.clone(), masters, random).await? {
        Some(ring) => Ok(ring),
        None => begin(place, has_data, options).await,
    }
}

async fn begin(place: Place, has_data: bool, options: &RealmOptions) -> Result<Ring, RealmError> {
    if has_data {
        // New keys would not open what is there.
        return Err(RealmError::RingMissing { place: place.name() });
    }
    let (masters, random) = (options.master.as_ref().clone(), Arc::clone(&options.random));
    let ring = Ring::begin(place, masters, random, options.clock.now())?;
    ring.store().await?;
    Ok(ring)
}
