//! When and how what was written here becomes an object.
//!
//! A file is uploaded whole: at `fsync`, when its last handle is released, and a second after a change that came without
//! a handle. Up to 8 MiB it is one PUT, beyond that an upload in parts; either way the other store shows the old object
//! or the new one and nothing in between, also when this gateway dies on the way. What fails is tried again, later and
//! later, as long as the bucket is open; nothing is thrown away meanwhile, and `fsync` says what is wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use mooring_protocol::types::Time;
use mooring_store::api::{Condition, ObjectMeta, Result, Watermarks};
use mooring_store::error::StoreError;
use tokio::sync::SemaphorePermit;

use crate::External;
use crate::node::{Dirty, Node, State};
use crate::spool::Spool;

/// Bytes of one part, and of the largest single PUT.
pub const PART: u64 = 8 << 20;
/// Parts an upload may have.
const MAX_PARTS: u64 = 10_000;
/// Parts of one file on their way at once.
pub const PARTS_AT_ONCE: usize = 4;
/// Bytes in memory on their way, over all files of the bucket. A part that is larger travels alone.
pub const MEMORY: u64 = 64 << 20;
/// What is counted.
const MIB: u64 = 1 << 20;
/// Files on their way at once.
pub const FILES_AT_ONCE: usize = 8;

/// How long a change without an open handle waits for more.
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// The longest time between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Files that may wait. Beyond that, making another one waits.
const MAX_WAITING: usize = 256;
/// How long it waits.
const ROOM_LIMIT: Duration = Duration::from_secs(60);

/// Too much waits to be uploaded.
#[derive(Debug, thiserror::Error)]
#[error(
    "{MAX_WAITING} files wait to be uploaded: close some, or see the log for why the external store takes none"
)]
struct TooMany;

impl External {
    /// Notes that a file has bytes that the other store has not. Its state is locked by the caller.
    pub(crate) fn touch(&self, node: &Arc<Node>, state: &mut State, now: Time, stamp: Option<Time>) {
        state.modified = Some(stamp.unwrap_or(now));
        state.version = self.table.version(now);
        if state.gone {
            return;
        }
        let seq = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        let seq = state.dirty.map_or(seq, |dirty| dirty.seq);
        state.dirty = Some(Dirty { seq, due: self.moment() + SETTLE, failed: 0 });
        self.dirty.lock().insert(node.ino, Arc::clone(node));
    }

    /// The last handle was released: nothing more will come.
    pub(crate) fn released(&self, state: &mut State) {
        match &mut state.dirty {
            Some(dirty) => dirty.due = self.moment(),
            None if !state.gone => state.spool = None,
            None => {}
        }
        self.due.notify_one();
    }

    /// Waits until fewer files wait to be uploaded than may.
    pub(crate) async fn room(&self) -> Result<()> {
        let room = async {
            loop {
                let done = self.done.notified();
                if self.dirty.lock().len() < MAX_WAITING {
                    return;
                }
                done.await;
            }
        };
        let waited = tokio::time::timeout(ROOM_LIMIT, room).await;
        waited.map_err(|_| StoreError::Unavailable(Box::new(TooMany)))
    }

    /// Everything that waits.
    pub(crate) fn waiting(&self) -> Vec<Arc<Node>> {
        let mut all: Vec<Arc<Node>> = self.dirty.lock().values().cloned().collect();
        // A node's state is locked before the list, here as everywhere.
        all.retain(|node| {
            let state = node.state.lock();
            if state.dirty.is_none() {
                self.dirty.lock().remove(&node.ino);
            }
            state.dirty.is_some()
        });
        self.done.notify_waiters();
        all
    }

    /// Uploads what is due, until the bucket is closed.
    pub(crate) async fn keep_uploading(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.due.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let now = self.moment();
            for node in self.waiting() {
                {
                    let mut state = node.state.lock();
                    let pins = state.pins;
                    match &mut state.dirty {
                        // While it is on its way nobody else begins; a change meanwhile makes it due anew.
                        Some(dirty) if pins == 0 && dirty.due <= now => dirty.due = Duration::MAX,
                        _ => continue,
                    }
                }
                let Ok(permit) = Arc::clone(&self.files).acquire_owned().await else { return };
                let this = Arc::clone(&self);
                self.tasks.spawn(async move {
                    if let Err(error) = this.upload(&node).await {
                        this.failed(&node, &error);
                    }
                    drop(permit);
                });
            }
        }
    }

    /// A try without anybody waiting for it failed.
    fn failed(&self, node: &Node, error: &StoreError) {
        let mut state = node.state.lock();
        let key = state.key.escape_ascii().to_string();
        let Some(dirty) = &mut state.dirty else { return };
        let wait = Duration::from_secs(1 << dirty.failed.min(6)).min(MAX_BACKOFF);
        dirty.due = self.moment() + wait;
        let causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        tracing::warn!(%key, %error, because = causes.join(": "), retry_in = ?wait, "a file could not be uploaded");
    }

    /// Uploads a file if it has to be. When this returns well, all that was written before is in the other store.
    pub(crate) async fn upload(&self, node: &Arc<Node>) -> Result<()> {
        let _work = node.work.lock().await;
        self.upload_locked(node).await
    }

    /// The same, while the caller holds the node's work.
    pub(crate) async fn upload_locked(&self, node: &Arc<Node>) -> Result<()> {
        let now = || Time::from_millis(self.clock.now().as_millis());
        let (key, spool, known) = {
            let state = node.state.lock();
            let Some(spool) = state.spool.clone().filter(|_| state.dirty.is_some() && !state.gone) else {
                return Ok(());
            };
            (state.key.clone(), spool, state.stat.is_some())
        };
        let sent = async {
            // What others wrote beside the bytes stays with the object.
            let meta = if known { self.remote.head(&key).await?.map(|(_, meta)| meta) } else { None };
            let etag = self.send(&key, &spool, &meta.unwrap_or_default(), &Condition::default()).await?;
            let seen = self.remote.head(&key).await.ok().flatten().map(|(stat, _)| stat);
            Ok::<_, StoreError>((etag, seen))
        };
        let (etag, seen) = match sent.await {
            Ok(sent) => sent,
            Err(error) => {
                if let Some(dirty) = &mut node.state.lock().dirty {
                    dirty.failed += 1;
                }
                return Err(error);
            }
        };
        let at = self.moment();
        let size = spool.size();
        let mine = seen.filter(|seen| seen.etag == etag);
        let stat = mine.unwrap_or_else(|| self.put_stat(etag, size, now()));
        {
            let mut state = node.state.lock();
            state.stat = Some(stat);
            state.checked = at;
            state.modified = None;
            state.dirty = None;
            state.version = self.table.version(now());
            if state.pins == 0 {
                state.spool = None;
            }
            self.dirty.lock().remove(&node.ino);
        }
        self.done.notify_waiters();
        self.table.stored(node, &key, at);
        Ok(())
    }

    /// Waits for room in memory for so many bytes.
    pub(crate) async fn memory(&self, bytes: u64) -> Result<SemaphorePermit<'_>> {
        let count = bytes.clamp(MIB, MEMORY).div_ceil(MIB) as u32;
        self.memory.acquire_many(count).await.map_err(|_| StoreError::Closed)
    }

    /// Sends all bytes of a spool under a key; returns the ETag.
    pub(crate) async fn send(
        &self,
        key: &[u8],
        spool: &Arc<Spool>,
        meta: &ObjectMeta,
        when: &Condition,
    ) -> Result<String> {
        let size = spool.size();
        if size <= PART {
            let _memory = self.memory(size).await?;
            return self.remote.put(key, spool.read(0, size as usize).await?, meta, when).await;
        }
        let id = self.remote.begin(key, meta).await?;
        let sent = self.send_parts(key, &id, spool, size).await;
        let sent = match sent {
            Ok(parts) => self.remote.complete(key, &id, &parts, when).await,
            Err(error) => Err(error),
        };
        if sent.is_err()
            && let Err(error) = self.remote.abort(key, &id).await
        {
            tracing::warn!(key = %key.escape_ascii(), upload = id, %error, "an upload that failed stays in the external store");
        }
        sent
    }

    async fn send_parts(
        &self,
        key: &[u8],
        id: &str,
        spool: &Arc<Spool>,
        size: u64,
    ) -> Result<Vec<(u16, String)>> {
        let length = PART.max(size.div_ceil(MAX_PARTS));
        let parts = (0..size.div_ceil(length)).map(|index| async move {
            let number = u16::try_from(index + 1).map_err(|_| StoreError::TooLarge("parts of an upload"))?;
            let _memory = self.memory(length).await?;
            let data = spool.read(index * length, length as usize).await?;
            Ok::<_, StoreError>((number, self.remote.part(key, id, number, data).await?))
        });
        futures::stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await
    }

    /// Uploads everything that waits.
    pub(crate) async fn upload_all(&self) -> Result<()> {
        let uploads = self.waiting().into_iter().map(|node| async move { self.upload(&node).await });
        let done: Vec<Result<()>> =
            futures::stream::iter(uploads).buffer_unordered(FILES_AT_ONCE).collect().await;
        done.into_iter().collect()
    }

    /// Below the first change that waits, everything is in the other store.
    pub(crate) fn marks(&self) -> Watermarks {
        let received = self.changes.load(Ordering::Acquire);
        let waiting = self.waiting();
        let first = waiting.iter().filter_map(|node| node.state.lock().dirty.map(|dirty| dirty.seq)).min();
        let stored = first.map_or(received, |first| first - 1);
        Watermarks { received, journalled: stored, stored }
    }
}
