//! Buckets and their volumes.

use mooring_policy::ids::{BucketName, TenantId, VolumeId};

use super::rows::{self, BucketRecord};
use super::{Realm, RealmError};
use crate::meta::Batch;

impl Realm {
    /// Registers a bucket and gives it a volume id that was never used before.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`], [`RealmError::BucketExists`].
    pub async fn bucket_create(
        &self,
        owner: &TenantId,
        name: &BucketName,
    ) -> Result<BucketRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let id = {
            let state = self.state.read();
            state.tenant(owner)?;
            if state.buckets.contains_key(&(owner.clone(), name.clone())) {
                return Err(RealmError::BucketExists { owner: owner.clone(), bucket: name.clone() });
            }
            state.next_volume
        };
        let volume = VolumeId(id);
        let row = BucketRecord { owner: owner.clone(), name: name.clone(), volume, created: self.now() };
        let mut batch = Batch::new();
        batch.put(rows::NEXT_VOLUME, rows::encode("volume ids", &(id + 1))?);
        batch.put(rows::bucket_key(owner, name), rows::encode("bucket", &row)?);
        let applied = row.clone();
        self.write(batch, |state| {
            state.next_volume = id + 1;
            state.put_bucket(applied);
        })
        .await?;
        Ok(row)
    }

    /// Takes a bucket off the registry and revokes the grants on it. Its volume is the caller's to remove.
    ///
    /// # Errors
    /// [`RealmError::NoBucket`].
    pub async fn bucket_rm(&self, owner: &TenantId, name: &BucketName) -> Result<BucketRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let row = self.bucket(owner, name)?;
        let grants: Vec<_> = self
            .grants()
            .into_iter()
            .filter(|g| g.grant.owner == *owner && g.grant.bucket == *name && g.revoked.is_none())
            .collect();
        for grant in grants {
            self.revoke_in_turn(grant.grant.id).await?;
        }
        let mut batch = Batch::new();
        batch.delete(rows::bucket_key(owner, name));
        self.write(batch, |state| {
            state.buckets.remove(&(owner.clone(), name.clone()));
            state.volumes.remove(&row.volume);
        })
        .await?;
        Ok(row)
    }

    /// One bucket.
    ///
    /// # Errors
    /// [`RealmError::NoBucket`].
    pub fn bucket(&self, owner: &TenantId, name: &BucketName) -> Result<BucketRecord, RealmError> {
        let found = self.state.read().buckets.get(&(owner.clone(), name.clone())).cloned();
        found.ok_or_else(|| RealmError::NoBucket { owner: owner.clone(), bucket: name.clone() })
    }

    /// The buckets of a tenant, or all, by name.
    pub fn buckets(&self, owner: Option<&TenantId>) -> Vec<BucketRecord> {
        let state = self.state.read();
        state.buckets.values().filter(|b| owner.is_none_or(|o| *o == b.owner)).cloned().collect()
    }

    /// The bucket that a volume is.
    pub fn bucket_of(&self, volume: VolumeId) -> Option<BucketRecord> {
        let state = self.state.read();
        state.volumes.get(&volume).and_then(|key| state.buckets.get(key)).cloned()
    }
}
