//! Cloning a bucket: a second head of its volume, known by a name and a number of its own.
//!
//! The registry notes first that the new head is doomed, then the head is made, then one change of the registry takes the
//! note away and puts the bucket there. So a stop in between leaves a head that is removed after the next start, as what
//! is left of a removed bucket is, and never a bucket without files.

use std::sync::Arc;

use mooring_policy::ids::{BucketName, TenantId};
use mooring_store::error::StoreError;
use mooring_store::realm::{Bucket, Doomed, RealmError};
use mooring_store::volume::Quota;

use super::coherent::Patience;
use super::{Core, CoreError};

impl Core {
    /// Makes a bucket that shows what another shows now, or did in a snapshot. Call [`Core::reload`] afterwards.
    ///
    /// # Errors
    /// There is no such bucket or snapshot, the name is taken, a limit would be passed, or a session with unsent writes
    /// cannot be waited for.
    pub async fn bucket_clone(
        &self,
        owner: &TenantId,
        source: &BucketName,
        snapshot: Option<&str>,
        (name, quota): (&BucketName, Quota),
    ) -> Result<Bucket, CoreError> {
        let place = self.doors.volumes.places.of(self.realm.bucket(owner, source).await?.place());
        let _one = place.changing.lock().await;
        // It may have gone while this waited.
        let source = self.realm.bucket(owner, source).await?;
        if source.external.is_some() {
            return Err(CoreError::External(source.volume));
        }
        let begun = self.realm.clone_begin(&source, name, quota).await?;
        let done = match self.clone_head(&source, snapshot, &begun).await {
            Ok(()) => self.realm.clone_finish(&begun).await.map_err(CoreError::from),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                tracing::info!(%owner, bucket = %name, volume = %begun.volume, of = %source.name, snapshot, "bucket cloned");
                Ok(begun)
            }
            // It may become a bucket yet; if not, it is doomed.
            Err(error @ CoreError::Realm(RealmError::InDoubt(_))) => Err(error),
            Err(error) => {
                let doomed = Doomed::of(&begun);
                if let Err(left) = self.remove_head(&doomed, &source).await {
                    let left: &dyn std::error::Error = &left;
                    tracing::warn!(volume = %begun.volume, error = left, "what was cloned in vain goes after the next start");
                }
                Err(error)
            }
        }
    }

    async fn clone_head(
        &self,
        source: &Bucket,
        snapshot: Option<&str>,
        to: &Bucket,
    ) -> Result<(), CoreError> {
        let id = source.volume;
        let cx = self.operator(id)?;
        let (coherent, volume) = self.raw_volume(id).await?;
        let failed = |source| CoreError::Volume { volume: id, source };
        let mut handed_over = None;
        if snapshot.is_none() {
            let busy = |status| CoreError::Busy { volume: id, status };
            handed_over = Some(coherent.barrier(None, None, &Patience::longest()).await.map_err(busy)?);
        }
        let used = volume.clone_head(&cx, snapshot, to.head(), to.quota).await;
        drop(handed_over);
        let used = used.map_err(|error| match (error, snapshot) {
            (StoreError::NotFound, Some(name)) => {
                CoreError::NoSuchSnapshot { bucket: source.name.clone(), name: name.to_owned() }
            }
            (error, _) => failed(error),
        })?;
        tracing::debug!(volume = %to.volume, files = used.inodes, bytes = used.bytes(), "head cloned");
        Ok(())
    }

    /// Removes the head of a bucket that is gone from the volume that `other` lies in too.
    pub(super) async fn remove_head(&self, doomed: &Doomed, other: &Bucket) -> Result<(), CoreError> {
        let failed = |source| CoreError::Volume { volume: doomed.place(), source };
        self.doors
            .volumes
            .close_for(doomed.volume, async || {
                let (_open, volume) = self.doors.volumes.engine(other, &self.doors.grace).await?;
                volume.remove_head(doomed.head()).await.map_err(failed)
            })
            .await?;
        self.doors.volumes.budgets.forget(&doomed.owner, doomed.volume);
        Ok(self.realm.volume_removed(doomed.volume).await?)
    }

    /// A bucket that lies in the volume of one that is gone.
    pub(super) async fn beside(&self, doomed: &Doomed) -> Result<Option<Bucket>, CoreError> {
        let all = self.realm.buckets(Some(&doomed.owner)).await?;
        Ok(all.into_iter().find(|bucket| bucket.place() == doomed.place()))
    }

    /// Whether what is noted as doomed still is: a clone that was being made may have become a bucket.
    pub(super) async fn is_doomed(&self, doomed: &Doomed) -> Result<bool, CoreError> {
        Ok(self.realm.doomed_volumes().await?.contains(doomed))
    }
}

/// See [`Core::bucket_clone`]. Goes on though who asked goes away.
///
/// # Errors
/// Those of [`Core::bucket_clone`].
pub async fn clone_bucket(
    core: &Arc<Core>,
    owner: &TenantId,
    source: &BucketName,
    snapshot: Option<String>,
    (name, quota): (&BucketName, Quota),
) -> Result<Bucket, CoreError> {
    let (core, owner, source, name) = (Arc::clone(core), owner.clone(), source.clone(), name.clone());
    super::to_the_end(async move {
        let made = core.bucket_clone(&owner, &source, snapshot.as_deref(), (&name, quota)).await?;
        core.reload().await?;
        core.doors_changed(&owner).await;
        Ok(made)
    })
    .await
}
