//! The log on the store: how what this host's journal holds comes to the object store.
//!
//! # Why there are two logs
//!
//! A gateway that is killed must come back with everything it acknowledged, and an object store takes tens of
//! milliseconds for a request. So a change goes to the journal on this host first, as on a local directory: that is what
//! kill -9 cannot take away. From there it goes, in groups, to the store, as numbered objects that are made once and never
//! changed. What the classes of durability differ in is only how long a sync waits: `store` until the object is there,
//! `host` until the journal's fdatasync. Everything else is one path.
//!
//! ```text
//!   commit ─▶ journal (write) ─▶ received          ┐ on this host: survives the process
//!   sync   ─▶ packs, journal (fdatasync) ─▶ journalled ┘ ... and loss of power
//!   ship   ─▶ whole packs, then one object: bytes of packs that are still open, records ─▶ stored
//!   later  ─▶ the engine's tables, made only of what is stored ─▶ objects of the log removed
//! ```
//!
//! # Data before metadata
//!
//! An object carries records, and with them all bytes they name that are not in the store: a sync of a small file is one
//! PUT. A pack with more than [`RIDE_BYTES`] of such bytes is finished and sent first, whole. An object of the log is kept
//! until the engine's tables have its records and the packs its bytes belong to are in the store.
//!
//! # Fencing
//!
//! Objects are numbered without gaps and made with "create if absent". Who opens the volume puts an object of its own
//! there, under a new epoch: the next number of whoever wrote before is taken, and from that answer it knows. Its journal
//! stops; everything it did not get into the store is lost to it, and named. Nobody asks a clock. The object with the
//! highest number is never removed, so the next one is always known; nor is one that took the volume from a writer that may
//! live, for that one may come after days and must not find its next number free again. What counts as the log are the
//! objects at the end whose numbers have no gap.
//!
//! # Opening
//!
//! The epochs this host claimed are noted in `lineage`, before they are. If the log's last epoch is one of them, nobody was
//! here in between: the journal is the log with a tail the store does not have yet, and goes on. Otherwise, or when the
//! directory is gone, what is here is set aside and the journal is made anew from the log ([`import`]). A volume of class
//! `host` is opened so only when its last writer closed it, or with leave to lose what that writer's host still has.

mod collect;
mod error;
mod format;
mod import;
mod lineage;
mod open;
mod restart;
mod ship;

pub use error::UpstreamError;
pub use open::UpstreamOptions;

pub(crate) use format::{Piece, Record};
pub(crate) use open::READ_AGAIN;
pub(crate) use restart::{import_from, restart};

use crate::backend::{Place, VolumeDir};
use crate::journal::{Journal, JournalError, Progress};
use crate::pack::{PackId, PackStore};
use crate::realm::Durability;
use crate::seal::VolumeKeys;
use mooring_policy::rng::Random;
use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Bytes of a pack that go with the records; with more the pack is sent whole.
pub(crate) const RIDE_BYTES: u64 = 1 << 20;

/// Bytes of records in one object.
const SHIP_BYTES: usize = 4 << 20;

/// Records that nobody waits for are on their way after this long.
const SHIP_EVERY: Duration = Duration::from_secs(1);

/// Objects, and bytes in them, behind what the engine's tables have. With more the engine is asked to make a table: the
/// log is what the next open reads.
const LONG_OBJECTS: usize = 256;
const LONG_BYTES: usize = 64 << 20;

/// How long a sync waits for the store. What it waits for is kept and goes on its way; a later sync may find it there.
const SYNC_LIMIT: Duration = Duration::from_secs(60);

type Listener = Arc<dyn Fn(&Progress) + Send + Sync>;

/// The log of one open volume. See the module documentation.
pub struct Upstream {
    place: Place,
    dir: VolumeDir,
    keys: VolumeKeys,
    random: Arc<dyn Random>,
    class: Durability,
    owner: String,
    epoch: u64,
    state: Mutex<State>,
    /// How far the store has come.
    progress: watch::Sender<Progress>,
    listeners: Mutex<Vec<Listener>>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    journal: OnceLock<Arc<Journal>>,
    packs: Mutex<Weak<PackStore>>,
    /// The last record of the journal that was made from the log.
    imported: AtomicU64,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct State {
    next_number: u64,
    /// Records of the journal that are not in the store, in order.
    queue: VecDeque<Record>,
    queued_bytes: usize,
    /// Objects that are there, oldest first.
    live: VecDeque<Live>,
    /// Somebody waits for this record.
    wanted: u64,
}

/// An object of the log.
struct Live {
    number: u64,
    last_id: u64,
    bytes: usize,
    /// Whose bytes it carries.
    packs: Vec<PackId>,
    /// See [`format::Kind::Taken`].
    stays: bool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("place", &self.place.at).finish_non_exhaustive()
    }
}

impl Upstream {
    /// The last record that is in the store.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.progress.borrow().synced_id
    }

    /// How far the store has come, and why nothing more will, if so.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = self.progress.borrow().clone();
        if progress.stopped.is_none() {
            progress.stopped = self.journal.get().and_then(|journal| journal.progress().stopped);
        }
        progress
    }

    /// Waits until another gateway has the log; for ever when this one lets go first.
    pub(crate) async fn taken(&self) {
        let mut progress = self.progress.subscribe();
        let taken = |now: &Progress| matches!(now.stopped, Some(JournalError::Fenced { .. }));
        if progress.wait_for(taken).await.is_err() {
            std::future::pending().await
        }
    }

    /// The class a sync keeps to.
    #[must_use]
    pub fn class(&self) -> Durability {
        self.class
    }

    /// The store's part that this is the log of.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Names an unbroken run of this volume: when it has changed, an earlier host's tail was lost or is its own again.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Calls `listener` whenever the store has come further, and at the stop.
    pub(crate) fn listen(&self, listener: Listener) {
        self.listeners.lock().push(listener);
    }

    /// The packs that records name. Before anything is appended.
    pub(crate) fn set_packs(&self, packs: &Arc<PackStore>) {
        packs.wake_for_errands(&self.wake);
        *self.packs.lock() = Arc::downgrade(packs);
    }

    /// The last record that the journal here has from the log, when it was made from that: what such records name was
    /// in the store before they were. Packs that are not there any more were collected, and the journal's own records
    /// no longer tell: who removes a pack waits for the knowledge that its last name is gone to be in the journal of
    /// *its* host.
    pub(crate) fn imported(&self) -> u64 {
        self.imported.load(Ordering::Acquire)
    }

    fn packs(&self) -> Option<Arc<PackStore>> {
        self.packs.lock().upgrade()
    }

    /// A record that the journal has.
    pub(crate) fn push(&self, record: Record) {
        let full = {
            let mut state = self.state.lock();
            state.queued_bytes += record.body.len();
            state.queue.push_back(record);
            state.queued_bytes > SHIP_BYTES
        };
        if full {
            self.wake.notify_one();
        }
    }

    /// Whether the log is long behind record `after`.
    pub(crate) fn is_long(&self, after: u64) -> bool {
        let state = self.state.lock();
        let (mut objects, mut bytes) = (0, 0);
        state.live.iter().rev().take_while(|live| live.last_id > after).any(|live| {
            objects += 1;
            bytes += live.bytes;
            objects > LONG_OBJECTS || bytes > LONG_BYTES
        })
    }

    /// Waits until the store has record `id`, which the journal has made durable.
    pub(crate) async fn want(&self, id: u64) -> Result<(), JournalError> {
        if self.stored() >= id {
            return Ok(());
        }
        {
            let mut state = self.state.lock();
            state.wanted = state.wanted.max(id);
        }
        self.wake.notify_one();
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.synced_id >= id || now.stopped.is_some());
        let path = || self.dir.path().to_path_buf();
        let reached = match tokio::time::timeout(SYNC_LIMIT, reached).await {
            Ok(reached) => reached,
            Err(_) => return Err(JournalError::Waiting { path: path(), store: self.place.name() }),
        };
        match reached.as_deref() {
            Ok(now) if now.synced_id >= id => Ok(()),
            Ok(Progress { stopped: Some(stopped), .. }) => Err(stopped.clone()),
            _ => Err(JournalError::Closed { path: path() }),
        }
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        let (progress, listeners) = (self.progress(), self.listeners.lock().clone());
        for listener in listeners {
            listener(&progress);
        }
    }

    /// Nothing more goes to the store.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn object(&self, number: u64) -> Path {
        object(&self.place, number)
    }
}

/// Where object `number` is.
fn object(place: &Place, number: u64) -> Path {
    place.path(&format!("log/{number:020}"))
}
