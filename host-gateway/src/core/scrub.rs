//! Scrubbing in the background: one bucket at a time, at a rate, each once per period.
//!
//! Whether a bucket is due is told by a small file in its directory, so buckets that nobody uses are not opened for being
//! asked. One that is due is opened, as for anybody who works with it, and may close again afterwards.

use std::sync::Arc;
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use mooring_store::error::StoreError;
use mooring_store::volume::{Progress, ScrubOptions, ScrubState};

use super::doors::Doors;
use super::error::CoreError;
use super::sessions::Sessions;

/// How often it is asked which buckets are due.
const LOOK: Duration = Duration::from_secs(600);

/// From the start of the gateway to the first time: those who come back at once go first.
const FIRST: Duration = Duration::from_secs(60);

/// How buckets are scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPolicy {
    /// Bytes in a second, of all buckets together.
    pub rate: u64,
    /// Every pack is read once in this time.
    pub period: Duration,
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
        for volume in due(&doors, policy) {
            tokio::select! {
                () = stopping.cancelled() => return,
                done = scrub(&doors, volume, policy.rate) => if let Err(error) = done {
                    tracing::warn!(%volume, error = &error as &dyn std::error::Error, "a bucket could not be scrubbed");
                },
            }
        }
    }
}

fn due(doors: &Doors, policy: ScrubPolicy) -> Vec<VolumeId> {
    let (registry, now) = (doors.registry.load_full(), doors.clock.now());
    let is_due = |volume: &VolumeId| {
        let Some(bucket) = registry.by_volume.get(volume) else { return false };
        let dir = doors.volumes.dir(&bucket.owner, *volume);
        // A bucket that was never opened has nothing in it.
        dir.packs().exists() && ScrubState::read(&dir).is_due(now, policy.period)
    };
    registry.by_volume.keys().copied().filter(is_due).collect()
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
