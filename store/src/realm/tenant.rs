//! Tenants and their keys.

use super::{Realm, RealmError, rows};
use crate::meta::Batch;
use crate::seal::{TenantKey, WrappedKey};
use crate::volume::Quota;
use mooring_policy::ids::{Epoch, TenantId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// Its data key under the master key.
    key: WrappedKey,
    /// What its buckets may take together.
    #[serde(default)]
    pub quota: Quota,
}

fn key(name: &TenantId) -> Vec<u8> {
    rows::key(b'T', &[name.as_str().as_bytes()])
}

fn wrapped_for(name: &TenantId) -> String {
    format!("tenant/{name}")
}

impl Realm {
    /// Creates a tenant with a new data key.
    pub async fn tenant_create(&self, name: &TenantId) -> Result<Tenant, RealmError> {
        let _one = self.changing.lock().await;
        let earlier: Option<Tenant> = rows::get(&*self.meta, &key(name)).await?;
        let epoch = match earlier {
            Some(Tenant { state: TenantState::Active, .. }) => {
                return Err(RealmError::TenantExists(name.clone()));
            }
            Some(removed) => removed.epoch.next().ok_or(RealmError::Exhausted("epoch"))?,
            None => Epoch(1),
        };
        let data_key = TenantKey::generate(self.random.as_ref());
        let wrapped = self.master.wrap(&wrapped_for(name), &data_key, self.random.as_ref())?;
        let (created, state) = (self.clock.now(), TenantState::Active);
        let tenant =
            Tenant { name: name.clone(), created, state, epoch, key: wrapped, quota: Quota::default() };
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(batch).await?;
        Ok(tenant)
    }

    /// Removes a tenant that owns nothing any more. Its data key goes: what backups still hold stays sealed.
    pub async fn tenant_rm(&self, name: &TenantId) -> Result<(), RealmError> {
        let _one = self.changing.lock().await;
        let mut tenant = self.tenant(name).await?;
        let not_empty = |what| Err(RealmError::TenantNotEmpty { tenant: name.clone(), what });
        if !self.buckets(Some(name)).await?.is_empty() {
            return not_empty("buckets");
        }
        if !self.vms(Some(name)).await?.is_empty() {
            return not_empty("VMs");
        }
        let mut batch = Batch::new();
        self.forget_grants_of(name, &mut batch).await?;
        for access_key in self.access_keys(name).await? {
            batch.delete(super::keys::access_key_row(&access_key.id));
        }
        tenant.state = TenantState::Removed;
        tenant.epoch = tenant.epoch.next().ok_or(RealmError::Exhausted("epoch"))?;
        tenant.key = self.master.wrap(
            &wrapped_for(name),
            &TenantKey::generate(self.random.as_ref()),
            self.random.as_ref(),
        )?;
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(batch).await
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

    /// A tenant's data key.
    ///
    /// # Errors
    /// [`crate::seal::SealError::MasterWrong`] when the master key is another one.
    pub async fn tenant_key(&self, name: &TenantId) -> Result<TenantKey, RealmError> {
        let tenant = self.tenant(name).await?;
        Ok(self.master.unwrap_key(&wrapped_for(name), &tenant.key)?)
    }

    /// Changes what a tenant's buckets may take together.
    pub async fn tenant_set_quota(
        &self,
        name: &TenantId,
        change: impl FnOnce(Quota) -> Quota,
    ) -> Result<Tenant, RealmError> {
        let _one = self.changing.lock().await;
        let mut tenant = self.tenant(name).await?;
        tenant.quota = change(tenant.quota);
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(batch).await?;
        Ok(tenant)
    }

    /// Makes every token and credential of the tenant worthless, and returns the new epoch.
    pub async fn tenant_raise_epoch(&self, name: &TenantId) -> Result<Epoch, RealmError> {
        let _one = self.changing.lock().await;
        let mut tenant = self.tenant(name).await?;
        tenant.epoch = tenant.epoch.next().ok_or(RealmError::Exhausted("epoch"))?;
        let mut batch = Batch::new();
        rows::put(&mut batch, key(name), &tenant)?;
        self.apply(batch).await?;
        Ok(tenant.epoch)
    }
}
