//! Tenants and their keys.

use super::ring::KeyInfo;
use super::{Doomed, Realm, RealmError, rows};
use crate::meta::Batch;
use crate::seal::{KeyGeneration, MasterKey, TenantKeys};
use crate::volume::Quota;
use mooring_policy::ids::{Epoch, TenantId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a tenant may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// Yes.
    Active,
    /// It was removed. The row stays, so that a later tenant of this name continues its epochs and no old token
    /// fits it.
    Removed,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// When it was created.
    pub created: Timestamp,
    /// See [`TenantState`].
    pub state: TenantState,
    /// Tokens and credentials of an older epoch are refused.
    pub epoch: Epoch,
    /// What its buckets may take together.
    #[serde(default)]
    pub quota: Quota,
}

fn key(name: &TenantId) -> Vec<u8> {
    rows::key(b'T', &[name.as_str().as_bytes()])
}

impl Realm {
    /// Creates a tenant with new keys.
    pub async fn tenant_create(&self, name: &TenantId) -> Result<Tenant, RealmError> {
        let turn = self.turn().await?;
        let earlier: Option<Tenant> = rows::get(&*self.meta, &key(name)).await?;
        let epoch = match earlier {
            Some(Tenant { state: TenantState::Active, .. }) => {
                return Err(RealmError::TenantExists(name.clone()));
            }
            Some(removed) => removed.epoch.next().ok_or(RealmError::Exhausted("epoch"))?,
            None => Epoch(1),
        };
        let (created, state) = (self.clock.now(), TenantState::Active);
        // The key first: a row without one would be a tenant that cannot store anything.
        self.ring.add(name, created).await?;
        let tenant = Tenant { name: name.clone(), created, state, epoch, quota: Quota::default() };
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(&turn, batch).await?;
        Ok(tenant)
    }

    /// Removes a tenant and destroys its keys: what is left of its data, here or on backups of it, stays sealed. Refused
    /// while it has VMs, and while it has buckets unless `with_data`. Returns the volumes whose files are to be removed,
    /// as [`Self::doomed_volumes`] lists them.
    ///
    /// Should the process stop between the two steps, the next open destroys the keys of who was removed.
    pub async fn tenant_rm(&self, name: &TenantId, with_data: bool) -> Result<Vec<Doomed>, RealmError> {
        let turn = self.turn().await?;
        let mut tenant = self.tenant(name).await?;
        let not_empty = |what| Err(RealmError::TenantNotEmpty { tenant: name.clone(), what });
        let buckets = self.buckets(Some(name)).await?;
        if !buckets.is_empty() && !with_data {
            return not_empty("buckets");
        }
        if !self.vms(Some(name)).await?.is_empty() {
            return not_empty("VMs");
        }
        let mut batch = Batch::new();
        for bucket in &buckets {
            self.doom(bucket, &mut batch).await?;
        }
        self.forget_grants_of(name, &mut batch).await?;
        for access_key in self.access_keys(name).await? {
            batch.delete(super::keys::access_key_row(&access_key.id));
        }
        tenant.state = TenantState::Removed;
        tenant.epoch = tenant.epoch.next().ok_or(RealmError::Exhausted("epoch"))?;
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(&turn, batch).await?;
        self.ring.destroy(name).await?;
        Ok(buckets.iter().map(Doomed::of).collect())
    }

    /// What a stop between the two steps of [`Self::tenant_rm`] left.
    pub(super) async fn destroy_keys_of_removed(&self) -> Result<(), RealmError> {
        for tenant in self.tenants_ever().await? {
            if tenant.state == TenantState::Removed {
                self.ring.destroy(&tenant.name).await?;
            }
        }
        Ok(())
    }

    /// An active tenant.
    pub async fn tenant(&self, name: &TenantId) -> Result<Tenant, RealmError> {
        let found: Option<Tenant> = rows::get(&*self.meta, &key(name)).await?;
        found
            .filter(|tenant| tenant.state == TenantState::Active)
            .ok_or_else(|| RealmError::NoSuchTenant(name.clone()))
    }

    /// All active tenants, by name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, RealmError> {
        let mut all = self.tenants_ever().await?;
        all.retain(|tenant| tenant.state == TenantState::Active);
        Ok(all)
    }

    pub(super) async fn tenants_ever(&self) -> Result<Vec<Tenant>, RealmError> {
        rows::all(&*self.meta, b"T").await
    }

    /// A tenant's keys: one value for all who use them, so that a rotation reaches everybody.
    pub async fn tenant_key(&self, name: &TenantId) -> Result<Arc<TenantKeys>, RealmError> {
        let tenant = self.tenant(name).await?;
        self.ring.tenant(&tenant.name)?.ok_or(RealmError::NoSuchTenant(tenant.name))
    }

    /// Gives a tenant a new data key. Packs, journal files and engine blocks that are begun from now on are sealed by
    /// it, in volumes that are open too; what was sealed before is read with the earlier keys.
    pub async fn tenant_rotate_key(&self, name: &TenantId) -> Result<KeyGeneration, RealmError> {
        let _turn = self.turn().await?;
        let (tenant, now) = (self.tenant(name).await?, self.clock.now());
        self.ring.rotate(&tenant.name, now).await
    }

    /// Wraps every key with another master key, in one step: at any moment all of them are wrapped by one. Returns how
    /// many there are. The earlier master key is not needed any more.
    pub async fn rotate_master(&self, to: MasterKey, origin: &str) -> Result<usize, RealmError> {
        let _turn = self.turn().await?;
        self.ring.rotate_master(to, origin).await
    }

    /// Fingerprint of the master key in force, and the master keys at hand: fingerprint and place of each.
    #[must_use]
    pub fn masters(&self) -> (String, Vec<(String, String)>) {
        self.ring.masters()
    }

    /// Every data key, and which master key wraps it.
    #[must_use]
    pub fn key_list(&self) -> Vec<KeyInfo> {
        self.ring.list()
    }

    /// Changes what a tenant's buckets may take together.
    pub async fn tenant_set_quota(
        &self,
        name: &TenantId,
        change: impl FnOnce(Quota) -> Quota,
    ) -> Result<Tenant, RealmError> {
        let turn = self.turn().await?;
        let mut tenant = self.tenant(name).await?;
        tenant.quota = change(tenant.quota);
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(&turn, batch).await?;
        Ok(tenant)
    }

    /// Makes every token and credential of the tenant worthless, and returns the new epoch.
    pub async fn tenant_raise_epoch(&self, name: &TenantId) -> Result<Epoch, RealmError> {
        let turn = self.turn().await?;
        let mut tenant = self.tenant(name).await?;
        tenant.epoch = tenant.epoch.next().ok_or(RealmError::Exhausted("epoch"))?;
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(&turn, batch).await?;
        Ok(tenant.epoch)
    }
}
