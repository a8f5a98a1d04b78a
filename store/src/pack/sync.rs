//! Durability: making appended extents durable, and telling afterwards which survived.

use super::error::PackError;
use super::extent::{Entry, ExtentRef, PackId};
use super::medium::PackFile;
use super::recover;
use super::store::{PackStore, joined};
use crate::failpoints;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Known;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far packs are durable.
#[derive(Default)]
pub(super) struct Syncs {
    /// Appends that are durable.
    synced: AtomicU64,
    /// Those who wait in a task queue here, so that one thread waits below.
    queue: tokio::sync::Mutex<()>,
    /// Held by the one that syncs.
    leader: Mutex<()>,
    fdatasyncs: AtomicU64,
    /// What is in packs that were asked about, until [`PackStore::forget_lists`].
    lists: Mutex<HashMap<PackId, HashMap<u32, Entry>>>,
}

impl PackStore {
    /// Makes everything appended before the call durable. Concurrent callers share the fdatasync.
    pub async fn sync(self: &Arc<Self>) -> Result<(), PackError> {
        let target = self.appended.load(Ordering::Acquire);
        if self.is_synced(target) {
            return self.check();
        }
        let _next = self.syncs.queue.lock().await;
        if self.is_synced(target) {
            return self.check();
        }
        let store = Arc::clone(self);
        // The result is noted by the thread that syncs: a caller that goes away must not lose a failure, because
        // the kernel reports it once.
        let synced = tokio::task::spawn_blocking(move || store.sync_now()).await;
        synced.map_err(|error| joined(&self.options, error))?
    }

    fn is_synced(&self, target: u64) -> bool {
        self.syncs.synced.load(Ordering::Acquire) >= target
    }

    /// [`Self::sync`] on this thread.
    pub fn sync_now(&self) -> Result<(), PackError> {
        let target = self.appended.load(Ordering::Acquire);
        if self.is_synced(target) {
            return self.check();
        }
        let _leader = self.syncs.leader.lock();
        self.check()?;
        if self.is_synced(target) {
            return Ok(());
        }
        let reached = self.appended.load(Ordering::Acquire);
        let synced = self.sync_files();
        match &synced {
            Ok(()) => {
                self.syncs.synced.fetch_max(reached, Ordering::AcqRel);
            }
            // Bytes that were appended are gone. Anything else is made up for by the next call that succeeds.
            Err(error @ PackError::Corrupt { .. }) => self.state.lock().stopped = Some(error.clone()),
            Err(_) => {}
        }
        synced
    }

    fn sync_files(&self) -> Result<(), PackError> {
        let open: Vec<_> = self.state.lock().open.values().cloned().collect();
        for pack in open {
            self.syncs.fdatasyncs.fetch_add(1, Ordering::Relaxed);
            pack.sync()?;
        }
        if !self.entered.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let dir = &self.options.dir;
        failpoints::sync(dir, || File::open(dir)?.sync_all()).map_err(|error| {
            self.entered.store(true, Ordering::Release);
            PackError::io("sync", dir, error)
        })
    }

    /// fdatasyncs so far, for metrics and tests.
    #[must_use]
    pub fn fdatasyncs(&self) -> u64 {
        self.syncs.fdatasyncs.load(Ordering::Relaxed)
    }

    /// Whether an extent of an earlier process was there after the stop. Only before this one appends. Blocking.
    ///
    /// A pack's list is of extents that were not torn when it was made: at its end, all of them durable, or by the
    /// recovery after a stop. Bytes that were lost are in no list. Bytes that were damaged did survive: the change that
    /// names them is kept, and reading them says what is wrong.
    pub fn survived(&self, extent: &ExtentRef) -> Result<bool, PackError> {
        let Some(path) = self.state.lock().sealed.get(&extent.pack).map(|sealed| sealed.path.clone()) else {
            return Ok(false);
        };
        if self.spool.is_some() && !path.exists() {
            // The store has it whole: it went there complete.
            return Ok(true);
        }
        match self.listed(extent, &path) {
            // A copy that went just now, for another volume's.
            Err(_) if self.spool.is_some() && !path.exists() => Ok(true),
            listed => listed,
        }
    }

    /// Whether the list of a pack that is here has an extent, or its bytes are there and damaged.
    fn listed(&self, extent: &ExtentRef, path: &Path) -> Result<bool, PackError> {
        let mut lists = self.syncs.lists.lock();
        let list = match lists.entry(extent.pack) {
            Known::Occupied(list) => list.into_mut(),
            Known::Vacant(place) => place.insert(list(path, extent.pack)?),
        };
        if list.get(&extent.offset).is_some_and(|entry| entry.extent == *extent) {
            return Ok(true);
        }
        let damaged = recover::is_damaged(path, extent)?;
        if damaged {
            tracing::error!(pack = %extent.pack, offset = extent.offset, "an extent in {} is damaged", path.display());
        }
        Ok(damaged)
    }

    /// Gives back the memory of [`Self::survived`].
    pub fn forget_lists(&self) {
        self.syncs.lists.lock().clear();
    }
}

/// What is in a pack, by offset.
fn list(path: &Path, pack: PackId) -> Result<HashMap<u32, Entry>, PackError> {
    let file = PackFile::open(path, pack, None)?;
    let entries = match recover::read_entries(&file, path, pack) {
        // A list that was damaged later says nothing about the extents; they do themselves.
        Err(PackError::Corrupt { .. }) => recover::scan_entries(path, pack)?,
        read => read?,
    };
    Ok(entries.into_iter().map(|entry| (entry.extent.offset, entry)).collect())
}
