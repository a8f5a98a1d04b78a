//! The time after a start in which the sessions of before may put back what they hold.
//!
//! Until every one of them did, or the period is over, the volumes they had open grant nothing that could conflict with
//! what an absent session still holds. One such period serves the whole gateway; each volume leaves it as soon as its
//! own sessions are back, so one tenant's dead VM holds up nobody else.
//!
//! A session can put nothing back while the volume is being opened, which takes long on a busy disk. So nobody's time
//! runs meanwhile: it begins with the start, and anew when a volume that the session is awaited on is open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// Which sessions are still awaited, and on which volumes.
#[derive(Debug)]
pub struct Grace {
    awaited: Mutex<HashMap<u64, HashSet<VolumeId>>>,
    /// Volumes that were opened since the start, and when; nothing while that is under way.
    opened: Mutex<HashMap<VolumeId, Option<Instant>>>,
    began: Instant,
    changed: watch::Sender<()>,
}

/// A volume is being opened. When this is dropped it is open, or will not be.
#[derive(Debug)]
pub struct Opening {
    grace: Arc<Grace>,
    volume: VolumeId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.grace.opened.lock().insert(self.volume, Some(Instant::now()));
        self.grace.changed.send_replace(());
    }
}

impl Grace {
    /// A period for these sessions. [`Grace::overdue`] ends it by time.
    pub fn new(sessions: impl IntoIterator<Item = (u64, HashSet<VolumeId>)>) -> Grace {
        let awaited = sessions.into_iter().filter(|(_, volumes)| !volumes.is_empty()).collect();
        Grace {
            awaited: Mutex::new(awaited),
            opened: Mutex::default(),
            began: Instant::now(),
            changed: watch::Sender::new(()),
        }
    }

    /// Says that a volume is being opened: who is awaited on it has time until `limit` after its end.
    pub fn opening(self: &Arc<Self>, volume: VolumeId) -> Option<Opening> {
        if !self.is_pending(volume) {
            return None;
        }
        self.opened.lock().insert(volume, None);
        Some(Opening { grace: self.clone(), volume })
    }

    /// Waits for sessions that had `limit` to come back and did not, and awaits them no longer. `None` when everybody
    /// came back or was given up.
    pub async fn overdue(&self, limit: Duration) -> Option<Vec<u64>> {
        let mut changed = self.changed.subscribe();
        loop {
            let (late, next) = self.late(limit);
            if !late.is_empty() {
                self.awaited.lock().retain(|session, _| !late.contains(session));
                self.changed.send_replace(());
                return Some(late);
            }
            if self.is_over() {
                return None;
            }
            let time = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {}
                told = changed.changed() => told.ok()?,
            }
        }
    }

    /// Sessions whose time is over, and when that of the next is.
    fn late(&self, limit: Duration) -> (Vec<u64>, Option<Instant>) {
        let (awaited, opened, now) = (self.awaited.lock(), self.opened.lock(), Instant::now());
        let (mut late, mut next) = (Vec::new(), None::<Instant>);
        for (session, volumes) in &*awaited {
            let begins = volumes.iter().map(|volume| opened.get(volume).copied().unwrap_or(Some(self.began)));
            // Ordered, "not open yet" would come first; it must count as last.
            let Some(begins) = begins.collect::<Option<Vec<_>>>() else { continue };
            let until = begins.into_iter().max().unwrap_or(self.began) + limit;
            if until <= now {
                late.push(*session);
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        (late, next)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn grace(sessions: &[(u64, u64)]) -> Arc<Grace> {
        let volumes = |volume: u64| HashSet::from([VolumeId(volume)]);
        Arc::new(Grace::new(sessions.iter().map(|(session, volume)| (*session, volumes(*volume)))))
    }

    #[tokio::test]
    async fn who_does_not_come_is_given_up_when_the_time_is_over() {
        let (grace, begin) = (grace(&[(1, 1), (2, 2)]), Instant::now());
        grace.reclaimed(2, VolumeId(2));
        assert_eq!(grace.overdue(LIMIT).await, Some(vec![1]));
        assert!(begin.elapsed() >= LIMIT);
        assert!(!grace.is_pending(VolumeId(1)) && grace.is_over());
        assert_eq!(grace.overdue(LIMIT).await, None);
    }

    #[tokio::test]
    async fn nobodys_time_runs_while_the_volume_is_opened() {
        let grace = grace(&[(1, 1), (2, 2)]);
        let opening = grace.opening(VolumeId(1)).unwrap();
        // Another volume's session has its own time.
        assert_eq!(grace.overdue(LIMIT).await, Some(vec![2]));
        let late = tokio::time::timeout(LIMIT * 3, grace.overdue(LIMIT)).await;
        assert!(late.is_err() && grace.is_pending(VolumeId(1)), "given up while it could not come back");
        let open = Instant::now();
        drop(opening);
        assert_eq!(grace.overdue(LIMIT).await, Some(vec![1]));
        assert!(open.elapsed() >= LIMIT);
    }
}
