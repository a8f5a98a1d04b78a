//! Snapshots of a bucket: taken, listed, forgotten and restored, with what sessions cache of it.
//!
//! Taking one is a look at everything: what sessions have gathered is handed over first, so that the snapshot holds all
//! that had been written when it was asked for. Restoring one is a change of everything: every lease on the tree is
//! recalled before it, and none is granted until it is done, so that nobody goes on with what was before.

use std::sync::Arc;

use mooring_policy::ids::VolumeId;
use mooring_protocol::types::{Ino, Time};
use mooring_store::api::SnapshotInfo;
use mooring_store::error::StoreError;
use mooring_store::realm::Schedule;

use super::coherent::{Coherent, Patience};
use super::views::{self, Views};
use super::{Core, CoreError};

/// Longest name, bytes; it is a directory's.
const MAX_NAME: usize = 255;

/// How names of snapshots begin that a schedule took.
const BY_SCHEDULE: &str = "auto-";

/// What a snapshot of a bucket cannot be called.
fn check(name: &str) -> Result<(), StoreError> {
    let fits = (1..=MAX_NAME).contains(&name.len()) && name != "." && name != "..";
    if fits && !name.contains('/') && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(StoreError::Invalid(
        "a snapshot's name is 1 to 255 bytes, no `/`, no control characters, not `.` or `..`",
    ))
}

impl Core {
    async fn views(&self, id: VolumeId) -> Result<(Arc<Coherent>, Arc<Views>), CoreError> {
        let volume = self.volume(id).await?;
        let views = volume.views().cloned();
        let source = StoreError::Unsupported("this bucket has no snapshots");
        let views = views.ok_or(CoreError::Volume { volume: id, source })?;
        Ok((volume, views))
    }

    /// Keeps a bucket's tree as it is now.
    ///
    /// # Errors
    /// The name is taken or none, or a session with unsent writes cannot be waited for.
    pub async fn snapshot_create(&self, id: VolumeId, name: &str) -> Result<SnapshotInfo, CoreError> {
        let cx = self.operator(id)?;
        let (volume, views) = self.views(id).await?;
        let failed = |source| CoreError::Volume { volume: id, source };
        check(name).map_err(failed)?;
        let patience = Patience::longest();
        let busy = |status| CoreError::Busy { volume: id, status };
        let handed_over = volume.barrier(None, None, &patience).await.map_err(busy)?;
        let pass = volume.change(None, &[views::DIRECTORY], &patience).await.map_err(busy)?;
        let made = views.head().snapshot_create(&cx, name).await.map_err(failed)?;
        drop((pass, handed_over));
        tracing::info!(volume = %id, name, "snapshot taken");
        Ok(made)
    }

    /// A bucket's snapshots, oldest first.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub async fn snapshots(&self, id: VolumeId) -> Result<Vec<SnapshotInfo>, CoreError> {
        let cx = self.operator(id)?;
        let (_, views) = self.views(id).await?;
        let listed = views.head().snapshots(&cx).await;
        let mut all = listed.map_err(|source| CoreError::Volume { volume: id, source })?;
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(all)
    }

    /// Forgets a snapshot. Who has it open finds it gone.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn snapshot_remove(&self, id: VolumeId, name: &str) -> Result<(), CoreError> {
        let cx = self.operator(id)?;
        let (volume, views) = self.views(id).await?;
        let view = self.snapshots(id).await?.into_iter().find(|info| info.name == name).map(|info| info.view);
        let failed = |source| CoreError::Volume { volume: id, source };
        let view = view.ok_or(failed(StoreError::NotFound))?;
        let concerned = |ino: Ino| ino == views::DIRECTORY || ino.view() == view;
        let mut pass = volume
            .change_all(&concerned, &[views::DIRECTORY], &Patience::longest())
            .await
            .map_err(|status| CoreError::Busy { volume: id, status })?;
        views.head().snapshot_remove(&cx, name).await.map_err(failed)?;
        views.forget();
        volume
            .finish_all(&mut pass, &concerned)
            .await
            .map_err(|status| CoreError::Busy { volume: id, status })?;
        tracing::info!(volume = %id, name, "snapshot removed");
        Ok(())
    }

    /// Makes a bucket's tree what it was, at once and as a whole. Files that are open and were not there then are stale.
    ///
    /// # Errors
    /// There is no snapshot of that name, or a session cannot be waited for.
    pub async fn snapshot_restore(&self, id: VolumeId, name: &str) -> Result<(), CoreError> {
        let cx = self.operator(id)?;
        let (volume, views) = self.views(id).await?;
        let busy = |status| CoreError::Busy { volume: id, status };
        let failed = |source| CoreError::Volume { volume: id, source };
        let head = |ino: Ino| ino.view() == 0;
        let mut pass = volume.change_all(&head, &[Ino::ROOT], &Patience::longest()).await.map_err(busy)?;
        views.head().snapshot_restore(&cx, name).await.map_err(failed)?;
        views.forget();
        volume.finish_all(&mut pass, &head).await.map_err(busy)?;
        tracing::warn!(volume = %id, name, "the bucket was restored to a snapshot");
        Ok(())
    }

    /// Takes the snapshot that a schedule asks for now, if it does, and removes the oldest of those beyond the number
    /// to keep. Only snapshots that a schedule took are counted and removed.
    ///
    /// # Errors
    /// As those of taking and removing one.
    pub async fn snapshot_when_due(&self, id: VolumeId, schedule: Schedule) -> Result<(), CoreError> {
        let of_schedule = |info: &SnapshotInfo| info.name.starts_with(BY_SCHEDULE);
        let all: Vec<SnapshotInfo> = self.snapshots(id).await?.into_iter().filter(of_schedule).collect();
        let now = self.now();
        let age = |info: &SnapshotInfo| {
            Time::from_millis(now.as_millis()).secs.saturating_sub(info.created.secs).max(0).unsigned_abs()
        };
        if all.last().is_some_and(|newest| age(newest) < schedule.every_seconds) {
            return Ok(());
        }
        self.snapshot_create(id, &views::name_at("auto", now)).await?;
        let surplus = (all.len() + 1).saturating_sub(schedule.keep as usize);
        for info in all.iter().take(surplus) {
            self.snapshot_remove(id, &info.name).await?;
        }
        Ok(())
    }
}
