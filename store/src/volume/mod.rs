//! A volume: one tree of files, kept as rows of the metadata engine and extents in packs. When it was cloned it has several
//! such trees, its heads; a [`Volume`] is one of them, and [`family`] what they have in common.
//!
//! # How an operation runs
//! 1. It asks the caller's authority, before anything else.
//! 2. It looks up what it must know to name the inodes it needs ([`lock`]), takes their locks in one go and looks
//!    again. Confined callers are checked against the root of their share under the locks ([`access`]).
//! 3. It stores new bytes in packs: data before metadata, always.
//! 4. It puts one [`change::Change`] together and hands it, with its locks, to the committer ([`commit`]), which makes it
//!    one atomic batch, brings the caches up to date and lets go of the locks.
//!
//! Attributes and names are read from the caches without any lock: what is cached is what was last committed. Reads of
//! bytes hold the inode's lock shared while they look up where the bytes are, not while they fetch them.

use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::failpoints::{Point, pass};
use crate::journal::FILE_BYTES;
use crate::keys::counter::{self, Counter};
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::{HeadId, Layer, dentry, inode};
use crate::memory::Memory;
use crate::meta::Meta;
use crate::pack::PackStore;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use mooring_protocol::types::{FileKind, Ino, Name};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

mod access;
mod account;
pub(crate) mod attr;
mod cache;
mod change;
mod check;
mod commit;
mod copy;
mod create;
mod damage;
mod dirs;
mod family;
mod flatten;
mod free;
mod freeze;
mod gc;
mod heads;
mod ids;
mod layers;
mod linger;
mod local;
mod lock;
mod map;
mod maps;
mod named;
mod names;
mod quota;
mod read;
mod readdir;
mod rebuild;
mod remote;
mod remove;
mod rename;
pub(crate) mod rows;
mod scrub;
mod setattr;
mod shared;
mod snapshots;
mod space;
mod sweep;
mod trash;
mod tree;
mod view;
mod write;
mod xattr;

pub use cache::RowCache;
pub use check::{CheckOptions, Finding, Kind as FindingKind, Progress, Report};
pub use damage::Damage;
pub use gc::{GcConfig, GcState, GcTotals};
pub use linger::LINGER;
pub use local::LocalOptions;
pub use quota::{Budget, Quota, Used};
pub use rebuild::{RebuildNeeded, Rebuilt};
pub use remote::StoreOptions;
pub use scrub::{ScrubOptions, ScrubReport, ScrubState};
pub use space::Space;
pub use trash::{Emptied, Restored, Trashed};

pub(crate) use change::{Change, Tx};
pub(crate) use dirs::Dirs;
pub(crate) use lock::{Gate, Held, Locks};
pub(crate) use map::Piece;
pub(crate) use remove::Loss;
pub(crate) use write::WriteAs;

use commit::{Outcome, Work};
use family::Family;
use rows::Rows;
use shared::{Shared, Trunk};

/// Everything a volume is put together from.
pub struct Parts {
    /// Its rows. An engine that keeps them beyond the process has the packs as its [`crate::meta::Data`].
    pub meta: Arc<dyn Meta>,
    /// Its bytes.
    pub packs: Arc<PackStore>,
    /// Memory shared by all volumes of the process.
    pub memory: Arc<Memory>,
    /// Time, where no caller brings one.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for upload ids.
    pub random: Arc<dyn Random>,
    /// Bounds and sizes.
    pub config: Config,
}

/// Bounds and sizes of a volume, or one of its heads.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which head is opened.
    pub head: HeadId,
    /// Bytes of a file whose map rows are cached together, whole blocks.
    pub window_bytes: u64,
    /// Bytes of an extent written at random.
    pub extent_bytes: u64,
    /// Bytes of an extent of a file that is written from front to back.
    pub stream_bytes: u64,
    /// What all files of the head together may have.
    pub quota: Quota,
    /// What all volumes of the tenant may have together.
    pub budget: Option<Arc<Budget>>,
    /// How long an inode stays whose last name was given to another; see [`LINGER`].
    pub linger: std::time::Duration,
    /// What loses its last name is kept; see [`Volume::trash_page`].
    pub trash: bool,
    /// Bytes every part of a multipart upload but the last must have.
    pub min_part_bytes: u64,
    /// Maps of more rows are shared by reference to the whole, smaller ones row by row.
    pub few_rows: usize,
    /// A look goes through so many layers at most; longer chains are made shorter in the background.
    pub layers: usize,
    /// Size of a full pack; [`crate::pack::PACK_BYTES`] but for tests.
    pub pack_bytes: u32,
    /// How room is given back.
    pub gc: GcConfig,
    /// What the log calls it: owner and bucket.
    pub label: Option<String>,
    /// Bytes of a journal file: the step of replay, and the most that one commit may take.
    pub journal_file_bytes: u64,
    /// Whose filesystem tells how much room there is, when there is no quota.
    pub directory: Option<std::path::PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            head: HeadId::FIRST,
            window_bytes: 1 << 20,
            extent_bytes: 128 << 10,
            stream_bytes: 1 << 20,
            quota: Quota::default(),
            budget: None,
            linger: LINGER,
            trash: false,
            min_part_bytes: 5 << 20,
            few_rows: 64,
            layers: 8,
            pack_bytes: crate::pack::PACK_BYTES,
            gc: GcConfig::default(),
            label: None,
            journal_file_bytes: FILE_BYTES,
            directory: None,
        }
    }
}

/// An open head of a volume. Cheap to share; see the module documentation.
pub struct Volume {
    pub(crate) shared: Arc<Shared>,
    pub(crate) packs: Arc<PackStore>,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    locks: Locks,
    /// Multipart uploads, by their ids; before any inode's.
    pub(crate) upload_locks: Locks,
    family: Arc<Family>,
    members: access::Members,
    pub(crate) pins: free::Pins,
    pub(crate) linger: Arc<linger::Linger>,
    trash: std::sync::atomic::AtomicBool,
    reaper: OnceLock<linger::Reaper>,
    pub(crate) gc: Arc<gc::Gc>,
    pub(crate) stagings: crate::objects::Stagings,
    pub(crate) invisible: std::sync::atomic::AtomicU64,
    memory: Arc<Memory>,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Volume {
    /// Opens a volume with one of its heads; an empty one gets its root directory. The tokio runtime of the caller runs
    /// the committer. Other heads join with [`Self::open_head`].
    /// Orphans of before (files that were unlinked but open) are kept until
    /// [`purge_orphans`](crate::api::Tree::purge_orphans).
    pub async fn open(parts: Parts) -> Result<Arc<Volume>> {
        let Parts { meta, packs, memory, clock, random, config } = parts;
        let next = match heads::number(&*meta, counter::key(Counter::NextId)).await? {
            Some(next) => next,
            None if config.head == HeadId::FIRST => {
                heads::format(&*meta, &*clock).await?;
                Ino::ROOT.get() + 1
            }
            None => return Err(StoreError::NoSuchHead(config.head.0)),
        };
        let state = heads::read(&*meta, config.head).await?;
        let trunk = Trunk::new(meta, &memory);
        *trunk.account.lock() = account::open(&*trunk.meta).await?;
        *trunk.live.write() = space::live_bytes(&*trunk.meta).await?;
        let trunk = Arc::new(trunk);
        let (sender, receiver) = mpsc::channel(commit::QUEUE);
        let committer = tokio::spawn(commit::run(trunk.clone(), receiver));
        let family = Arc::new(Family::new(next, sender, committer));
        let bare = Bare { trunk, family: family.clone(), packs, memory, clock, random, config };
        let volume = Volume::of_head(bare, state);
        family.start(&volume);
        Ok(volume)
    }

    /// A head that can be changed.
    fn of_head(bare: Bare, state: heads::State) -> Arc<Volume> {
        let volume = Arc::new(Volume::assemble(bare, state));
        volume.shared.limits.settle(volume.shared.usage.used());
        volume.reaper.get_or_init(|| linger::Reaper::start(&volume));
        volume
    }

    fn assemble(bare: Bare, state: heads::State) -> Volume {
        let Bare { trunk, family, packs, memory, clock, random, config } = bare;
        let rows = Rows::new(trunk.meta.clone(), state.chain, family.moving.clone());
        let shared = Shared::new(&trunk, rows, &memory, &config, (packs.volume(), state.used));
        let linger = shared.linger.clone();
        Volume {
            trash: config.trash.into(),
            gc: trunk.gc.clone(),
            shared: Arc::new(shared),
            packs,
            config,
            clock,
            random,
            locks: Locks::new(family.world.clone()),
            upload_locks: Locks::new(Arc::default()),
            family,
            members: access::Members::new(),
            pins: free::Pins::default(),
            linger,
            reaper: OnceLock::new(),
            stagings: crate::objects::Stagings::default(),
            invisible: 0.into(),
            memory,
        }
    }

    fn bare(&self, config: Config) -> Bare {
        Bare {
            trunk: self.shared.trunk.clone(),
            family: self.family.clone(),
            packs: self.packs.clone(),
            memory: self.memory.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            config,
        }
    }

    /// The same volume through other layers, which nothing changes.
    fn frozen(&self, chain: Vec<Layer>, config: Config, used: Used) -> Volume {
        Volume::assemble(self.bare(config), heads::State { chain, used })
    }

    /// Waits for what is under way and makes everything durable; the last head that is open lets go of the rows and packs.
    /// Later calls fail with [`StoreError::Closed`]. Inodes that linger are left to the next open, as orphans.
    pub async fn close(&self) -> Result<()> {
        self.reaper.get().into_iter().for_each(linger::Reaper::stop);
        let _one = self.family.changing.lock().await;
        if self.is_closed() {
            return Ok(());
        }
        let last = self.family.open().iter().all(|head| head.head_id() == self.head_id());
        if last {
            self.family.stop().await;
        }
        self.shared.closed.store(true, Ordering::Release);
        self.family.leave(self);
        if !last {
            // What is under way ends; what comes after is refused.
            drop(self.locks.stop().await);
            return self.make_durable().await;
        }
        drop(self.family.queue.write().take());
        let committer = self.family.committer.lock().await.take();
        let Some(committer) = committer else { return Ok(()) };
        if let Err(error) = committer.await {
            return Err(StoreError::Store(Box::new(error)));
        }
        self.shared.trunk.broken.store(true, Ordering::Release);
        self.make_durable().await?;
        pass(Point::CloseAfterSync).map_err(|error| StoreError::Store(Box::new(error)))?;
        self.packs.seal_current().await?;
        pass(Point::CloseAfterSeal).map_err(|error| StoreError::Store(Box::new(error)))?;
        Ok(self.rows().meta().clone().close().await?)
    }

    async fn make_durable(&self) -> Result<()> {
        self.packs.sync().await?;
        self.rows().meta().sync().await?;
        Ok(())
    }

    /// Which head it is.
    #[must_use]
    pub fn head_id(&self) -> HeadId {
        self.shared.head
    }

    fn is_broken(&self) -> bool {
        self.shared.trunk.broken.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.shared.rows
    }

    pub(crate) fn tx(&self, held: &Arc<Held>) -> Tx<'_> {
        Tx::new(&self.shared, held)
    }

    /// Fails when the volume can no longer answer truthfully.
    pub(crate) fn alive(&self) -> Result<()> {
        if self.is_broken() || self.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Locks `write` exclusively and `read` shared; for a confined caller, with the tree kept in shape.
    pub(crate) async fn lock(&self, cx: &Caller, write: &[Ino], read: &[Ino]) -> Result<Arc<Held>> {
        let gate = if cx.confined { Gate::Keep } else { Gate::Open };
        self.lock_gate(gate, write, read).await
    }

    /// Waits for every change that is under way, and lets none begin.
    async fn stop(&self) -> Result<Arc<Held>> {
        self.alive()?;
        Ok(self.locks.stop().await)
    }

    /// For a change of layered rows that needs no inode's lock.
    pub(crate) async fn enter(&self) -> Arc<Held> {
        self.locks.enter().await
    }

    /// The inode; its lock (at least shared) is held.
    pub(crate) async fn inode_locked(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        // A number of another view is nobody's here; its lower bits would be somebody's.
        if ino.view() != 0 {
            return Ok(None);
        }
        if let Some(inode) = self.shared.caches.inode(ino) {
            return Ok(Some(inode));
        }
        // Until the row is cached: it must not move to another layer in between.
        let _still = self.rows().still().await;
        let found = self.rows().find(|layer| inode::key(layer, ino)).await?;
        let Some((layer, value)) = found else { return Ok(None) };
        let inode = Arc::new(Inode { layer, ..inode::decode(&value)? });
        self.shared.caches.set_inode(ino, Some(inode.clone()));
        Ok(Some(inode))
    }

    /// The inode, or [`StoreError::Stale`]; its lock is held.
    pub(crate) async fn live_inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.inode_locked(ino).await?.ok_or(StoreError::Stale(ino))
    }

    /// The directory; its lock is held.
    pub(crate) async fn directory(&self, ino: Ino) -> Result<Arc<Inode>> {
        let inode = self.live_inode(ino).await?;
        if inode.kind == FileKind::Dir { Ok(inode) } else { Err(StoreError::NotDir) }
    }

    /// The inode as of now; no lock is held.
    pub(crate) async fn peek_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        self.alive()?;
        if let Some(inode) = self.shared.caches.inode(ino) {
            return Ok(Some(inode));
        }
        let _held = self.locks.lock(Gate::Open, &[], &[ino]).await;
        self.inode_locked(ino).await
    }

    /// The entry `name` of `parent`, whose lock is held.
    pub(crate) async fn entry_locked(&self, parent: Ino, name: &Name) -> Result<Option<Dentry>> {
        if let Some(known) = self.shared.caches.dentry(parent, name.as_bytes()) {
            return Ok(known);
        }
        let mut found = None;
        let _still = self.rows().still().await;
        for is_dir in [false, true] {
            let row = self.rows().find(|layer| dentry::key(layer, parent, name.as_bytes(), is_dir)).await?;
            if let Some((_, value)) = row {
                found = Some(dentry::decode(&value)?);
                break;
            }
        }
        let name = bytes::Bytes::copy_from_slice(name.as_bytes());
        self.shared.caches.set_dentry(parent, name, found.clone());
        Ok(found)
    }

    /// The entry `name` of `parent` as of now; no lock is held.
    pub(crate) async fn peek_entry(&self, parent: Ino, name: &Name) -> Result<Option<Dentry>> {
        self.alive()?;
        if let Some(known) = self.shared.caches.dentry(parent, name.as_bytes()) {
            return Ok(known);
        }
        let _held = self.locks.lock(Gate::Open, &[], &[parent]).await;
        self.entry_locked(parent, name).await
    }

    /// Applies a change. Returns when it is visible and in the journal.
    pub(crate) async fn commit(&self, mut change: Change) -> Result<()> {
        let batch = self.rows().bare(std::mem::take(&mut change.batch)).await?;
        self.commit_bare(Change { batch, ..change }).await
    }

    /// Applies a change whose tombstones are all needed.
    async fn commit_bare(&self, change: Change) -> Result<()> {
        let mut change = Box::new(change);
        loop {
            match self.submit(change).await? {
                Outcome::Done => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::Lost(returned, id) => {
                    change = returned;
                    self.store_again(&mut change, id).await?;
                }
            }
        }
    }

    async fn submit(&self, change: Box<Change>) -> Result<Outcome> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        let queue = self.family.queue.read().clone().ok_or(StoreError::Closed)?;
        let (answer, wait) = oneshot::channel();
        queue.send(Work { by: self.shared.clone(), change, answer }).await.map_err(|_| StoreError::Closed)?;
        drop(queue);
        wait.await.map_err(|_| StoreError::Closed)
    }
}

/// What a head is assembled from.
struct Bare {
    trunk: Arc<Trunk>,
    family: Arc<Family>,
    packs: Arc<PackStore>,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    config: Config,
}
