//! Opening and creating a registry.

use super::{Realm, RealmError, rows};
use crate::backend::{BackendError, Backing, DataDir, DirLock, OPEN_LIMIT, Place, VolumeDir, write_durably};
use crate::journal::{FILE_BYTES, JournalError};
use crate::meta::{Batch, BlockCache, Meta, MetaError, SPACE_RESERVE, SlateMeta, SlateOptions};
use crate::realm::Durability;
use crate::seal::{MasterKey, SealError, TenantKey, WrappedKey};
use crate::upstream::{Upstream, UpstreamOptions};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use object_store::{Error, ObjectStoreExt, PutMode};
use std::sync::Arc;

/// Version of the registry's layout. Raised when rows change in a way that an older program must not touch.
const SCHEMA: u32 = 1;
const WRAPPED_FOR: &str = "realm";

/// The realm's place among volume ids; real ones begin at 1.
const REALM_VOLUME: VolumeId = VolumeId(0);

/// What a registry needs to open.
#[derive(Clone)]
pub struct RealmOptions {
    /// The installation's directory.
    pub data: DataDir,
    /// The installation's master key.
    pub master: Arc<MasterKey>,
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
        let key = data_key(&dir, &lock, &options)?;
        let meta = SlateMeta::open(engine(&options, dir, lock, &key)).await?;
        Self::over(meta, options.master, options.random, options.clock).await
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
        let key = data_key_on(&place, &options).await?;
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
        Self::over(meta, options.master.clone(), options.random.clone(), options.clock.clone()).await
    }

    /// A registry over any engine.
    pub async fn over(
        meta: Arc<dyn Meta>,
        master: Arc<MasterKey>,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, RealmError> {
        let realm = Self { meta, master, random, clock, changing: tokio::sync::Mutex::new(()) };
        let key = rows::key(b'S', &[b"schema"]);
        match rows::get::<u32>(&*realm.meta, &key).await? {
            Some(SCHEMA) => {}
            Some(found) => {
                let (found, supported) = (u8::try_from(found).unwrap_or(u8::MAX), SCHEMA as u8);
                return Err(RealmError::Version { row: "schema".to_owned(), found, supported });
            }
            None => {
                let mut batch = Batch::new();
                rows::put(&mut batch, key, &SCHEMA)?;
                realm.apply(batch).await?;
            }
        }
        realm.repair_grant_index().await?;
        Ok(Arc::new(realm))
    }
}

fn engine(options: &RealmOptions, dir: VolumeDir, lock: Arc<DirLock>, key: &TenantKey) -> SlateOptions {
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

/// The realm's data key in the store: read and unwrapped, or made at first start. Of two who start first at the same
/// moment one makes it.
async fn data_key_on(place: &Place, options: &RealmOptions) -> Result<TenantKey, RealmError> {
    let path = place.path("key");
    let failed = |error| place.backing.error("read the registry's key from", error);
    let row = |source: serde_json::Error| RealmError::Row { row: path.to_string(), source: source.into() };
    let get = || async { place.store().get(&path).await?.bytes().await };
    loop {
        match place.within(OPEN_LIMIT, get).await {
            Ok(text) => {
                let wrapped: WrappedKey = serde_json::from_slice(&text).map_err(row)?;
                return Ok(options.master.unwrap_key(WRAPPED_FOR, &wrapped)?);
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(error).into()),
        }
        let key = TenantKey::generate(options.random.as_ref());
        let wrapped = options.master.wrap(WRAPPED_FOR, &key, options.random.as_ref())?;
        let text = bytes::Bytes::from(serde_json::to_vec(&wrapped).map_err(row)?);
        let put = || place.store().put_opts(&path, text.clone().into(), PutMode::Create.into());
        match place.within(OPEN_LIMIT, put).await {
            // Read back: it may be somebody else's by now, and what is read is what counts.
            Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
}

/// The realm's data key: read and unwrapped, or made at first start.
fn data_key(dir: &VolumeDir, _lock: &DirLock, options: &RealmOptions) -> Result<TenantKey, RealmError> {
    let path = dir.path().join("key");
    let row = |source: serde_json::Error| RealmError::Row {
        row: path.display().to_string(),
        source: source.into(),
    };
    match std::fs::read(&path) {
        Ok(text) => {
            let wrapped: WrappedKey = serde_json::from_slice(&text).map_err(row)?;
            Ok(options.master.unwrap_key(WRAPPED_FOR, &wrapped)?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if dir.meta().join("db").exists() {
                // A new key would not open what is there.
                return Err(SealError::MasterMissing { path }.into());
            }
            let key = TenantKey::generate(options.random.as_ref());
            let wrapped = options.master.wrap(WRAPPED_FOR, &key, options.random.as_ref())?;
            write_durably(&path, &serde_json::to_vec(&wrapped).map_err(row)?)?;
            Ok(key)
        }
        Err(error) => Err(BackendError::io("read", &path, error).into()),
    }
}
