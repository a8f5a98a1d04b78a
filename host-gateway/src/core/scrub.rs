//! Scrubbing and checkpoints in the background: one bucket at a time, at a rate, each once per period.
//!
//! Whether a bucket is due is told by a small file in its directory, so buckets that nobody uses are not opened for being
//! asked. One that is due is opened, as for anybody who works with it, and may close again afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mooring_policy::ids::VolumeId;
use mooring_policy::time::Timestamp;
use mooring_store::backend::VolumeDir;
use mooring_store::error::StoreError;
use mooring_store::volume::{Progress, ScrubOptions, ScrubState};

use super::doors::Doors;
use super::error::CoreError;
use super::sessions::Sessions;

/// How often it is asked which buckets are due.
const LOOK: Duration = Duration::from_secs(600);

/// From the start of the gateway to the first time: those who come back at once go first.
const FIRST: Duration = Duration::from_secs(60);

/// How buckets are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPolicy {
    /// Bytes read in a second, of all buckets together; zero: none are scrubbed.
    pub rate: u64,
    /// Every pack is read once in this time.
    pub period: Duration,
    /// A bucket that changed has a checkpoint that is at most this old; zero: none are taken.
    pub checkpoint: Duration,
}

/// Scrubs what is due, until the gateway stops.
pub(super) async fn keep_scrubbed(doors: Arc<Doors>, sessions: Arc<Sessions>, policy: ScrubPolicy) {
    let stopping = sessions.stopping().clone();
    let mut look = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = look.tick() => {}
        }
        for volume in wanting(&doors, Kept::Anywhere, |dir, now| {
            policy.checkpoint > Duration::ZERO && is_stale(dir, now, policy.checkpoint)
        }) {
            tokio::select! {
                () = stopping.cancelled() => return,
                done = checkpoint(&doors, volume) => if let Err(error) = done {
                    tracing::warn!(%volume, error = &error as &dyn std::error::Error, "no checkpoint could be taken");
                },
            }
        }
        // Stores do so themselves, and each read of one costs.
        for volume in wanting(&doors, Kept::Here, |dir, now| {
            policy.rate > 0 && ScrubState::read(dir).is_due(now, policy.period)
        }) {
            tokio::select! {
                () = stopping.cancelled() => return,
                done = scrub(&doors, volume, policy.rate) => if let Err(error) = done {
                    tracing::warn!(%volume, error = &error as &dyn std::error::Error, "a bucket could not be scrubbed");
                },
            }
        }
    }
}

/// Which buckets are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Those on this host's disk.
    Here,
    /// Those in an object store, too.
    Anywhere,
}

/// Buckets for which something is to be done.
fn wanting(doors: &Doors, kept: Kept, wants: impl Fn(&VolumeDir, Timestamp) -> bool) -> Vec<VolumeId> {
    let (registry, now) = (doors.registry.load_full(), doors.clock.now());
    let mut places = BTreeSet::new();
    let wants = |volume: &VolumeId| {
        let Some(bucket) = registry.by_volume.get(volume) else { return false };
        let dir = doors.volumes.dir(&bucket.owner, bucket.place());
        // What another store keeps as it is, is looked after there.
        if bucket.external.is_some() || kept == Kept::Here && doors.volumes.store().is_some() {
            return false;
        }
        // A bucket that was never opened has nothing in it. Of those in one volume one is enough.
        dir.packs().exists() && wants(&dir, now) && places.insert(bucket.place())
    };
    registry.by_volume.keys().copied().filter(wants).collect()
}

/// Whether the newest checkpoint is too old, and something changed since.
fn is_stale(dir: &VolumeDir, now: Timestamp, age: Duration) -> bool {
    let Some(taken) = mooring_store::checkpoint::newest(dir) else { return true };
    let changed =
        [dir.meta().join("db/manifest"), dir.journal()].iter().filter_map(|path| changed(path)).max();
    now.since(taken) >= age && changed.is_none_or(|changed| changed > taken)
}

/// When a directory, or a file in it, was last written.
fn changed(path: &Path) -> Option<Timestamp> {
    let modified = |meta: std::io::Result<std::fs::Metadata>| {
        let since = meta.ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    let files =
        std::fs::read_dir(path).ok()?.filter_map(Result::ok).filter_map(|entry| modified(entry.metadata()));
    files.chain(modified(std::fs::metadata(path))).max().map(Timestamp::from_millis)
}

async fn checkpoint(doors: &Doors, volume: VolumeId) -> Result<(), CoreError> {
    let (_open, engine) = doors.engine(volume).await?;
    match engine.checkpoint().await {
        Ok(rows) => {
            tracing::info!(%volume, rows, "checkpoint taken");
            Ok(())
        }
        Err(StoreError::Closed) => Ok(()),
        Err(source) => Err(CoreError::Volume { volume, source }),
    }
}

async fn scrub(doors: &Doors, volume: VolumeId, rate: u64) -> Result<(), CoreError> {
    let (_open, engine) = doors.engine(volume).await?;
    let options = ScrubOptions { rate: Some(rate), anew: false };
    match engine.scrub(&options, &Progress::default()).await {
        Ok(done) => {
            tracing::info!(%volume, packs = done.packs, bytes = done.bytes, damaged = done.damaged, "bucket scrubbed");
            Ok(())
        }
        // It was removed meanwhile, or the gateway stops.
        Err(StoreError::Closed) => Ok(()),
        Err(source) => Err(CoreError::Volume { volume, source }),
    }
}
