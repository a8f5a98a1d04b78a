//! All rows in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mooring_policy::access::{AccessKey, CredentialKey};
use mooring_policy::ids::{BucketName, GrantId, TenantId, VmId, VolumeId};
use mooring_policy::keys::KeySet;
use mooring_policy::token::verify_grant;

use super::grants::GrantRecord;
use super::rows::{self, BucketRecord, StoredGrant, StoredSecrets, TenantRecord, VmRecord};
use super::{RealmError, secrets};
use crate::meta::{Meta, Rows, after};

/// Rows read at once when loading.
const PAGE: usize = 1024;

/// The registry as of the last durable change.
pub(super) struct State {
    pub realm: mooring_policy::token::Realm,
    pub keys: Arc<KeySet>,
    pub credential: CredentialKey,
    pub next_volume: u64,
    pub tenants: BTreeMap<TenantId, TenantRecord>,
    pub buckets: BTreeMap<(TenantId, BucketName), BucketRecord>,
    pub volumes: HashMap<VolumeId, (TenantId, BucketName)>,
    pub vms: BTreeMap<(TenantId, VmId), VmRecord>,
    pub grants: HashMap<GrantId, GrantRecord>,
    pub access_keys: BTreeMap<String, AccessKey>,
}

impl State {
    /// Reads all rows; `None` when there is no registry yet.
    pub(super) async fn load(meta: &dyn Meta) -> Result<Option<State>, RealmError> {
        let Some(schema) = meta.get(rows::SCHEMA).await? else { return Ok(None) };
        secrets::check_schema(&schema)?;
        let stored = meta.get(rows::SECRETS).await?.ok_or(RealmError::Row { family: "secrets" })?;
        let mut state = secrets::state_of(rows::decode::<StoredSecrets>("secrets", &stored)?)?;
        let next = meta.get(rows::NEXT_VOLUME).await?.ok_or(RealmError::Row { family: "volume ids" })?;
        state.next_volume = rows::decode("volume ids", &next)?;
        state.load_names(meta).await?;
        state.load_grants(meta).await?;
        Ok(Some(state))
    }

    async fn load_names(&mut self, meta: &dyn Meta) -> Result<(), RealmError> {
        for (_, value) in family(meta, rows::TENANT).await? {
            let row: TenantRecord = rows::decode("tenant", &value)?;
            self.tenants.insert(row.name.clone(), row);
        }
        for (_, value) in family(meta, rows::BUCKET).await? {
            self.put_bucket(rows::decode("bucket", &value)?);
        }
        for (_, value) in family(meta, rows::VM).await? {
            let row: VmRecord = rows::decode("vm", &value)?;
            self.vms.insert((row.tenant.clone(), row.vm.clone()), row);
        }
        for (_, value) in family(meta, rows::ACCESS_KEY).await? {
            let row =
                AccessKey::from_secret_bytes(&value).map_err(|_| RealmError::Row { family: "access key" })?;
            self.access_keys.insert(row.id.clone(), row);
        }
        Ok(())
    }

    async fn load_grants(&mut self, meta: &dyn Meta) -> Result<(), RealmError> {
        for (_, value) in family(meta, rows::GRANT).await? {
            let row: StoredGrant = rows::decode("grant", &value)?;
            match verify_grant(self.keys.public(), &self.realm, &row.statement) {
                Ok(grant) => {
                    self.grants.insert(grant.id, GrantRecord::new(grant, row));
                }
                Err(error) => tracing::error!(%error, "a stored grant does not verify and is not in force"),
            }
        }
        Ok(())
    }

    pub(super) fn put_bucket(&mut self, row: BucketRecord) {
        self.volumes.insert(row.volume, (row.owner.clone(), row.name.clone()));
        self.buckets.insert((row.owner.clone(), row.name.clone()), row);
    }

    /// The tenant, if it is there and not removed.
    pub(super) fn tenant(&self, name: &TenantId) -> Result<&TenantRecord, RealmError> {
        self.tenants.get(name).filter(|t| t.key.is_some()).ok_or_else(|| RealmError::NoTenant(name.clone()))
    }
}

/// All rows of a family.
async fn family(meta: &dyn Meta, family: u8) -> Result<Rows, RealmError> {
    let (mut start, end) = (vec![family], [family + 1]);
    let mut all = Vec::new();
    loop {
        let page = meta.scan(&start, &end, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        start = after(last).to_vec();
        all.extend(page);
    }
}
