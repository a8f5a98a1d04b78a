//! Work on a bucket while the gateway is stopped: the same locks keep the two apart.

use std::path::PathBuf;
use std::sync::Arc;

use mooring_cli::ApiError;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::rng::{Random, SystemRandom};
use mooring_policy::time::{SystemClock, Timestamp};
use mooring_protocol::api::{CheckReport, Rebuilt};
use mooring_store::backend::{Backing, DataDir, host_name};
use mooring_store::memory::Memory;
use mooring_store::realm::{Realm, RealmOptions};
use mooring_store::volume::{CheckOptions, Config, LocalOptions, Progress, StoreOptions, Volume};

use crate::integrity::{chain, report};
use crate::settings::Settings;

/// Memory for caches: one pass over everything needs little.
const CACHE: u64 = 64 << 20;

/// A bucket of a stopped gateway.
pub struct Offline {
    realm: Arc<Realm>,
    options: LocalOptions,
    /// Where everything is kept, when that is an object store.
    store: Option<StoreOptions>,
    /// How far the work is.
    pub progress: Progress,
}

fn local(error: impl std::error::Error) -> ApiError {
    ApiError::Local(chain(&error))
}

impl Offline {
    /// Opens the registry, which only one process can, and finds the bucket.
    ///
    /// # Errors
    /// The gateway runs, the key is missing, or there is no such bucket.
    pub async fn open(
        settings: &Settings,
        data_dir: Option<PathBuf>,
        tenant: &TenantId,
        name: &BucketName,
    ) -> Result<Offline, ApiError> {
        let settings = Settings { data_dir: data_dir.or(settings.data_dir.clone()), ..settings.clone() };
        let path = settings.data_dir();
        if !path.exists() {
            let why = format!("there is no data folder {}: name it with --data-dir", path.display());
            return Err(ApiError::Local(why));
        }
        let data = DataDir::open(path).map_err(local)?;
        let memory = Memory::new(CACHE);
        let (random, clock): (Arc<dyn Random>, _) = (Arc::new(SystemRandom), Arc::new(SystemClock::new()));
        // There is data, or nothing to work on: no key is made here.
        let master = Arc::new(crate::master::gather(&settings, true, &*random).await.map_err(local)?);
        let store = RealmOptions { data, master, cache: memory.blocks(), random, clock };
        let backing = match settings.store.config().map_err(local)? {
            None => None,
            Some(config) => {
                let backing = Backing::open(&config).map_err(local)?;
                Some(backing.probed(&*store.random).await.map_err(local)?)
            }
        };
        let realm = match &backing {
            None => Realm::open(store.clone()).await,
            Some(backing) => Realm::open_on(store.clone(), backing, &host_name()).await,
        };
        let realm = realm.map_err(local)?;
        let bucket = realm.bucket(tenant, name).await.map_err(local)?;
        if bucket.external.is_some() {
            return Err(ApiError::Local(format!("bucket {name} is kept by another store, which checks it")));
        }
        let keys = realm.tenant_key(tenant).await.map_err(local)?.volume(bucket.place());
        let options = LocalOptions {
            dir: store.data.volume(tenant, bucket.place()),
            keys,
            memory,
            random: store.random,
            clock: store.clock,
            config: Config {
                head: bucket.head(),
                label: Some(format!("{tenant}/{name}")),
                ..Config::default()
            },
        };
        let named = format!("{tenant}/{name}");
        let store = backing.map(|backing| StoreOptions {
            place: backing.volume(tenant, bucket.place()),
            local: options.clone(),
            class: bucket.durability,
            accept_loss: settings.store.accept_loss().contains(&named),
            owner: host_name(),
        });
        Ok(Offline { realm, options, store, progress: Progress::default() })
    }

    /// Puts the bucket together again from checkpoint, journal and packs.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub async fn rebuild(&self) -> Result<Rebuilt, ApiError> {
        let done = match &self.store {
            None => Volume::rebuild(self.options.clone()).await,
            Some(store) => Volume::rebuild_on(store.clone()).await,
        };
        let done = done.map_err(local)?;
        self.realm.close().await.map_err(local)?;
        Ok(Rebuilt {
            checkpoint: done.checkpoint.map(|taken| Timestamp::from_millis(taken).to_string()),
            unreadable: done.unreadable,
            journal: done.journal,
            journal_error: done.journal_error,
            rows: done.rows,
            moved: done.moved,
            lost: done.lost,
            extended: done.extended,
            found: done.found,
            findings: done.findings,
            aside: done.aside.display().to_string(),
        })
    }

    /// Checks the bucket, and mends what is safe to mend if asked.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub async fn check(&self, data: bool, repair: bool) -> Result<CheckReport, ApiError> {
        let volume = match &self.store {
            None => Volume::open_local(self.options.clone()).await,
            Some(store) => Volume::open_on(store.clone()).await,
        };
        let volume = volume.map_err(local)?;
        let options = CheckOptions { data };
        let found = if repair {
            volume.repair(&options, &self.progress).await
        } else {
            volume.check_with(&options, &self.progress).await.map(|found| (0, found))
        };
        let closed = volume.close().await;
        let (mended, found) = found.map_err(local)?;
        closed.map_err(local)?;
        self.realm.close().await.map_err(local)?;
        Ok(report(&found, mended))
    }
}
