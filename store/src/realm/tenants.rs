//! Tenants and their access keys.

use mooring_policy::access::AccessKey;
use mooring_policy::ids::{Epoch, TenantId};
use mooring_policy::revoke::Revocations;

use super::rows::{self, TenantRecord};
use super::secrets::REALM_NAME;
use super::{Realm, RealmError};
use crate::meta::Batch;
use crate::seal::TenantKey;

impl Realm {
    /// Makes a tenant with a data key of its own. A name used before starts at a higher epoch.
    ///
    /// # Errors
    /// [`RealmError::TenantExists`].
    pub async fn tenant_create(&self, name: &TenantId) -> Result<TenantRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let epoch = match self.state.read().tenants.get(name) {
            Some(old) if old.key.is_some() => return Err(RealmError::TenantExists(name.clone())),
            _ if name.as_str() == REALM_NAME => return Err(RealmError::TenantExists(name.clone())),
            Some(old) => Epoch(old.epoch.get().saturating_add(1)),
            None => Epoch(1),
        };
        let key = self.master.wrap(name, &TenantKey::generate(&*self.random), &*self.random)?;
        let row = TenantRecord { name: name.clone(), created: self.now(), epoch, key: Some(key) };
        self.put_tenant(row.clone()).await?;
        Ok(row)
    }

    /// Removes a tenant without buckets and VMs, and with it its data key, its access keys and the grants it has.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`], [`RealmError::TenantInUse`].
    pub async fn tenant_rm(&self, name: &TenantId) -> Result<(), RealmError> {
        let _turn = self.writing.lock().await;
        let (row, keys) = {
            let state = self.state.read();
            let row = state.tenant(name)?.clone();
            let buckets = state.buckets.keys().filter(|(t, _)| t == name).count();
            let vms = state.vms.values().filter(|v| v.tenant == *name && v.channel.is_some()).count();
            if buckets + vms > 0 {
                return Err(RealmError::TenantInUse { tenant: name.clone(), buckets, vms });
            }
            let keys: Vec<_> =
                state.access_keys.values().filter(|k| k.tenant == *name).map(|k| k.id.clone()).collect();
            (row, keys)
        };
        let grants: Vec<_> =
            self.grants().into_iter().filter(|g| g.grant.grantee == *name && g.revoked.is_none()).collect();
        for grant in grants {
            self.revoke_in_turn(grant.grant.id).await?;
        }
        let gone = TenantRecord { key: None, ..row };
        let mut batch = Batch::new();
        batch.put(rows::tenant_key(name), rows::encode("tenant", &gone)?);
        for id in &keys {
            batch.delete(rows::access_key(id));
        }
        self.write(batch, |state| {
            state.tenants.insert(name.clone(), gone);
            state.access_keys.retain(|_, k| k.tenant != *name);
        })
        .await
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> Vec<TenantRecord> {
        self.state.read().tenants.values().filter(|t| t.key.is_some()).cloned().collect()
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`].
    pub fn tenant(&self, name: &TenantId) -> Result<TenantRecord, RealmError> {
        self.state.read().tenant(name).cloned()
    }

    /// The tenant's data key.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`], [`RealmError::Seal`] when the master key is not the one that wrapped it.
    pub fn tenant_key(&self, name: &TenantId) -> Result<TenantKey, RealmError> {
        let row = self.tenant(name)?;
        let wrapped = row.key.as_ref().ok_or_else(|| RealmError::NoTenant(name.clone()))?;
        Ok(self.master.unwrap_key(name, wrapped)?)
    }

    /// What tokens must be at least: generations of VMs, epochs of tenants.
    pub fn revocations(&self) -> Revocations {
        let state = self.state.read();
        let mut revocations = Revocations::new();
        for tenant in state.tenants.values() {
            let epoch = if tenant.key.is_some() { tenant.epoch } else { Epoch(u64::MAX) };
            revocations.require_epoch(&tenant.name, epoch);
        }
        for vm in state.vms.values() {
            revocations.require_generation(&vm.tenant, &vm.vm, vm.generation);
        }
        revocations
    }

    async fn put_tenant(&self, row: TenantRecord) -> Result<(), RealmError> {
        let mut batch = Batch::new();
        batch.put(rows::tenant_key(&row.name), rows::encode("tenant", &row)?);
        self.write(batch, |state| {
            state.tenants.insert(row.name.clone(), row);
        })
        .await
    }

    /// Stores an access key of an existing tenant.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`].
    pub async fn access_key_put(&self, key: AccessKey) -> Result<(), RealmError> {
        let _turn = self.writing.lock().await;
        self.state.read().tenant(&key.tenant)?;
        let bytes = key.to_secret_bytes().map_err(|_| RealmError::Row { family: "access key" })?;
        let mut batch = Batch::new();
        batch.put(rows::access_key(&key.id), bytes.to_vec());
        self.write(batch, |state| {
            state.access_keys.insert(key.id.clone(), key);
        })
        .await
    }

    /// The access key with this id.
    pub fn access_key(&self, id: &str) -> Option<AccessKey> {
        self.state.read().access_keys.get(id).cloned()
    }

    /// All access keys.
    pub fn access_keys(&self) -> Vec<AccessKey> {
        self.state.read().access_keys.values().cloned().collect()
    }

    /// Removes an access key; `false` when there is none of this id.
    ///
    /// # Errors
    /// [`RealmError::Meta`].
    pub async fn access_key_rm(&self, id: &str) -> Result<bool, RealmError> {
        let _turn = self.writing.lock().await;
        if self.access_key(id).is_none() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.delete(rows::access_key(id));
        self.write(batch, |state| {
            state.access_keys.remove(id);
        })
        .await?;
        Ok(true)
    }
}
