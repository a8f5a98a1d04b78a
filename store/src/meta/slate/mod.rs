//! The engine that runs: SlateDB over a local directory, with our journal as its write-ahead log.
//!
//! SlateDB keeps sorted tables in `meta/`. Its own write-ahead log would be one file, two fsyncs and a directory
//! entry per commit; ours is an append ([`crate::journal`]). The rest of the settings is in [`settings`].
//! Decision and figures: `docs/adr/0001-metadata-journal.md`.
//!
//! ```text
//!   commit ─▶ journal.reserve ─▶ engine's writer task ─▶ journal.append (write(2)) ─▶ memtable ─▶ returns
//!   sync   ─▶ what rows name (packs), then the journal's fdatasync, shared
//!   later  ─▶ memtable ─▶ table in meta/ ─▶ manifest ─▶ journal files removed
//! ```

mod asking;
mod blocks;
mod clock;
mod patient;
mod rows;
mod salvage;
mod sealed;
mod settings;
mod tables;
mod unwritten;
mod wal;

pub(crate) use asking::refuse_lost;
pub(crate) use salvage::salvage;
pub use settings::BlockCache;

use super::{Batch, Data, Meta, MetaError, Op, Rows, Seq, View, Watermarks};
use crate::backend::{DirLock, Shortage, SpaceGuard, VolumeDir};
use crate::failpoints::{Point, pass};
use crate::journal::{Journal, JournalError, JournalOptions, RecoveryWork, Reservation};
use crate::realm::Durability;
use crate::seal::{BlockSealer, VolumeKeys};
use crate::upstream::Upstream;
use asking::{collect, read_view};
use async_trait::async_trait;
use bytes::Bytes;
use clock::EngineClock;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use slatedb::config::{CloseOptions, FlushOptions, FlushType};
use slatedb::{CloseReason, Db, ErrorKind, GarbageCollectorBuilder, WriteBatch};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wal::{Collector, Init, Shared};

/// Space that commits other than deletes leave free, so that a full disk still takes the deletes that free it, and
/// the rows that are in memory and journal and go to tables later.
pub const SPACE_RESERVE: u64 = 64 << 20;

/// Longest that closing waits for the last rows to reach the tables. What does not is replayed at the next open.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Journal files that an open may find needed before it moves their rows to the tables. Each life of the process adds
/// one, and a process that is killed soon never does so itself.
const REPLAY_FILES: usize = 4;

/// What a volume's metadata needs to open.
#[derive(Clone)]
pub struct SlateOptions {
    /// The volume's directory, prepared.
    pub dir: VolumeDir,
    /// Its lock. Held until the engine is closed, or dropped.
    pub lock: Arc<DirLock>,
    /// Keys of the volume.
    pub keys: VolumeKeys,
    /// Shared by all volumes of the process.
    pub cache: Arc<BlockCache>,
    /// What the rows name; `None` when they name nothing outside.
    pub data: Option<Arc<dyn Data>>,
    /// Where salts come from.
    pub random: Arc<dyn Random>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// See [`SPACE_RESERVE`].
    pub space_reserve: u64,
    /// Size of a journal file; [`crate::journal::FILE_BYTES`] but for tests.
    pub journal_file_bytes: u64,
}

/// Metadata in SlateDB behind our journal.
pub struct SlateMeta {
    db: Db,
    journal: Arc<Journal>,
    path: PathBuf,
    recovered: RecoveryWork,
    received: AtomicU64,
    /// Where the journal's records go from here; `None` when the directory is the store.
    upstream: Option<Arc<Upstream>>,
    /// Sequence of the last row that was there at open.
    opened_at: u64,
    /// Sequence of the last row that was in the store at open.
    stored_at: u64,
    space: SpaceGuard,
    tables: Arc<patient::TableDisk>,
    unwritten: Arc<unwritten::Part>,
    /// Let go of by a close that ended well, though others may still hold a volume that answers nothing any more.
    lock: parking_lot::Mutex<Option<Arc<DirLock>>>,
}

impl SlateMeta {
    /// Opens the volume, replaying what a stop left in the journal.
    pub async fn open(options: SlateOptions) -> Result<Arc<Self>, MetaError> {
        Self::open_over(options, None).await
    }

    /// Like [`Self::open`], with the tables, and behind the journal the log, in an object store.
    pub async fn open_over(
        options: SlateOptions,
        upstream: Option<Arc<Upstream>>,
    ) -> Result<Arc<Self>, MetaError> {
        let path = options.dir.path().to_path_buf();
        if let Some(upstream) = &upstream {
            refuse_lost(upstream.place(), upstream.stored() > 0).await?;
        }
        let shared = Arc::new(Shared::default());
        let clock = Arc::new(EngineClock::new(Arc::clone(&options.clock)));
        let db = build(&options, &shared, clock, upstream.as_ref()).await.map_err(|error| {
            match shared.failure.get() {
                Some(failure) => MetaError::Journal(failure.clone()),
                None => engine_error(&path, error),
            }
        })?;
        let journal = shared.journal.get().cloned().ok_or_else(|| MetaError::Closed {
            path: path.clone(),
            reason: "the engine opened without its journal".to_owned(),
        })?;
        let recovered = shared.recovered.get().copied().unwrap_or_default();
        let tables = db.manifest().last_l0_seq();
        let opened_at = tables.max(shared.replayed_seq.load(Ordering::Relaxed));
        // Tables are made of what is stored.
        let stored_at = tables.max(upstream.as_ref().map_or(0, |upstream| upstream.progress().synced_seq));
        let opened = Arc::new(Self {
            db,
            journal,
            upstream,
            stored_at,
            path,
            recovered,
            received: AtomicU64::new(opened_at),
            opened_at,
            space: SpaceGuard::new(options.dir.path().to_path_buf(), options.space_reserve),
            tables: Arc::clone(&shared.tables),
            unwritten: options.cache.unwritten().part(),
            lock: parking_lot::Mutex::new(Some(options.lock)),
        });
        opened.tables.be_patient();
        opened.unwritten.opened(&opened);
        if recovered.read_files > REPLAY_FILES
            && let Err(error) = opened.flush().await
        {
            // The journal has everything; the next open tries again.
            tracing::warn!(path = %opened.path.display(), %error, "cannot move replayed rows to tables yet");
        }
        Ok(opened)
    }

    /// The writer's epoch: rises with every open of the volume.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.db.manifest().writer_epoch()
    }

    /// What recovery of the journal took at open, for metrics and tests.
    #[must_use]
    pub fn recovered(&self) -> RecoveryWork {
        self.recovered
    }

    /// fdatasyncs of the journal so far, for metrics.
    #[must_use]
    pub fn fdatasyncs(&self) -> u64 {
        self.journal.fdatasyncs()
    }

    /// Moves everything from memory to the tables: for tests, and before a checkpoint.
    pub async fn flush(&self) -> Result<(), MetaError> {
        // Replay begins behind what was synced when a memtable is closed, so sync first: otherwise the records just
        // moved stay needed until the next one.
        let id = self.journal.sync().await.map_err(|error| self.journal_failed(error))?;
        if let Some(upstream) = &self.upstream {
            upstream.want(id).await.map_err(|error| self.journal_failed(error))?;
        }
        let options = FlushOptions { flush_type: FlushType::MemTable };
        self.db.flush_with_options(options).await.map_err(|error| self.failed(error))
    }

    /// Refuses changes that take room when the disk is nearly full.
    fn check_space(&self, bytes: u64) -> Result<(), MetaError> {
        match self.space.take(bytes)? {
            None => Ok(()),
            Some(Shortage { free, need }) => Err(MetaError::NoSpace { path: self.path.clone(), free, need }),
        }
    }

    /// The engine's error, or the journal's when that is what stopped the engine.
    fn failed(&self, error: slatedb::Error) -> MetaError {
        match self.journal.check() {
            Ok(()) => engine_error(&self.path, error),
            Err(JournalError::Closed { path }) => {
                MetaError::Closed { path, reason: "closed by its owner".to_owned() }
            }
            Err(JournalError::Fenced { path, .. }) => MetaError::Fenced { path },
            Err(error) => MetaError::Journal(error),
        }
    }

    fn journal_failed(&self, error: JournalError) -> MetaError {
        let path = self.path.clone();
        match error {
            JournalError::Closed { path } => {
                MetaError::Closed { path, reason: "closed by its owner".to_owned() }
            }
            JournalError::Fenced { path, .. } => MetaError::Fenced { path },
            JournalError::NoSpace { path } => {
                let free = self.space.free().unwrap_or(0);
                MetaError::NoSpace { path, free, need: crate::journal::FILE_BYTES }
            }
            JournalError::TooLarge { bytes, limit } => {
                MetaError::Batch(format!("its rows take {bytes} bytes of a journal file's {limit}; split it"))
            }
            error if error.may_pass() => MetaError::Disk { path, source: Box::new(error) },
            error => MetaError::Journal(error),
        }
    }

    /// Why changes are refused now.
    fn check_disk(&self) -> Result<(), MetaError> {
        match self.tables.fault() {
            None => Ok(()),
            Some(source) => Err(MetaError::Disk { path: self.path.clone(), source: Box::new(source) }),
        }
    }
}

async fn build(
    options: &SlateOptions,
    shared: &Arc<Shared>,
    clock: Arc<EngineClock>,
    upstream: Option<&Arc<Upstream>>,
) -> Result<Db, slatedb::Error> {
    let invalid = |error: &dyn std::fmt::Display| slatedb::Error::invalid(error.to_string());
    let (store, settings, gc_options): (Arc<dyn object_store::ObjectStore>, _, _) = match upstream {
        None => {
            let store =
                LocalFileSystem::new_with_prefix(options.dir.meta()).map_err(|error| invalid(&error))?;
            let open = options.cache.tables();
            let store = tables::Tables::new(Arc::new(store.with_fsync(true)), options.dir.meta(), open);
            let store = patient::Patient::new(Arc::new(store), Arc::clone(&shared.tables));
            (Arc::new(store), settings::settings(), settings::garbage_collector())
        }
        Some(upstream) => {
            let place = upstream.place();
            let store = PrefixStore::new(Arc::clone(place.store()), place.path("meta"));
            let gc_options = settings::garbage_collector_on_store(place.backing.replaces);
            (Arc::new(store), settings::settings_on_store(), gc_options)
        }
    };
    let sealer = BlockSealer::new(options.keys.clone(), Arc::clone(&options.random));
    let sealer = Arc::new(sealer.map_err(|error| invalid(&error))?);
    let store: Arc<dyn object_store::ObjectStore> =
        Arc::new(sealed::SealedFiles::new(store, Arc::clone(&sealer), upstream.is_some()));
    let journal = JournalOptions {
        file_bytes: options.journal_file_bytes,
        data: options.data.clone().map(|data| data as Arc<dyn crate::journal::Data>),
        ..JournalOptions::new(options.dir.journal(), options.keys.clone(), Arc::clone(&options.random))
    };
    let (shared_too, data) = (Arc::clone(shared), options.data.clone());
    let (clock_too, upstream_too) = (Arc::clone(&clock), upstream.cloned());
    let init = Init { options: journal, data, shared: shared_too, clock: clock_too, upstream: upstream_too };
    let collector = GarbageCollectorBuilder::new(settings::DB_PATH, Arc::clone(&store))
        .with_options(gc_options)
        .with_wal_gc(Arc::new(Collector { shared: Arc::clone(shared), upstream: upstream.cloned() }));
    Db::builder(settings::DB_PATH, store)
        .with_settings(settings)
        .with_wal_writer(Box::new(init))
        .with_gc_builder(collector)
        .with_system_clock(clock)
        .with_db_cache(options.cache.engine(), options.keys.volume().get())
        .with_block_transformer(sealer)
        .build()
        .await
}

fn engine_error(path: &std::path::Path, error: slatedb::Error) -> MetaError {
    let path = path.to_path_buf();
    match error.kind() {
        ErrorKind::Closed(CloseReason::Fenced) => MetaError::Fenced { path },
        ErrorKind::Closed(CloseReason::Clean) => {
            MetaError::Closed { path, reason: "closed by its owner".to_owned() }
        }
        _ => MetaError::Engine { path, source: Box::new(error) },
    }
}

#[async_trait]
impl Meta for SlateMeta {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.read(|| self.db.get(key)).await
    }

    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError> {
        if limit == 0 || (!end.is_empty() && start >= end) {
            return Ok(Rows::new());
        }
        let options = settings::scan_options(limit, true);
        self.read(|| async {
            collect(self.db.scan_with_options(range(start, end), &options).await?, limit).await
        })
        .await
    }

    async fn view(&self) -> Result<Box<dyn View>, MetaError> {
        let snapshot = self.db.snapshot().map_err(|error| self.failed(error))?;
        Ok(Box::new(Frozen { snapshot, path: self.path.clone(), remote: self.upstream.is_some() }))
    }

    async fn commit(&self, batch: Batch) -> Result<Seq, MetaError> {
        batch.check()?;
        if batch.is_empty() {
            return Ok(self.watermarks().received);
        }
        self.check_disk()?;
        let bytes = batch.bytes() as u64;
        if !rows::only_deletes(&batch) {
            self.check_space(bytes)?;
        }
        self.unwritten.room().await;
        let room = self.journal.reserve(rows::encoded_bound(&batch)).await;
        let held = Held::new(&self.db, room.map_err(|error| self.journal_failed(error))?);
        let mut engine = WriteBatch::new();
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => engine.put_bytes(key.clone(), value.clone()),
                Op::Delete(key) => engine.delete(key),
            }
        }
        let written = self.db.write(engine).await;
        held.done();
        let seq = written.map_err(|error| self.failed(error))?.seqnum();
        self.received.fetch_max(seq, Ordering::AcqRel);
        self.unwritten.add(bytes);
        Ok(Seq(seq))
    }

    async fn sync(&self) -> Result<Seq, MetaError> {
        let seq = self.watermarks().received;
        let id = self.journal.sync().await.map_err(|error| self.journal_failed(error))?;
        if let Some(upstream) = self.upstream.as_ref().filter(|up| up.class() == Durability::Store) {
            upstream.want(id).await.map_err(|error| self.journal_failed(error))?;
        }
        Ok(seq)
    }

    fn watermarks(&self) -> Watermarks {
        // The order of the loads keeps journalled <= received, and the last line stored <= journalled.
        let journalled = Seq(self.journal.progress().synced_seq.max(self.opened_at));
        let received = Seq(self.received.load(Ordering::Acquire).max(journalled.0));
        let stored = match &self.upstream {
            None => journalled,
            Some(upstream) => Seq(upstream.progress().synced_seq.max(self.stored_at).min(journalled.0)),
        };
        Watermarks { received, journalled, stored }
    }

    async fn faulty(&self) -> MetaError {
        tokio::select! {
            error = self.journal.faulty() => self.journal_failed(error),
            source = self.tables.faulty() => MetaError::Disk { path: self.path.clone(), source: Box::new(source) },
        }
    }

    async fn taken(&self) {
        match &self.upstream {
            Some(upstream) => upstream.taken().await,
            None => std::future::pending().await,
        }
    }

    async fn close(self: Arc<Self>) -> Result<(), MetaError> {
        self.journal.sync().await.map_err(|error| self.journal_failed(error))?;
        if let Some(upstream) = &self.upstream {
            // What does not get there in time is in the journal.
            let _ = tokio::time::timeout(CLOSE_WITHIN, upstream.want(self.journal.appended_id())).await;
        }
        let to_tables = CloseOptions { flush_type: Some(FlushType::MemTable) };
        let closed = match tokio::time::timeout(CLOSE_WITHIN, self.db.close_with_options(to_tables)).await {
            Ok(closed) => closed.map(|()| true).map_err(|error| engine_error(&self.path, error)),
            Err(_) => {
                tracing::warn!(path = %self.path.display(), "closing took too long; the journal keeps the rest");
                Ok(false)
            }
        };
        // Nothing is lost by stopping the journal last: it was synced, and nothing commits any more.
        if let Some(upstream) = &self.upstream {
            upstream.close(CLOSE_WITHIN).await;
        }
        let _ = self.journal.close().await;
        if matches!(closed, Ok(true)) {
            self.journal.give_back().await;
        }
        self.tables.give_up();
        pass(Point::CloseBeforeUnlock)
            .map_err(|source| MetaError::Disk { path: self.path.clone(), source: Box::new(source) })?;
        if closed? {
            self.lock.lock().take();
        }
        Ok(())
    }
}

fn range<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    (Bound::Included(start), upper)
}

/// The rows of one moment.
struct Frozen {
    snapshot: Arc<slatedb::DbSnapshot>,
    path: PathBuf,
    remote: bool,
}

#[async_trait]
impl View for Frozen {
    fn seq(&self) -> Seq {
        Seq(self.snapshot.seq())
    }

    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError> {
        if limit == 0 || (!end.is_empty() && start >= end) {
            return Ok(Rows::new());
        }
        // Whoever reads everything once must not drive out what others use.
        let options = settings::scan_options(limit, false);
        read_view((&self.path, self.remote), || async {
            collect(self.snapshot.scan_with_options(range(start, end), &options).await?, limit).await
        })
        .await
    }
}

/// Going away without [`Meta::close`] is like a stop of the process: the journal has everything.
impl Drop for SlateMeta {
    fn drop(&mut self) {
        self.journal.abandon();
        if let Some(upstream) = &self.upstream {
            upstream.stop();
        }
        self.tables.give_up();
        // The engine's background tasks do not end by themselves.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let db = self.db.clone();
            runtime.spawn(async move {
                let _ = db.close_with_options(CloseOptions { flush_type: None }).await;
            });
        }
    }
}

/// A reservation that outlives a cancelled commit. When the caller goes away after handing its batch to the engine,
/// the append is still to come: the room is given back behind it.
struct Held<'a> {
    db: &'a Db,
    room: Option<Reservation>,
}

impl<'a> Held<'a> {
    fn new(db: &'a Db, room: Reservation) -> Self {
        Self { db, room: Some(room) }
    }

    fn done(mut self) {
        self.room = None;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(room) = self.room.take() else { return };
        let (db, runtime) = (self.db.clone(), tokio::runtime::Handle::try_current());
        if let Ok(runtime) = runtime {
            runtime.spawn(async move {
                // Passes through the same queue, behind the batch.
                let _ = db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await;
                drop(room);
            });
        }
    }
}
