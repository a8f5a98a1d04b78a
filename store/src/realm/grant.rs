//! Grants: signed statements and the indexes that find them.

use super::{Realm, RealmError, rows};
use crate::meta::Batch;
use mooring_policy::grant::Grant;
use mooring_policy::ids::{BucketName, GrantId, ShareName, TenantId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A grant as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// What it says.
    pub grant: Grant,
    /// The same, signed.
    pub statement: String,
    /// The name under which the grantee took it; `None` while only offered.
    #[serde(default)]
    pub accepted: Option<ShareName>,
    /// When it was revoked. Revoked rows stay for the audit until the bucket goes.
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

impl GrantRow {
    /// Neither revoked nor ended nor still to begin.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.grant.is_current(now)
    }
}

fn key(id: GrantId) -> Vec<u8> {
    rows::key(b'G', &[id.as_bytes()])
}

fn index_keys(grant: &Grant) -> [Vec<u8>; 2] {
    let of =
        |family, tenant: &TenantId| rows::key(family, &[tenant.as_str().as_bytes(), grant.id.as_bytes()]);
    [of(b'g', &grant.grantee), of(b'o', &grant.owner)]
}

impl Realm {
    /// Keeps a grant and its signed statement. The caller has verified that the statement says the grant.
    pub async fn grant_put(&self, grant: Grant, statement: String) -> Result<GrantRow, RealmError> {
        let turn = self.turn().await?;
        self.tenant(&grant.grantee).await?;
        self.bucket(&grant.owner, &grant.bucket).await?;
        if rows::get::<GrantRow>(&*self.meta, &key(grant.id)).await?.is_some() {
            return Err(RealmError::GrantExists(grant.id));
        }
        let row = GrantRow { grant, statement, accepted: None, revoked: None };
        let mut batch = Batch::new();
        put_row(&mut batch, &row)?;
        self.apply(&turn, batch).await?;
        Ok(row)
    }

    /// A grant, revoked ones included.
    pub async fn grant(&self, id: GrantId) -> Result<GrantRow, RealmError> {
        rows::get(&*self.meta, &key(id)).await?.ok_or(RealmError::NoSuchGrant(id))
    }

    /// Notes that the grantee took the grant under `name`, or gave it back (`None`).
    pub async fn grant_accept(&self, id: GrantId, name: Option<ShareName>) -> Result<GrantRow, RealmError> {
        let turn = self.turn().await?;
        let row = GrantRow { accepted: name, ..self.grant(id).await? };
        let mut batch = Batch::new();
        put_row(&mut batch, &row)?;
        self.apply(&turn, batch).await?;
        Ok(row)
    }

    /// Revokes a grant and all that were delegated from it, together. Returns those this call revoked.
    pub async fn grant_revoke(&self, id: GrantId) -> Result<Vec<GrantRow>, RealmError> {
        let turn = self.turn().await?;
        self.grant(id).await?;
        let all = self.grants().await?;
        let mut ended = HashSet::from([id]);
        // A delegation names its parent; depth is small, so a few rounds find them all.
        loop {
            let before = ended.len();
            let below =
                all.iter().filter(|row| row.grant.parent.is_some_and(|parent| ended.contains(&parent)));
            let below: Vec<_> = below.map(|row| row.grant.id).collect();
            ended.extend(below);
            if ended.len() == before {
                break;
            }
        }
        let (now, mut batch, mut revoked) = (self.clock.now(), Batch::new(), Vec::new());
        for row in all.into_iter().filter(|row| row.revoked.is_none() && ended.contains(&row.grant.id)) {
            let row = GrantRow { revoked: Some(now), ..row };
            put_row(&mut batch, &row)?;
            revoked.push(row);
        }
        self.apply(&turn, batch).await?;
        Ok(revoked)
    }

    /// All grants, revoked ones included.
    pub async fn grants(&self) -> Result<Vec<GrantRow>, RealmError> {
        rows::all(&*self.meta, b"G").await
    }

    /// What others granted to `grantee`.
    pub async fn grants_of_grantee(&self, grantee: &TenantId) -> Result<Vec<GrantRow>, RealmError> {
        self.indexed(b'g', grantee).await
    }

    /// What `owner` granted to others.
    pub async fn grants_of_owner(&self, owner: &TenantId) -> Result<Vec<GrantRow>, RealmError> {
        self.indexed(b'o', owner).await
    }

    async fn indexed(&self, family: u8, tenant: &TenantId) -> Result<Vec<GrantRow>, RealmError> {
        let prefix = rows::below(family, tenant.as_str().as_bytes());
        let mut found = Vec::new();
        for (index, _) in rows::all_raw(&*self.meta, &prefix).await? {
            let row = rows::key(b'G', &[&index[prefix.len()..]]);
            found.extend(rows::get::<GrantRow>(&*self.meta, &row).await?);
        }
        Ok(found)
    }

    /// Deletes every grant on a bucket.
    pub(super) async fn forget_grants_on(
        &self,
        owner: &TenantId,
        bucket: &BucketName,
        batch: &mut Batch,
    ) -> Result<(), RealmError> {
        let grants = self.grants_of_owner(owner).await?;
        grants.iter().filter(|row| row.grant.bucket == *bucket).for_each(|row| delete_row(batch, &row.grant));
        Ok(())
    }

    /// Deletes every grant from or to a tenant.
    pub(super) async fn forget_grants_of(
        &self,
        tenant: &TenantId,
        batch: &mut Batch,
    ) -> Result<(), RealmError> {
        let (owned, received) = (self.grants_of_owner(tenant).await?, self.grants_of_grantee(tenant).await?);
        owned.iter().chain(&received).for_each(|row| delete_row(batch, &row.grant));
        Ok(())
    }

    /// Makes the indexes say what the grants say. At open: a registry restored from its grants alone works.
    pub(super) async fn repair_grant_index(&self) -> Result<(), RealmError> {
        let wanted: HashSet<Vec<u8>> =
            self.grants().await?.iter().flat_map(|row| index_keys(&row.grant)).collect();
        let mut there = HashSet::new();
        for family in [b"g", b"o"] {
            there.extend(rows::all_raw(&*self.meta, family).await?.into_iter().map(|(key, _)| key.to_vec()));
        }
        let mut batch = Batch::new();
        for missing in wanted.difference(&there) {
            rows::put(&mut batch, missing.clone(), &())?;
        }
        for stale in there.difference(&wanted) {
            batch.delete(stale.clone());
        }
        if batch.is_empty() { Ok(()) } else { self.apply(&self.turn().await?, batch).await }
    }
}

fn put_row(batch: &mut Batch, row: &GrantRow) -> Result<(), RealmError> {
    for index in index_keys(&row.grant) {
        rows::put(batch, index, &())?;
    }
    rows::put(batch, key(row.grant.id), row)
}

fn delete_row(batch: &mut Batch, grant: &Grant) {
    for index in index_keys(grant) {
        batch.delete(index);
    }
    batch.delete(key(grant.id));
}
