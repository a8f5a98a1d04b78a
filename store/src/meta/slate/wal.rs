//! Our journal in the place of the engine's write-ahead log.
//!
//! The engine's "WAL file" is one record here: the smallest unit, so that nothing is ever buffered. The engine
//! appends from its single writer task, so [`JournalWriter`] needs no lock, and its write of a batch returns after
//! our write(2). What the engine calls flushed is what was synced; it moves rows to its tables only after that.

use super::super::Data;
use super::clock::EngineClock;
use super::rows;
use crate::journal::{
    self, Journal, JournalError, JournalOptions, JournalWriter, Progress, Recovery, RecoveryWork, Replay,
};
use crate::upstream::{Record, Upstream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use slatedb::RowEntry;
use slatedb::wal::{
    WalError, WalEvent, WalFileRange, WalFlushResult, WalGc, WalIterator, WalObserver, WalRows, WalStatus,
    WalStatusListener, WalWriter, WriterInit, WriterInitResult, WriterManifest,
};
use std::ops::{Bound, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the engine's callbacks and [`super::SlateMeta`] share.
#[derive(Default)]
pub(super) struct Shared {
    /// Set when the engine has fenced earlier writers and the journal is open.
    pub journal: OnceLock<Arc<Journal>>,
    /// Highest sequence found in the journal at open.
    pub replayed_seq: AtomicU64,
    /// What recovery of the journal took.
    pub recovered: OnceLock<RecoveryWork>,
    /// Why the journal could not be opened: the engine passes on only words.
    pub failure: OnceLock<JournalError>,
    /// How the disk with the tables is.
    pub tables: Arc<super::patient::TableDisk>,
}

impl Shared {
    fn fail(&self, error: JournalError) -> WalError {
        let _ = self.failure.set(error.clone());
        wal_error(&error)
    }
}

pub(super) struct Init {
    pub options: JournalOptions,
    /// What the rows name.
    pub data: Option<Arc<dyn Data>>,
    pub shared: Arc<Shared>,
    pub clock: Arc<EngineClock>,
    /// Where the journal's records go from here, when the directory is not the store.
    pub upstream: Option<Arc<Upstream>>,
}

#[async_trait]
impl WriterInit for Init {
    async fn fence_and_init(&self, manifest: &mut WriterManifest) -> Result<WriterInitResult, WalError> {
        // The directory lock keeps other writers out of the journal; the manifest's epoch is bumped already and
        // keeps them out of the tables.
        let (epoch, after) = (manifest.epoch(), manifest.replay_after_wal_id());
        self.clock.seen(manifest.manifest().last_l0_clock_tick());
        let options = self.options.clone();
        let data = self.data.clone();
        let known = self.upstream.as_ref().map_or(0, |upstream| upstream.imported());
        let recovered =
            tokio::task::spawn_blocking(move || recover(options, data.as_deref(), after, known)).await;
        let recovery = recovered
            .map_err(|error| WalError::InternalError(Arc::new(error)))?
            .map_err(|error| self.shared.fail(error))?;
        if recovery.torn_bytes > 0 {
            tracing::warn!(bytes = recovery.torn_bytes, "dropped the torn tail of the journal");
        }
        let _ = self.shared.recovered.set(recovery.work());
        let replay = Some(recovery.replay(after));
        let tail = match self.upstream.clone() {
            None => None,
            Some(upstream) => {
                let (tail, whole) = (recovery.replay(after), recovery.next_id() - 1);
                let path = self.options.dir.clone();
                let read = tokio::task::spawn_blocking(move || behind(tail, upstream.stored(), whole, path));
                let read = read.await.map_err(|error| WalError::InternalError(Arc::new(error)))?;
                Some(read.map_err(|error| self.shared.fail(error))?)
            }
        };
        let writer = JournalWriter::start(recovery, epoch);
        if manifest.manifest().checkpoints().is_empty() {
            // The collector comes every few seconds, to a process that lives so long.
            let journal = Arc::clone(writer.journal());
            let collected =
                tokio::task::spawn_blocking(move || journal.collect(&[after + 1..=u64::MAX])).await;
            let collected = collected.map_err(|error| WalError::InternalError(Arc::new(error)))?;
            collected.map_err(|error| self.shared.fail(error))?;
        }
        let _ = self.shared.journal.set(Arc::clone(writer.journal()));
        if let (Some(upstream), Some((tail, seq))) = (&self.upstream, tail) {
            upstream.begin(Arc::clone(writer.journal()), tail, seq);
            if manifest.manifest().checkpoints().is_empty() {
                let upstream = Arc::clone(upstream);
                tokio::spawn(async move {
                    if let Err(error) = upstream.collect(after + 1).await {
                        tracing::debug!(%error, "old objects of the log stay for now");
                    }
                });
            }
        }
        Ok(WriterInitResult {
            replay_iterator: Box::new(Replayed {
                replay,
                shared: Arc::clone(&self.shared),
                clock: Arc::clone(&self.clock),
            }),
            wal_writer: Box::new(Writer { writer, upstream: self.upstream.clone() }),
        })
    }
}

/// The records behind `stored`, and the sequence of the last that is not.
fn behind(
    mut replay: Replay,
    stored: u64,
    last: u64,
    path: std::path::PathBuf,
) -> Result<(Vec<Record>, u64), JournalError> {
    if last < stored {
        return Err(JournalError::Behind { path, have: last, stored });
    }
    let (mut tail, mut before) = (Vec::new(), 0);
    while let Some((id, body)) = replay.next_record()? {
        let seq = rows::sequence(&body).ok_or_else(|| replay.not_understood(id))?;
        if id <= stored {
            before = seq;
        } else {
            tail.push(Record { id, seq, body: Bytes::from(body) });
        }
    }
    Ok((tail, before))
}

/// Recovers the journal, up to the first record whose bytes did not survive.
/// Verifies the journal. Up to record `known` nobody need ask whether what it names is there.
fn recover(
    options: JournalOptions,
    data: Option<&dyn Data>,
    after: u64,
    known: u64,
) -> Result<Recovery, JournalError> {
    let mut recovery = journal::recover(options, after)?;
    let Some(data) = data else { return Ok(recovery) };
    let synced = recovery.synced().max(after).max(known);
    if let Some(id) = first_without_bytes(&recovery, data, synced)? {
        let records = recovery.cut(id)?;
        tracing::warn!(records, synced, "dropped changes that were not synced and whose bytes the stop lost");
    }
    Ok(recovery)
}

fn first_without_bytes(
    recovery: &Recovery,
    data: &dyn Data,
    synced: u64,
) -> Result<Option<u64>, JournalError> {
    let mut replay = recovery.replay(synced);
    while let Some((id, body)) = replay.next_record()? {
        let (_, rows) = rows::decode(body).ok_or_else(|| replay.not_understood(id))?;
        for row in &rows {
            let slatedb::ValueDeletable::Value(value) = &row.value else { continue };
            if !data.is_there(&row.key, value).map_err(|source| recovery.data_failed(source))? {
                return Ok(Some(id));
            }
        }
    }
    Ok(None)
}

/// Rows are handed over in portions of about this many bytes.
const PORTION_BYTES: usize = 1 << 20;

struct Replayed {
    /// `None` only while a portion is being read.
    replay: Option<Replay>,
    shared: Arc<Shared>,
    clock: Arc<EngineClock>,
}

#[async_trait]
impl WalIterator for Replayed {
    async fn next(&mut self) -> Result<Option<WalRows>, WalError> {
        let Some(replay) = self.replay.take() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || portion(replay)).await;
        let (replay, portion) = read.map_err(|error| WalError::InternalError(Arc::new(error)))?;
        self.replay = Some(replay);
        let rows = portion.map_err(|error| self.shared.fail(error))?;
        for row in rows.iter().flat_map(|rows| &rows.rows) {
            self.clock.seen(row.create_ts.unwrap_or(0));
            self.shared.replayed_seq.fetch_max(row.seq, Ordering::Relaxed);
        }
        Ok(rows)
    }
}

fn portion(mut replay: Replay) -> (Replay, Result<Option<WalRows>, JournalError>) {
    let read = read_portion(&mut replay);
    (replay, read)
}

fn read_portion(replay: &mut Replay) -> Result<Option<WalRows>, JournalError> {
    let (mut all, mut bytes, mut last) = (Vec::new(), 0, None);
    while bytes < PORTION_BYTES {
        let Some((id, body)) = replay.next_record()? else {
            break;
        };
        bytes += body.len();
        let (_, rows) = rows::decode(body).ok_or_else(|| replay.not_understood(id))?;
        all.extend(rows);
        last = Some(id);
    }
    Ok(last.map(|id| WalRows { rows: all, last_consumed_wal_file_id: id }))
}

struct Writer {
    writer: JournalWriter,
    upstream: Option<Arc<Upstream>>,
}

#[async_trait]
impl WalWriter for Writer {
    async fn append(&mut self, batch: &[RowEntry]) -> Result<(), WalError> {
        let Some(seq) = batch.first().map(|row| row.seq) else {
            return Ok(());
        };
        // A failure that reached the engine would end it, reads and all.
        let appended = match &self.upstream {
            None => self.writer.append_patiently(seq, |out| rows::encode(seq, batch, out)).await,
            Some(upstream) => {
                let mut body = Vec::new();
                rows::encode(seq, batch, &mut body);
                let appended = self.writer.append_patiently(seq, |out| out.extend_from_slice(&body)).await;
                if let Ok(id) = appended {
                    upstream.push(Record { id, seq, body: body.into() });
                }
                appended
            }
        };
        appended.map(|_| ()).map_err(|error| wal_error(&error))
    }

    async fn flush(&mut self) -> Result<WalFlushResult, WalError> {
        let journal = Arc::clone(self.writer.journal());
        journal.check().map_err(|error| wal_error(&error))?;
        let wal_id = journal.appended_id();
        let upstream = self.upstream.clone();
        let completion = async move {
            let synced = journal.sync_patiently().await;
            let stored = match (synced, upstream) {
                (Ok(id), Some(upstream)) => upstream.want(id).await,
                (synced, _) => synced.map(|_| ()),
            };
            stored.map_err(|error| wal_error(&error))
        };
        Ok(WalFlushResult { wal_id, completion: completion.boxed() })
    }

    fn should_flush_memtable(&self, replay_after_wal_id: u64) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| upstream.is_long(replay_after_wal_id))
    }

    fn observer(&self) -> Box<dyn WalObserver> {
        Box::new(Observer { journal: Arc::clone(self.writer.journal()), upstream: self.upstream.clone() })
    }

    fn status(&self) -> Result<WalStatus, WalStatus> {
        status(&progress(self.writer.journal(), self.upstream.as_ref()))
    }

    async fn close(&mut self) -> Result<(), WalError> {
        match self.writer.journal().close().await {
            Err(error @ JournalError::Io { .. }) => Err(wal_error(&error)),
            _ => Ok(()),
        }
    }
}

/// What the engine may rely on: with a store beyond the directory, only what is there, so that its tables, which are
/// there too, never hold rows that the log could not bring back.
fn progress(journal: &Journal, upstream: Option<&Arc<Upstream>>) -> Progress {
    upstream.map_or_else(|| journal.progress(), |upstream| upstream.progress())
}

struct Observer {
    journal: Arc<Journal>,
    upstream: Option<Arc<Upstream>>,
}

#[async_trait]
impl WalObserver for Observer {
    fn status(&self) -> Result<WalStatus, WalStatus> {
        status(&progress(&self.journal, self.upstream.as_ref()))
    }

    fn subscribe(&self, listener: WalStatusListener) -> Result<(), WalError> {
        let tell = move |progress: &Progress| {
            listener(match status(progress) {
                Ok(status) => WalEvent::WalFlushed(status),
                Err(status) => WalEvent::WalClosed(status),
            });
        };
        let Some(upstream) = &self.upstream else {
            self.journal.listen(Arc::new(tell));
            return Ok(());
        };
        let tell = Arc::new(tell);
        upstream.listen(tell.clone());
        // When the journal stops, nothing more comes to the store.
        let upstream = Arc::downgrade(upstream);
        self.journal.listen(Arc::new(move |progress: &Progress| {
            if let (true, Some(upstream)) = (progress.stopped.is_some(), upstream.upgrade()) {
                tell(&upstream.progress());
            }
        }));
        Ok(())
    }
}

fn status(progress: &Progress) -> Result<WalStatus, WalStatus> {
    let status = WalStatus {
        closed_reason: progress.stopped.as_ref().map(wal_error),
        // Everything appended is in the file.
        estimated_bytes: 0,
        buffered_wal_entries_count: 0,
        last_flushed_wal_id: progress.synced_id,
        last_flushed_seq: Some(progress.synced_seq).filter(|seq| *seq > 0),
    };
    if status.closed_reason.is_some() { Err(status) } else { Ok(status) }
}

fn wal_error(error: &JournalError) -> WalError {
    let source = Arc::new(error.clone());
    match error {
        JournalError::Closed { .. } => WalError::Closed,
        JournalError::Fenced { .. } => WalError::Fenced,
        JournalError::Corrupt { .. } | JournalError::Gap { .. } | JournalError::Version { .. } => {
            WalError::DataError(source)
        }
        _ => WalError::Unavailable(source),
    }
}

/// Removes journal files when the engine says which records its manifests still need.
pub(super) struct Collector {
    pub shared: Arc<Shared>,
    pub upstream: Option<Arc<Upstream>>,
}

#[async_trait]
impl WalGc for Collector {
    async fn collect(
        &self,
        needed: Vec<WalFileRange>,
        _min_age: Duration,
        dry_run: bool,
    ) -> Result<(), WalError> {
        let Some(journal) = self.shared.journal.get().cloned().filter(|_| !dry_run) else {
            return Ok(());
        };
        let needed: Vec<_> = needed.iter().map(inclusive).collect();
        if let Some(upstream) = &self.upstream {
            // Without a word of what is needed, everything is.
            let first = needed.iter().map(|range| *range.start()).min().unwrap_or(0);
            let removed = upstream.collect(first).await;
            let removed = removed.map_err(|error| WalError::Unavailable(Arc::new(error)))?;
            tracing::debug!(removed, "removed objects of the log");
        }
        let collected = tokio::task::spawn_blocking(move || journal.collect(&needed)).await;
        let removed = collected
            .map_err(|error| WalError::InternalError(Arc::new(error)))?
            .map_err(|error| wal_error(&error))?;
        if removed > 0 {
            tracing::debug!(removed, "removed journal files");
        }
        Ok(())
    }
}

fn inclusive(range: &WalFileRange) -> RangeInclusive<u64> {
    let start = match range.0 {
        Bound::Included(start) => start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.1 {
        Bound::Included(end) => end,
        Bound::Excluded(after) => after.saturating_sub(1),
        Bound::Unbounded => u64::MAX,
    };
    start..=end
}
