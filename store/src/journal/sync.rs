//! The shared side of a journal: group-committed fdatasync, watermarks, removal of old files.

use super::fault::{self, Faults, Work};
use super::space::Space;
use super::{JournalError, JournalOptions, Recovery, io_error};
use crate::failpoints::{self, Point, pass};
use parking_lot::{Condvar, Mutex};
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// How far the journal has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Last record that is on the medium with all that it names.
    pub synced_id: u64,
    /// The sequence that was appended with it.
    pub synced_seq: u64,
    /// Why nothing more will come.
    pub stopped: Option<JournalError>,
    /// Syncs that failed, and how the last did.
    pub failures: (u64, Option<JournalError>),
}

type Listener = Arc<dyn Fn(&Progress) + Send + Sync>;

/// The shared side of a journal.
pub struct Journal {
    pub(super) options: JournalOptions,
    pub(super) space: Space,
    state: Mutex<State>,
    /// Wakes the syncer thread.
    wake: Condvar,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) faults: watch::Sender<Faults>,
    synced: AtomicU64,
    fdatasyncs: AtomicU64,
    listeners: Mutex<Vec<Listener>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("dir", &self.options.dir).finish_non_exhaustive()
    }
}

struct State {
    appended_id: u64,
    appended_seq: u64,
    /// Somebody waits for this record.
    wanted_id: u64,
    /// In order; the last is the current one.
    files: Vec<LiveFile>,
    stopped: Option<JournalError>,
    /// The last sync failed: what is not known to be on the medium has to be written again.
    repair: bool,
}

/// A file of the sequence. `file` is there as long as it may hold unsynced records.
#[derive(Clone)]
pub(super) struct LiveFile {
    pub path: PathBuf,
    pub first_id: u64,
    pub file: Option<Arc<File>>,
    /// Where its last record ends.
    pub end: u64,
}

/// What one fdatasync is about.
struct Round {
    id: u64,
    seq: u64,
    files: Vec<LiveFile>,
    repair: bool,
}

impl Journal {
    pub(super) fn start(recovery: Recovery) -> Arc<Self> {
        let Recovery { options, kept, old, next_id, next_number, .. } = recovery;
        let kept = kept.into_iter().map(|kept| (kept.path, kept.head.first_id));
        let files = old.into_iter().chain(kept);
        let files = files.map(|(path, first_id)| LiveFile { path, first_id, file: None, end: 0 });
        let state = State {
            appended_id: next_id - 1,
            appended_seq: 0,
            wanted_id: 0,
            files: files.collect(),
            stopped: None,
            repair: false,
        };
        let (progress, _) = watch::channel(Progress { synced_id: next_id - 1, ..Progress::default() });
        let journal = Arc::new(Self {
            space: Space::new(options.file_bytes, next_number),
            state: Mutex::new(state),
            wake: Condvar::new(),
            progress,
            faults: watch::Sender::new(Faults::default()),
            synced: AtomicU64::new(next_id - 1),
            fdatasyncs: AtomicU64::new(0),
            listeners: Mutex::new(Vec::new()),
            options,
        });
        let syncer = Arc::clone(&journal);
        let thread = std::thread::Builder::new().name("journal-sync".to_owned()).spawn(move || syncer.run());
        if let Err(error) = thread {
            journal.stop(io_error("start the syncer of", &journal.options.dir, error));
        }
        journal
    }

    /// Last record known to be on the medium.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Last record in the file.
    #[must_use]
    pub fn appended_id(&self) -> u64 {
        self.state.lock().appended_id
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How many fdatasyncs were made: for metrics, and for tests of group commit.
    #[must_use]
    pub fn fdatasyncs(&self) -> u64 {
        self.fdatasyncs.load(Ordering::Relaxed)
    }

    /// Tells of every sync, and of the stop.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Calls `listener` after every sync and at the stop, from the syncer's thread, in order.
    pub fn listen(&self, listener: Listener) {
        self.listeners.lock().push(listener);
    }

    /// Fails when the journal has stopped.
    pub fn check(&self) -> Result<(), JournalError> {
        match &self.state.lock().stopped {
            None => Ok(()),
            Some(stopped) => Err(self.stopped(stopped)),
        }
    }

    pub(super) fn closed(&self) -> JournalError {
        JournalError::Closed { path: self.options.dir.clone() }
    }

    fn stopped(&self, reason: &JournalError) -> JournalError {
        if let JournalError::Closed { .. } | JournalError::Stopped { .. } | JournalError::Fenced { .. } =
            reason
        {
            return reason.clone();
        }
        JournalError::Stopped { path: self.options.dir.clone(), reason: reason.to_string() }
    }

    /// Waits until all that is appended now is on the medium, and returns the last of it.
    ///
    /// # Errors
    /// The disk fails: told at once, to everybody who waits. Asking again when it is well makes up for it.
    pub async fn sync(&self) -> Result<u64, JournalError> {
        self.check()?;
        let failures = self.progress.borrow().failures.0;
        if let Some(fault) = self.sync_fault() {
            return Err(fault);
        }
        let target = {
            let mut state = self.state.lock();
            state.wanted_id = state.wanted_id.max(state.appended_id);
            self.wake.notify_one();
            state.appended_id
        };
        let mut progress = self.progress.subscribe();
        let over =
            |now: &Progress| now.synced_id >= target || now.stopped.is_some() || now.failures.0 > failures;
        let reached = progress.wait_for(over).await;
        match reached.as_deref() {
            Ok(now) if now.synced_id >= target => Ok(target),
            Ok(Progress { stopped: Some(stopped), .. }) => Err(self.stopped(stopped)),
            Ok(Progress { failures: (_, Some(error)), .. }) => Err(error.clone()),
            _ => Err(self.closed()),
        }
    }

    /// [`Self::sync`] for the engine's own work, which nobody waits for: a disk that fails is waited for.
    pub async fn sync_patiently(&self) -> Result<u64, JournalError> {
        loop {
            match self.sync().await {
                Err(error) if error.may_pass() => self.healthy().await,
                synced => return synced,
            }
        }
    }

    /// Syncs what there is and stops the thread. Nothing can be appended afterwards.
    pub async fn close(&self) -> Result<(), JournalError> {
        let synced = self.sync().await;
        self.abandon();
        synced.map(|_| ())
    }

    /// Stops without a sync, for an owner that goes away without closing.
    pub fn abandon(&self) {
        self.stop(self.closed());
    }

    /// Removes every file that holds no record of `needed` and is not the current one. Blocking.
    pub fn collect(&self, needed: &[RangeInclusive<u64>]) -> Result<usize, JournalError> {
        let old = self.state.lock().take_unneeded(needed);
        for path in &old {
            pass(Point::JournalMidCollect).map_err(|error| io_error("collect", path, error))?;
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", path, error));
                }
                _ => {}
            }
        }
        Ok(old.len())
    }

    pub(super) fn appended(&self, id: u64, seq: u64, end: u64) {
        let mut state = self.state.lock();
        let first_since_sync = state.appended_id == self.synced();
        (state.appended_id, state.appended_seq) = (id, seq);
        if let Some(current) = state.files.last_mut() {
            current.end = end;
        }
        if first_since_sync {
            // The thread sleeps without limit while there is nothing to do.
            self.wake.notify_one();
        }
    }

    /// The file that is appended to, and where its last record ends.
    pub(super) fn last_file(&self) -> Option<(PathBuf, u64)> {
        let state = self.state.lock();
        state.files.last().filter(|last| last.end > 0).map(|last| (last.path.clone(), last.end))
    }

    pub(super) fn began(&self, file: LiveFile) {
        self.state.lock().files.push(file);
    }

    /// Stops for `reason`: nothing can be appended any more.
    pub(crate) fn stop(&self, reason: JournalError) {
        let mut state = self.state.lock();
        if state.stopped.is_none() {
            state.stopped = Some(reason);
        }
        self.wake.notify_one();
    }

    /// The syncer: one fdatasync at a time, each for all that was appended before it began. What the records name goes
    /// first: it was stored before they were appended.
    fn run(&self) {
        let mut pause = fault::FIRST_PAUSE;
        while let Some(round) = self.next_round() {
            match self.sync_round(&round) {
                Ok(()) => {
                    pause = fault::FIRST_PAUSE;
                    self.reached(round.id, round.seq);
                    self.is_well(Work::Sync);
                }
                Err(error) if error.may_pass() => {
                    self.ails(Work::Sync, error.clone());
                    self.state.lock().repair = true;
                    self.publish(|progress| progress.failures = (progress.failures.0 + 1, Some(error)));
                    self.pause(pause);
                    pause = fault::longer(pause);
                }
                Err(error) => self.stop(error),
            }
        }
        let stopped = self.state.lock().stopped.clone();
        self.publish(|progress| progress.stopped = stopped);
    }

    fn sync_round(&self, round: &Round) -> Result<(), JournalError> {
        self.sync_named()?;
        for LiveFile { path, file, end, .. } in &round.files {
            let Some(file) = file else { continue };
            if round.repair {
                fault::write_again(file, path, *end)?;
            }
            pass(Point::JournalBetweenSyncs)
                .and_then(|()| pass(Point::JournalBeforeSync))
                .and_then(|()| failpoints::sync(path, || file.sync_data()))
                .and_then(|()| pass(Point::JournalAfterSync))
                .map_err(|error| io_error("sync", path, error))?;
            self.fdatasyncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets some time pass, unless the journal stops.
    fn pause(&self, pause: std::time::Duration) {
        let mut state = self.state.lock();
        while state.stopped.is_none() && !self.wake.wait_for(&mut state, pause).timed_out() {}
    }

    fn sync_named(&self) -> Result<(), JournalError> {
        let Some(data) = &self.options.data else { return Ok(()) };
        data.sync().map_err(|source| JournalError::Data { path: self.options.dir.clone(), source })
    }

    /// Sleeps until a sync is wanted or due. `None` once stopped.
    fn next_round(&self) -> Option<Round> {
        let mut state = self.state.lock();
        loop {
            if state.stopped.is_some() {
                return None;
            }
            let synced = self.synced();
            if state.wanted_id > synced || state.repair {
                return Some(state.round());
            }
            if state.appended_id == synced {
                self.wake.wait(&mut state);
            } else if self.wake.wait_for(&mut state, self.options.background_sync).timed_out() {
                return Some(state.round());
            }
        }
    }

    fn reached(&self, id: u64, seq: u64) {
        let mut state = self.state.lock();
        state.forget_synced(id);
        state.repair = false;
        drop(state);
        self.synced.store(id, Ordering::Release);
        self.publish(|progress| (progress.synced_id, progress.synced_seq) = (id, seq));
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        let (progress, listeners) = (self.progress(), self.listeners.lock().clone());
        for listener in listeners {
            listener(&progress);
        }
    }
}

impl State {
    fn round(&self) -> Round {
        let files = self.files.iter().filter(|live| live.file.is_some()).cloned().collect();
        Round { id: self.appended_id, seq: self.appended_seq, files, repair: self.repair }
    }

    /// Lets go of files all of whose records are at or before `id`.
    fn forget_synced(&mut self, id: u64) {
        for index in 1..self.files.len() {
            if self.files[index].first_id <= id + 1 {
                self.files[index - 1].file = None;
            }
        }
    }

    fn take_unneeded(&mut self, needed: &[RangeInclusive<u64>]) -> Vec<PathBuf> {
        let ends: Vec<u64> = self.files.iter().skip(1).map(|next| next.first_id - 1).collect();
        let mut ends = ends.into_iter();
        let mut old = Vec::new();
        self.files.retain(|live| {
            let Some(last) = ends.next() else { return true };
            let wanted = live.file.is_some()
                || needed.iter().any(|range| *range.start() <= last && live.first_id <= *range.end());
            if !wanted {
                old.push(live.path.clone());
            }
            wanted
        });
        old
    }
}
