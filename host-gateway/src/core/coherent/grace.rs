//! The time after a start in which the sessions of before may put back what they hold.
//!
//! Until every one of them did, or the period is over, the volumes they had open grant nothing that could conflict with
//! what an absent session still holds. One such period serves the whole gateway; each volume leaves it as soon as its
//! own sessions are back, so one tenant's dead VM holds up nobody else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Which sessions are still awaited, and on which volumes.
#[derive(Debug)]
pub struct Grace {
    awaited: Mutex<HashMap<u64, HashSet<VolumeId>>>,
    changed: watch::Sender<()>,
}

impl Grace {
    /// A period for these sessions. [`Grace::run`] ends it by time.
    pub fn new(sessions: impl IntoIterator<Item = (u64, HashSet<VolumeId>)>) -> Grace {
        let awaited = sessions.into_iter().filter(|(_, volumes)| !volumes.is_empty()).collect();
        Grace { awaited: Mutex::new(awaited), changed: watch::Sender::new(()) }
    }

    /// Waits until everybody came back or `limit` is over. Returns the sessions that did not come.
    pub async fn run(&self, limit: Duration) -> Vec<u64> {
        // Whether it ended by time shows in who is left.
        let _ = tokio::time::timeout(limit, self.until(|awaited| awaited.is_empty())).await;
        let missing = std::mem::take(&mut *self.awaited.lock()).into_keys().collect();
        self.changed.send_replace(());
        missing
    }

    /// Whether sessions of before are still awaited on this volume.
    pub fn is_pending(&self, volume: VolumeId) -> bool {
        pending(&self.awaited.lock(), volume)
    }

    /// Waits until nobody is awaited on this volume.
    pub async fn over(&self, volume: VolumeId) {
        self.until(|awaited| !pending(awaited, volume)).await;
    }

    /// Whether nobody is awaited any more.
    pub fn is_over(&self) -> bool {
        self.awaited.lock().is_empty()
    }

    /// A session has put back everything it holds on one volume.
    pub fn reclaimed(&self, session: u64, volume: VolumeId) {
        let mut awaited = self.awaited.lock();
        if let Some(volumes) = awaited.get_mut(&session) {
            volumes.remove(&volume);
            if volumes.is_empty() {
                awaited.remove(&session);
            }
        }
        drop(awaited);
        self.changed.send_replace(());
    }

    /// A session will not come back.
    pub fn gone(&self, session: u64) {
        self.awaited.lock().remove(&session);
        self.changed.send_replace(());
    }

    async fn until(&self, holds: impl Fn(&HashMap<u64, HashSet<VolumeId>>) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.awaited.lock()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn pending(awaited: &HashMap<u64, HashSet<VolumeId>>, volume: VolumeId) -> bool {
    awaited.values().any(|volumes| volumes.contains(&volume))
}
