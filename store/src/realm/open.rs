//! Opening and creating a registry.

use super::{Realm, RealmError, rows};
use crate::backend::{BackendError, DataDir, DirLock, VolumeDir, sync_dir};
use crate::journal::FILE_BYTES;
use crate::meta::{Batch, BlockCache, Meta, SPACE_RESERVE, SlateMeta, SlateOptions};
use crate::seal::{MasterKey, SealError, TenantKey, WrappedKey};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
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
        let key = data_key(&dir, &lock, &options)?;
        let meta = SlateMeta::open(SlateOptions {
            dir,
            lock,
            keys: key.volume(REALM_VOLUME),
            cache: Arc::clone(&options.cache),
            data: None,
            random: Arc::clone(&options.random),
            clock: Arc::clone(&options.clock),
            space_reserve: SPACE_RESERVE / 4,
            journal_file_bytes: FILE_BYTES / 4,
        })
        .await?;
        Self::over(meta, options.master, options.random, options.clock).await
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
            write_durably(dir, &path, &serde_json::to_vec(&wrapped).map_err(row)?)?;
            Ok(key)
        }
        Err(error) => Err(BackendError::io("read", &path, error).into()),
    }
}

fn write_durably(dir: &VolumeDir, path: &std::path::Path, bytes: &[u8]) -> Result<(), BackendError> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(|error| BackendError::io("write", path, error))?;
    sync_dir(dir.path())
}
