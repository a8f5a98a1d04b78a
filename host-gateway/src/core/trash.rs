//! The trash of buckets: looked into, brought back from, emptied, and emptied by itself of what is too old.
//!
//! To throw away or to look changes nothing that a session has cached. To bring back changes directories: every lease on
//! the tree is recalled first, as for a restored snapshot.

use std::collections::HashMap;
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use mooring_policy::time::Timestamp;
use mooring_protocol::types::{Ino, Time};
use mooring_store::api::Tree;
use mooring_store::error::StoreError;
use mooring_store::volume::{Emptied, Restored, Trashed};

use super::coherent::Patience;
use super::{Core, CoreError};

/// Entries of one page.
const PAGE: usize = 1000;

/// How often a trash is looked through that has nothing old: what is in it is not remembered.
const LOOK: Duration = Duration::from_secs(3600);

/// When which trash is looked through next, if it keeps for so many seconds still.
pub type Due = HashMap<VolumeId, (u64, Timestamp)>;

fn seconds(time: Timestamp) -> i64 {
    Time::from_millis(time.as_millis()).secs
}

impl Core {
    /// Puts in force whether a bucket has a trash. Call it after [`Core::reload`].
    pub async fn trash_changed(&self, id: VolumeId) {
        let on = self.registry().by_volume.get(&id).is_some_and(|bucket| bucket.trash_seconds.is_some());
        if let Some(volume) = self.opened(id).await {
            volume.set_trash(on);
        }
    }

    /// A page of what is in a bucket's trash.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub async fn trash(
        &self,
        id: VolumeId,
        after: Option<Ino>,
    ) -> Result<(Vec<Trashed>, Option<Ino>), CoreError> {
        let (cx, failed) = (self.operator(id)?, |source| CoreError::Volume { volume: id, source });
        let (_open, volume) = self.raw_volume(id).await?;
        volume.trash_page(&cx, after, PAGE).await.map_err(failed)
    }

    /// Brings back what has this number, or the newest that had this path.
    ///
    /// # Errors
    /// It is not there, its place is taken, or a session cannot be waited for.
    pub async fn trash_restore(
        &self,
        id: VolumeId,
        what: &str,
        into: Option<&str>,
    ) -> Result<Restored, CoreError> {
        let (cx, failed) = (self.operator(id)?, |source| CoreError::Volume { volume: id, source });
        let busy = |status| CoreError::Busy { volume: id, status };
        let (coherent, volume) = self.raw_volume(id).await?;
        let ino = match what.parse().ok().and_then(Ino::new) {
            Some(ino) => ino,
            None => self.newest_of(id, what).await?,
        };
        let head = |ino: Ino| ino.view() == 0;
        let mut pass = coherent.change_all(&head, &[Ino::ROOT], &Patience::longest()).await.map_err(busy)?;
        let into = match into {
            Some(path) => Some(volume.resolve(path.as_bytes()).await.map_err(failed)?.ino),
            None => None,
        };
        let done = volume.trash_restore(&cx, ino, into).await.map_err(failed)?;
        coherent.finish_all(&mut pass, &head).await.map_err(busy)?;
        tracing::info!(volume = %id, what, restored = done.restored, "brought back from the trash");
        Ok(done)
    }

    /// The newest in the trash that had this path.
    async fn newest_of(&self, id: VolumeId, path: &str) -> Result<Ino, CoreError> {
        let path = path.trim_matches('/').as_bytes();
        let (mut newest, mut after): (Option<Trashed>, _) = (None, None);
        loop {
            let (page, next) = self.trash(id, after).await?;
            let named = page.into_iter().filter(|entry| entry.path.as_deref() == Some(path));
            newest = newest.into_iter().chain(named).max_by_key(|entry| (entry.removed, entry.ino));
            after = match next {
                Some(next) => Some(next),
                None => break,
            };
        }
        let none = CoreError::Volume { volume: id, source: StoreError::NotFound };
        newest.map(|entry| entry.ino).ok_or(none)
    }

    /// Throws away for good what is in a bucket's trash; with `keep` what is older than that.
    ///
    /// # Errors
    /// The volume cannot be changed.
    pub async fn trash_empty(&self, id: VolumeId, keep: Option<u64>) -> Result<Emptied, CoreError> {
        let (cx, failed) = (self.operator(id)?, |source| CoreError::Volume { volume: id, source });
        let (_open, volume) = self.raw_volume(id).await?;
        let before = keep.map(|keep| {
            let secs = seconds(self.now()).saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
            Time { secs, nanos: 0 }
        });
        let done = volume.trash_empty(&cx, before).await.map_err(failed)?;
        if done.removed > 0 {
            tracing::info!(volume = %id, removed = done.removed, "the trash was emptied");
        }
        Ok(done)
    }

    /// Throws away what has been in a bucket's trash for longer than it keeps, if it may be time for that. Says in `due`
    /// when to look again: when the oldest will be too old, and after an hour at the latest.
    ///
    /// # Errors
    /// The volume cannot be changed; it is tried again after an hour.
    pub async fn trash_when_due(&self, id: VolumeId, keep: u64, due: &mut Due) -> Result<(), CoreError> {
        let now = self.now();
        if due.get(&id).is_some_and(|(kept, at)| *kept == keep && now < *at) {
            return Ok(());
        }
        let in_seconds = |seconds: u64| Timestamp::from_millis(now.as_millis() + seconds * 1000);
        due.insert(id, (keep, in_seconds(LOOK.as_secs())));
        let done = self.trash_empty(id, Some(keep)).await?;
        // What is thrown away from now on is too old after `keep` at the earliest.
        let age =
            done.oldest.map_or(0, |oldest| seconds(now).saturating_sub(oldest.secs).max(0).unsigned_abs());
        due.insert(id, (keep, in_seconds(keep.saturating_sub(age).clamp(1, LOOK.as_secs()))));
        Ok(())
    }
}
