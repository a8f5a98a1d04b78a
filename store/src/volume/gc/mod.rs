//! Giving room back: packs that nothing names are deleted, packs that are mostly garbage are rewritten.
//!
//! # When a pack may be deleted
//! Whoever deletes too early loses data, so each of these must hold, and in doubt the pack stays.
//!
//! 1. *It is complete*, so it gets no new extents, and *nobody pins it* ([`crate::pack::Pin`]): every operation that
//!    stored bytes in it has had its change applied, or has given up.
//! 2. *No row names it.* The committer keeps the live bytes of every pack, changed in the commit that changes
//!    references. They are looked at after the pins: a change that dropped its pin is in them. From here on the pack
//!    stays dead, for an operation that finds an extent stored counts on a row, and there is none.
//! 3. *No record of the journal that recovery may look at names it* (the journal's `cut` says why it looks). What took
//!    the last reference away is made durable; then one more commit is made, whose record carries that knowledge, and
//!    is made durable too. Recovery looks only at records behind the last that it knows to be synced.
//!
//! Then the pack's own list is held against the rows once more: a count of live bytes that is wrong must not cost data.
//! Packs that an earlier process left, with extents that no row came to name, fulfil all three as well.
//!
//! # Rewriting
//! Live extents of the worst packs are read in the order of the files they belong to, sealed again into the open pack,
//! and their rows moved by a commit that changes only rows that still say where the extent was read. What has been
//! freed or moved meanwhile stays as it is, and its new copy is garbage. The old pack is then dead like any other. A
//! stop at any point leaves garbage at most. Readers that know the old place find the pack gone and look again.
//!
//! An extent that does not check is left where it is, and so is its pack.
//!
//! # When
//! One task per volume, whatever its heads, sleeps until a commit takes bytes out of a pack. It works in small steps with pauses that keep to
//! the rate, and holds the volume only during a step. [`plan`] says which packs.

use super::Volume;
use super::family::Family;
use crate::api::Result;
use crate::error::StoreError;
use crate::pack::{Entry, PackId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

mod collect;
mod plan;
mod repack;

/// How a volume gives room back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcConfig {
    /// How long after a change it looks; zero: only when asked.
    pub interval: Duration,
    /// Bytes rewritten in a second; zero: packs are deleted and never rewritten, unless asked.
    pub bytes_per_second: u64,
}

impl Default for GcConfig {
    fn default() -> GcConfig {
        GcConfig { interval: Duration::from_secs(2), bytes_per_second: 64 << 20 }
    }
}

/// After a failure the task waits this long.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How long closing waits for the step under way.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What was done since the volume was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcTotals {
    /// Packs deleted.
    pub freed_packs: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Extents moved to other packs.
    pub moved_extents: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Extents that could not be moved, because they do not check.
    pub damaged_extents: u64,
}

/// What the collector is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcState {
    /// There is nothing to do.
    Idle,
    /// It has work.
    Working,
    /// Somebody told it to wait.
    Paused,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is nothing to do.
    Nothing,
    /// There may be something once the volume has been still for a moment.
    Later,
    /// So many bytes were moved, or packs deleted; there may be more.
    Did(u64),
}

/// The collector of a volume.
#[derive(Default)]
pub(crate) struct Gc {
    wake: Notify,
    paused: AtomicBool,
    stopping: AtomicBool,
    working: AtomicBool,
    totals: Mutex<GcTotals>,
    /// One step at a time.
    state: tokio::sync::Mutex<State>,
}

/// What is known between steps.
#[derive(Default)]
struct State {
    /// Live extents of packs that are being rewritten.
    pending: VecDeque<Entry>,
    /// Packs that gain nothing by being rewritten, with their live bytes when that was found.
    tight: HashMap<PackId, u64>,
    /// Packs that cannot be read or written again.
    stuck: HashSet<PackId>,
    /// Appends there had been after the last step: whether the volume has been still since.
    appended: u64,
}

impl Gc {
    /// Bytes went out of a pack.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut GcTotals)) {
        add(&mut self.totals.lock());
    }

    async fn sleep(&self, time: Duration) {
        // Ends early when the volume closes; a wait that ends early does no harm.
        let _ = tokio::time::timeout(time, async {
            while !self.stopping.load(Ordering::Acquire) {
                self.wake.notified().await;
            }
        })
        .await;
    }
}

/// The task of a volume. Ends with the volume.
pub(crate) struct Collector {
    gc: Arc<Gc>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Collector {
    pub(crate) fn start(family: &Arc<Family>, volume: &Volume) -> Collector {
        let gc = volume.gc.clone();
        let config = volume.config.gc;
        let run = !config.interval.is_zero();
        let task = run.then(|| tokio::spawn(work(gc.clone(), config, Arc::downgrade(family))));
        Collector { gc, task: Mutex::new(task) }
    }

    /// Waits for the step under way.
    pub(crate) async fn stop(&self) {
        self.gc.stopping.store(true, Ordering::Release);
        self.gc.wake.notify_one();
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(STOP_WITHIN, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

async fn work(gc: Arc<Gc>, config: GcConfig, family: Weak<Family>) {
    // What an earlier process left is looked for first.
    let mut again = true;
    loop {
        if !again {
            gc.wake.notified().await;
        }
        gc.sleep(config.interval).await;
        again = loop {
            if gc.stopping.load(Ordering::Acquire) {
                return;
            }
            if gc.paused.load(Ordering::Acquire) {
                break false;
            }
            let Some(volume) = family.upgrade().and_then(|family| family.any()) else { return };
            gc.working.store(true, Ordering::Release);
            let step = volume.gc_step(config.bytes_per_second > 0, false).await;
            let over = volume.is_broken();
            drop(volume);
            match step {
                Ok(Step::Did(bytes)) => gc.sleep(pause(bytes, config.bytes_per_second)).await,
                Ok(Step::Later) => break true,
                Ok(Step::Nothing) => break false,
                // This head was closed; another is asked the next time, if there is one.
                Err(StoreError::Closed) if !over => {}
                Err(StoreError::Closed | StoreError::Fenced) => return,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "room could not be given back yet"
                    );
                    gc.sleep(AFTER_FAILURE).await;
                    break true;
                }
            }
        };
        gc.working.store(again, Ordering::Release);
    }
}

/// How long to wait after moving `bytes`.
fn pause(bytes: u64, per_second: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000).checked_div(per_second).unwrap_or(0))
}

impl Volume {
    /// Gives back all the room that can be given back now, whatever rate and pause say, and tells what it did.
    ///
    /// # Errors
    /// What was done until the error stays done.
    pub async fn collect_garbage(&self) -> Result<GcTotals> {
        let before = self.gc_totals();
        self.sweep().await?;
        while let Step::Did(_) = self.gc_step(true, true).await? {}
        let after = self.gc_totals();
        Ok(GcTotals {
            freed_packs: after.freed_packs - before.freed_packs,
            freed_bytes: after.freed_bytes - before.freed_bytes,
            moved_extents: after.moved_extents - before.moved_extents,
            moved_bytes: after.moved_bytes - before.moved_bytes,
            damaged_extents: after.damaged_extents - before.damaged_extents,
        })
    }

    /// Keeps packs and the rows that name them from being changed here until what is returned is dropped.
    pub(crate) async fn hold_gc(&self) -> impl Drop + '_ {
        self.gc.state.lock().await
    }

    /// Stops work in the background until [`Self::resume_gc`], or until the volume is opened again.
    pub fn pause_gc(&self) {
        self.gc.paused.store(true, Ordering::Release);
    }

    /// Goes on after [`Self::pause_gc`].
    pub fn resume_gc(&self) {
        self.gc.paused.store(false, Ordering::Release);
        self.gc.wake();
    }

    /// What was done since the volume was opened.
    #[must_use]
    pub fn gc_totals(&self) -> GcTotals {
        *self.gc.totals.lock()
    }

    /// What the collector is at.
    #[must_use]
    pub fn gc_state(&self) -> GcState {
        match (self.gc.paused.load(Ordering::Acquire), self.gc.working.load(Ordering::Acquire)) {
            (true, _) => GcState::Paused,
            (false, true) => GcState::Working,
            (false, false) => GcState::Idle,
        }
    }

    /// One step: deletes what is dead, or moves some extents. `thorough`: also what is left alone while a volume is in
    /// use.
    async fn gc_step(&self, rewrites: bool, thorough: bool) -> Result<Step> {
        self.alive()?;
        let mut state = self.gc.state.lock().await;
        let appended = self.packs.appended();
        let still = thorough || state.appended == appended;
        let step = self.gc_step_locked(&mut state, rewrites, still, thorough).await;
        state.appended = self.packs.appended();
        step
    }

    async fn gc_step_locked(
        &self,
        state: &mut State,
        rewrites: bool,
        still: bool,
        thorough: bool,
    ) -> Result<Step> {
        if !state.pending.is_empty() {
            return self.move_some(state).await;
        }
        let seen = self.seen_packs();
        let dead = seen.iter().filter(|pack| pack.is_dead() && !state.stuck.contains(&pack.id));
        let dead: Vec<_> = dead.map(|pack| (pack.id, pack.bytes)).collect();
        if !dead.is_empty() {
            return self.delete_dead(state, &dead).await;
        }
        let Some(rules) = plan::Rules::new(self.packs.pack_bytes(), rewrites, still, thorough) else {
            return Ok(Step::Nothing);
        };
        if let Some(open) = rules.ripe(&seen) {
            self.packs.seal(open).await?;
            return Ok(Step::Did(0));
        }
        let unfit = |pack: &plan::Seen| {
            state.stuck.contains(&pack.id) || state.tight.get(&pack.id).is_some_and(|live| pack.live >= *live)
        };
        let victims = rules.victims(&seen, unfit);
        if victims.is_empty() {
            let later = !still && rules.would_if_still(&seen, unfit);
            return Ok(if later { Step::Later } else { Step::Nothing });
        }
        self.look_into(state, &victims).await
    }

    /// Every pack and what of it is live. Pins first: see the module documentation.
    fn seen_packs(&self) -> Vec<plan::Seen> {
        let packs = self.packs.list();
        let live = self.shared.trunk.live.read();
        let seen = packs.into_iter().map(|pack| plan::Seen {
            id: pack.id,
            bytes: pack.bytes,
            live: live.get(&pack.id.0).copied().unwrap_or(0),
            sealed: pack.sealed,
            pinned: pack.pinned,
        });
        seen.collect()
    }
}
