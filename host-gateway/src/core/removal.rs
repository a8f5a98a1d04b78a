//! Removing what belonged to a bucket or a tenant that is gone. Where other buckets lie in the same volume (clones), only
//! its head goes.
//!
//! The registry says first that it is gone, and which volumes are doomed; their files go afterwards, in the background
//! where nobody has to wait for them. What a stop leaves of them goes after the next start.

use std::sync::Arc;

use mooring_protocol::caps;
use mooring_store::backend::{BackendError, VolumeDir};
use mooring_store::realm::Doomed;

use super::{Core, CoreError, LET_GO};

impl Core {
    /// Closes a removed bucket's volume, removes its directory and tells the registry so. Its door is closed in every
    /// session first.
    ///
    /// # Errors
    /// The directory cannot be removed; the registry then still names the volume as doomed.
    pub async fn remove_volume(&self, doomed: &Doomed) -> Result<(), CoreError> {
        let (owner, id) = (&doomed.owner, doomed.volume);
        let place = self.doors.volumes.places.of(doomed.place());
        let _one = place.changing.lock().await;
        if !self.is_doomed(doomed).await? {
            return Ok(());
        }
        self.sessions.close_door(id.get(), caps::RECALL_DEADLINE).await;
        if let Some(other) = self.beside(doomed).await? {
            return self.remove_head(doomed, &other).await;
        }
        let dir = self.doors.volumes.dir(owner, doomed.place());
        // Those of clones that are gone too.
        self.doors.volumes.close_place(doomed.place()).await;
        let removed = self.doors.volumes.close_for(id, async || {
            if let Some(store) = self.doors.volumes.store() {
                store.backing.volume(owner, doomed.place()).remove().await?;
            }
            remove(dir).await
        });
        removed.await.map_err(|source| CoreError::Remove { volume: id, source })?;
        self.doors.volumes.budgets.forget(owner, id);
        Ok(self.realm.volume_removed(id).await?)
    }

    /// Removes volumes in the background, one after another; a failure is logged, and tried again after the next start.
    pub fn remove_later(self: &Arc<Self>, doomed: Vec<Doomed>) {
        if doomed.is_empty() {
            return;
        }
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            for doomed in doomed {
                let (owner, volume) = (&doomed.owner, doomed.volume);
                let removed = tokio::select! {
                    () = core.sessions.stopping().cancelled() => return,
                    removed = core.remove_volume(&doomed) => removed,
                };
                match removed {
                    Ok(()) => tracing::info!(tenant = %owner, %volume, "the files of a volume are gone"),
                    Err(error) => {
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(tenant = %owner, %volume, %error, source, "a removed volume's files are still there");
                    }
                }
            }
        });
    }

    /// Goes on with what an earlier life of the gateway was removing.
    pub(super) async fn remove_doomed(self: &Arc<Self>) -> Result<(), CoreError> {
        self.remove_later(self.realm.doomed_volumes().await?);
        Ok(())
    }
}

async fn remove(dir: VolumeDir) -> Result<(), BackendError> {
    if !dir.path().exists() {
        // Removed, or about to be when the process stopped.
        return off_thread(move || dir.remove_rest()).await;
    }
    let lock = tokio::time::timeout(caps::RECALL_DEADLINE, async {
        loop {
            match dir.lock() {
                // Requests that came before the door closed are being refused, and hold it until they are.
                Err(BackendError::Locked { .. }) => tokio::time::sleep(LET_GO).await,
                lock => return lock,
            }
        }
    });
    let lock = match lock.await {
        Ok(lock) => lock?,
        Err(_) => dir.lock()?,
    };
    off_thread(move || dir.remove(lock)).await
}

/// A tree of many files takes its time.
async fn off_thread(
    work: impl FnOnce() -> Result<(), BackendError> + Send + 'static,
) -> Result<(), BackendError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
