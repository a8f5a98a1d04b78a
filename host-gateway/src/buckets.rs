//! Buckets as S3 sees them: the caller's own by name, shares as `<owner>.<share>`.

use std::sync::Arc;

use async_trait::async_trait;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::principal::Principal;
use mooring_protocol::status::Status;
use mooring_protocol::types::Time;
use mooring_s3::{BucketEntry, Buckets, Identity};
use mooring_store::api::{Caller, ListQuery, Objects};
use mooring_store::error::StoreError;
use mooring_store::realm::{BucketRecord, RealmError};

use crate::core::Core;
use crate::core::coherent::OneShot;
use crate::core::gate::Gate;
use crate::core::identity::Who;
use crate::shares;

/// S3's question which bucket is meant, answered from the registry.
pub struct RealmBuckets {
    core: Arc<Core>,
}

impl RealmBuckets {
    /// Over this gateway's registry.
    pub fn new(core: Arc<Core>) -> RealmBuckets {
        RealmBuckets { core }
    }
}

fn who(identity: &Identity) -> Who {
    Who { principal: identity.principal.clone(), scope: identity.scope.as_deref().cloned() }
}

fn tenant(principal: &Principal) -> Result<&TenantId, StoreError> {
    principal.tenant().ok_or(StoreError::NotFound)
}

/// What a bucket's name that is none, or one of somebody else, is: not there.
fn parse(name: &str) -> Result<BucketName, StoreError> {
    BucketName::try_from(name).map_err(|_| StoreError::NotFound)
}

#[async_trait]
impl Buckets for RealmBuckets {
    async fn list(&self, who: &Identity) -> Result<Vec<BucketEntry>, StoreError> {
        let me = tenant(&who.principal)?;
        let time = |t: mooring_policy::time::Timestamp| Time::from_millis(t.as_millis());
        let own = self.core.realm().buckets(Some(me)).into_iter();
        let mut all: Vec<_> =
            own.map(|b| BucketEntry { name: b.name.to_string(), created: time(b.created) }).collect();
        let now = self.core.now();
        let grants = self.core.grants();
        let mine = self.core.realm().grants().into_iter().filter(|r| r.grant.grantee == *me);
        let in_force =
            mine.filter(|r| grants.status(r.grant.id, now) == Some(mooring_policy::index::Status::InForce));
        all.extend(in_force.map(|r| BucketEntry {
            name: format!("{}.{}", r.grant.owner, r.grant.name),
            created: time(r.created),
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn open(&self, identity: &Identity, bucket: &str) -> Result<(Arc<dyn Objects>, Caller), StoreError> {
        let me = tenant(&identity.principal)?;
        let door = match bucket.split_once('.') {
            Some((owner, name)) => shares::held(&self.core, me, owner, name).ok_or(StoreError::NotFound)?.door(),
            None => self.core.realm().bucket(me, &parse(bucket)?).map_err(|_| StoreError::NotFound)?.volume.get(),
        };
        let passage = self.core.open(&who(identity), door).await.map_err(unopened)?;
        let caller = passage.caller(self.core.now(), 0);
        Ok((Arc::new(OneShot::new(passage.volume)), caller))
    }

    async fn create(&self, who: &Identity, bucket: &str) -> Result<(), StoreError> {
        let me = tenant(&who.principal)?;
        let name = BucketName::try_from(bucket).map_err(|_| StoreError::Invalid("the bucket's name"))?;
        create(&self.core, me, &name).await.map(drop).map_err(|e| match e {
            RealmError::BucketExists { .. } => StoreError::Exists,
            RealmError::NoTenant(_) => StoreError::NotFound,
            other => StoreError::Store(Box::new(other)),
        })
    }

    async fn delete(&self, identity: &Identity, bucket: &str) -> Result<(), StoreError> {
        let me = tenant(&identity.principal)?;
        let name = parse(bucket)?;
        let (objects, caller) = self.open(identity, bucket).await?;
        let page = objects.list(&caller, &ListQuery { limit: 1, ..ListQuery::default() }).await?;
        if !page.objects.is_empty() || !page.prefixes.is_empty() {
            return Err(StoreError::NotEmpty);
        }
        drop(objects);
        remove(&self.core, me, &name).await.map_err(|e| StoreError::Store(Box::new(e)))
    }
}

fn unopened(status: Status) -> StoreError {
    match status {
        Status::AccessDenied => StoreError::AccessDenied("this share".to_owned()),
        Status::Unavailable | Status::InGrace => StoreError::Closed,
        Status::Io => StoreError::Store("the volume could not be opened".into()),
        _ => StoreError::NotFound,
    }
}

/// Makes a bucket and tells the tenant's sessions.
///
/// # Errors
/// [`RealmError`].
pub async fn create(core: &Arc<Core>, owner: &TenantId, name: &BucketName) -> Result<BucketRecord, RealmError> {
    let row = core.realm().bucket_create(owner, name).await?;
    core.doors_changed(owner).await;
    tracing::info!(%owner, bucket = %name, volume = %row.volume, "bucket created");
    Ok(row)
}

/// Takes a bucket away from everybody and removes its volume.
///
/// # Errors
/// [`crate::core::CoreError`].
pub async fn remove(core: &Arc<Core>, owner: &TenantId, name: &BucketName) -> Result<(), crate::core::CoreError> {
    let row = core.realm().bucket_rm(owner, name).await?;
    core.reload_grants();
    core.remove_volume(&row).await?;
    core.doors_changed(owner).await;
    tracing::info!(%owner, bucket = %name, volume = %row.volume, "bucket removed");
    Ok(())
}
