//! Buckets as S3 sees them: the caller's own by name, shares as `<owner>.<share>`.

use std::sync::Arc;

use async_trait::async_trait;
use mooring_policy::ids::{BucketName, GrantId, TenantId};
use mooring_policy::index::Status as Standing;
use mooring_policy::principal::Principal;
use mooring_policy::time::Timestamp;
use mooring_protocol::status::Status;
use mooring_protocol::types::Time;
use mooring_s3::{BucketEntry, Buckets, Identity};
use mooring_store::api::{Caller, ListQuery, Objects};
use mooring_store::error::StoreError;
use mooring_store::realm::{Attach, Bucket, Doomed, Durability, RealmError};

use crate::core::coherent::OneShot;
use crate::core::gate::Gate;
use crate::core::identity::Who;
use crate::core::registry::door_of;
use crate::core::{Core, CoreError, to_the_end};

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
    async fn list(&self, identity: &Identity) -> Result<Vec<BucketEntry>, StoreError> {
        let me = tenant(&identity.principal)?;
        let registry = self.core.registry();
        let time = |t: Timestamp| Time::from_millis(t.as_millis());
        let own = registry.by_volume.values().filter(|b| b.owner == *me);
        let mut all: Vec<_> =
            own.map(|b| BucketEntry { name: b.name.to_string(), created: time(b.created) }).collect();
        let now = self.core.now();
        let mine = registry.grants.iter().filter(|g| g.grantee == *me);
        let in_force = mine.filter(|g| registry.grants.status(g.id, now) == Some(Standing::InForce));
        all.extend(in_force.filter_map(|g| {
            let name = registry.accepted.get(&g.id)?;
            Some(BucketEntry { name: format!("{}.{name}", g.owner), created: time(g.not_before) })
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn open(
        &self,
        identity: &Identity,
        bucket: &str,
    ) -> Result<(Arc<dyn Objects>, Caller), StoreError> {
        let me = tenant(&identity.principal)?;
        let door = self.door(me, bucket).ok_or(StoreError::NotFound)?;
        let passage = Gate::open(&*self.core, &who(identity), door).await.map_err(unopened)?;
        let caller = passage.caller(self.core.now(), 0);
        Ok((OneShot::new(passage.volume), caller))
    }

    async fn create(&self, identity: &Identity, bucket: &str) -> Result<(), StoreError> {
        let me = tenant(&identity.principal)?;
        let name = BucketName::try_from(bucket).map_err(|_| StoreError::Invalid("the bucket's name"))?;
        create(&self.core, me, &name, Durability::Store).await.map(drop).map_err(|e| match e {
            CoreError::Realm(RealmError::BucketExists(..)) => StoreError::Exists,
            CoreError::Realm(RealmError::NoSuchTenant(_)) => StoreError::NotFound,
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

impl RealmBuckets {
    /// The door a bucket's name leads to, for this tenant.
    fn door(&self, me: &TenantId, bucket: &str) -> Option<u64> {
        let registry = self.core.registry();
        let Some((owner, name)) = bucket.split_once('.') else {
            let name = BucketName::try_from(bucket).ok()?;
            return registry.volumes.get(&(me.clone(), name)).map(|v| v.get());
        };
        let named = |id: &GrantId| registry.accepted.get(id).is_some_and(|n| n.as_str() == name);
        let now = self.core.now();
        let mut mine =
            registry.grants.iter().filter(|g| g.grantee == *me && g.owner.as_str() == owner && named(&g.id));
        mine.find(|g| registry.grants.status(g.id, now) == Some(Standing::InForce)).map(|g| door_of(g.id))
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
/// [`CoreError`].
pub async fn create(
    core: &Arc<Core>,
    owner: &TenantId,
    name: &BucketName,
    durability: Durability,
) -> Result<Bucket, CoreError> {
    let row = core.realm().bucket_create(owner, name, durability).await?;
    core.reload().await?;
    core.doors_changed(owner).await;
    tracing::info!(%owner, bucket = %name, volume = %row.volume, "bucket created");
    Ok(row)
}

/// Attaches a bucket of another S3 service and tells the tenant's sessions.
///
/// # Errors
/// [`CoreError`].
pub async fn attach(
    core: &Arc<Core>,
    owner: &TenantId,
    name: &BucketName,
    attach: Attach,
) -> Result<Bucket, CoreError> {
    let row = core.realm().bucket_attach(owner, name, attach).await?;
    core.reload().await?;
    core.doors_changed(owner).await;
    let there = row.external.as_ref().map(|external| external.bucket.as_str());
    tracing::info!(%owner, bucket = %name, volume = %row.volume, there, "external bucket attached");
    Ok(row)
}

/// Takes a bucket away from everybody and removes its volume. What lies in another service stays as it is.
///
/// # Errors
/// [`CoreError`].
pub async fn remove(core: &Arc<Core>, owner: &TenantId, name: &BucketName) -> Result<(), CoreError> {
    let (core, owner, name) = (Arc::clone(core), owner.clone(), name.clone());
    to_the_end(async move {
        let row = core.realm().bucket_rm(&owner, &name).await?;
        core.reload().await?;
        core.doors_changed(&owner).await;
        core.remove_volume(&Doomed::of(&row)).await?;
        tracing::info!(%owner, bucket = %name, volume = %row.volume, "bucket removed");
        Ok(())
    })
    .await
}
