//! The registry's own key, its identity and its signing keys.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use mooring_policy::access::CredentialKey;
use mooring_policy::ids::{TenantId, VolumeId};
use mooring_policy::keys::KeySet;
use mooring_policy::rng::Random;
use mooring_policy::time::Timestamp;

use super::rows::{self, StoredSecrets};
use super::state::State;
use super::{Realm, RealmError};
use crate::backend::VolumeDir;
use crate::meta::{Batch, Meta};
use crate::seal::{MasterKey, TenantKey, WrappedKey};

/// The registry counts as volume 0, which no bucket gets.
pub(super) const REALM_VOLUME: VolumeId = VolumeId(0);

/// Version of the registry as a whole.
const SCHEMA: u32 = 1;

/// The name the registry's key is wrapped under; a tenant of this name is refused.
pub(super) const REALM_NAME: &str = "mooring-realm";

fn realm_name() -> Result<TenantId, RealmError> {
    TenantId::try_from(REALM_NAME).map_err(|_| RealmError::Row { family: "realm name" })
}

/// The registry's data key: read from its file, or made at the first start.
pub(super) fn realm_key(
    dir: &VolumeDir,
    master: &MasterKey,
    random: &dyn Random,
) -> Result<TenantKey, RealmError> {
    let path = dir.path().join("key");
    let failed = |source| RealmError::KeyFile { path: path.clone(), source };
    let name = realm_name()?;
    match std::fs::read(&path) {
        Ok(bytes) => {
            let wrapped: WrappedKey = rows::decode("realm key", &bytes)?;
            Ok(master.unwrap_key(&name, &wrapped)?)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = TenantKey::generate(random);
            let bytes = rows::encode("realm key", &master.wrap(&name, &key, random)?)?;
            write_once(dir, &bytes).map_err(failed)?;
            Ok(key)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Whole or not at all, and durable: what the key opens is written only after this.
fn write_once(dir: &VolumeDir, bytes: &[u8]) -> std::io::Result<()> {
    let (path, temporary) = (dir.path().join("key"), dir.path().join("key.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    File::open(dir.path())?.sync_all()
}

/// Writes the rows of a new registry.
pub(super) async fn found(meta: &dyn Meta, random: &dyn Random, now: Timestamp) -> Result<State, RealmError> {
    let mut id = [0; 16];
    random.fill(&mut id);
    let secrets = StoredSecrets {
        id: hex::encode(id),
        signing: KeySet::generate(random, now)?.to_secret_bytes().to_vec(),
        credential: CredentialKey::generate(random).to_secret_bytes().to_vec(),
    };
    let mut batch = Batch::new();
    batch.put(rows::SECRETS, rows::encode("secrets", &secrets)?);
    batch.put(rows::NEXT_VOLUME, rows::encode("volume ids", &1_u64)?);
    batch.put(rows::SCHEMA, rows::encode("schema", &SCHEMA)?);
    meta.commit(batch).await?;
    meta.sync().await?;
    state_of(secrets)
}

pub(super) fn check_schema(value: &[u8]) -> Result<(), RealmError> {
    match rows::decode::<u32>("schema", value)? {
        SCHEMA => Ok(()),
        _ => Err(RealmError::Row { family: "schema" }),
    }
}

pub(super) fn state_of(stored: StoredSecrets) -> Result<State, RealmError> {
    let issuer = format!("mooring:{}", stored.id);
    Ok(State {
        realm: mooring_policy::token::Realm { audience: issuer.clone(), issuer },
        keys: Arc::new(KeySet::from_secret_bytes(&stored.signing)?),
        credential: CredentialKey::from_secret_bytes(&stored.credential)
            .map_err(|_| RealmError::Row { family: "credential key" })?,
        next_volume: 1,
        tenants: BTreeMap::new(),
        buckets: BTreeMap::new(),
        volumes: HashMap::new(),
        vms: BTreeMap::new(),
        grants: HashMap::new(),
        access_keys: BTreeMap::new(),
    })
}

impl Realm {
    /// Issuer and audience of everything the realm signs.
    pub fn token_realm(&self) -> mooring_policy::token::Realm {
        self.state.read().realm.clone()
    }

    /// The keys that sign and verify.
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.read().keys)
    }

    /// The key from which session credentials follow.
    pub fn credential_key(&self) -> CredentialKey {
        self.state.read().credential.clone()
    }

    /// Signs with a new key from now on; what the old one signed stays good as long as it lives.
    ///
    /// # Errors
    /// [`RealmError`] when it cannot be stored; then the old key stays in use.
    pub async fn rotate_keys(&self) -> Result<(), RealmError> {
        let _turn = self.writing.lock().await;
        let (id, mut keys, credential) = {
            let state = self.state.read();
            let id = state.realm.issuer.trim_start_matches("mooring:").to_owned();
            (
                id,
                KeySet::from_secret_bytes(&state.keys.to_secret_bytes())?,
                state.credential.to_secret_bytes(),
            )
        };
        keys.rotate(&*self.random, self.now())?;
        let stored =
            StoredSecrets { id, signing: keys.to_secret_bytes().to_vec(), credential: credential.to_vec() };
        let mut batch = Batch::new();
        batch.put(rows::SECRETS, rows::encode("secrets", &stored)?);
        self.write(batch, |state| state.keys = Arc::new(keys)).await
    }
}
