//! Rows that are in memory and not in tables yet, of all volumes of the process under one bound.
//!
//! Each engine writes a table when its memtable has [`TABLE_BYTES`]. That bounds one volume; a hundred with a little less
//! each would take a hundred times as much, for as long as they are open. So what all of them hold is added up here, and
//! past the bound the one with the most writes its table early, one after the other.
//!
//! Counted are the bytes of commits: about what the engine keeps. A volume that commits faster than tables are written,
//! with everything beyond [`SLOW_AT`] bounds, waits a little before each commit.

use super::SlateMeta;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// At this size an engine writes a table by itself.
pub(super) const TABLE_BYTES: u64 = 8 << 20;

/// Commits wait when there is this many times the bound.
const SLOW_AT: u64 = 4;

/// The least bound: tables of less cost more than they save.
const LEAST_BYTES: u64 = 1 << 20;

/// Longest such wait. The bound of a volume's own is strict; this one slows down.
const SLOW_FOR: Duration = Duration::from_secs(5);

/// See the module documentation.
pub(super) struct Unwritten {
    bound: u64,
    total: AtomicU64,
    parts: Mutex<Vec<Weak<Part>>>,
    writing: AtomicBool,
    written: Notify,
}

/// What one volume holds.
pub(super) struct Part {
    all: Arc<Unwritten>,
    bytes: AtomicU64,
    engine: Mutex<Weak<SlateMeta>>,
}

impl Unwritten {
    /// About `bound` bytes.
    pub fn new(bound: u64) -> Arc<Self> {
        let bound = bound.max(LEAST_BYTES);
        let (total, parts, writing) = (AtomicU64::new(0), Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { bound, total, parts, writing, written: Notify::new() })
    }

    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// A volume is being opened.
    pub fn part(self: &Arc<Self>) -> Arc<Part> {
        let part = Arc::new(Part { all: Arc::clone(self), bytes: 0.into(), engine: Mutex::default() });
        let mut parts = self.parts.lock();
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part));
        part
    }

    fn most(&self) -> Option<(Arc<Part>, Arc<SlateMeta>)> {
        let parts: Vec<Arc<Part>> = self.parts.lock().iter().filter_map(Weak::upgrade).collect();
        let held = parts.into_iter().filter(|part| part.bytes.load(Ordering::Relaxed) > 0);
        let open = held.filter_map(|part| {
            let engine = part.engine.lock().upgrade()?;
            Some((part, engine))
        });
        open.max_by_key(|(part, _)| part.bytes.load(Ordering::Relaxed))
    }

    /// Has tables written until half of the bound is held.
    async fn relieve(self: Arc<Self>) {
        while self.bytes() > self.bound / 2 {
            let Some((part, engine)) = self.most() else { break };
            // What is committed from here on counts anew.
            part.take(part.bytes.load(Ordering::Relaxed));
            if let Err(error) = engine.flush().await {
                // The journal has the rows; the volume tells those who use it.
                tracing::warn!(path = %engine.path.display(), %error, "cannot write rows to a table yet");
            }
            self.written.notify_waiters();
        }
        self.writing.store(false, Ordering::Release);
        self.written.notify_waiters();
    }
}

impl Part {
    /// The engine is open.
    pub fn opened(&self, engine: &Arc<SlateMeta>) {
        *self.engine.lock() = Arc::downgrade(engine);
    }

    fn take(&self, bytes: u64) {
        let before = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
        let taken = before.unwrap_or_else(|held| held).min(bytes);
        self.all.total.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Before a commit.
    pub async fn room(&self) {
        let all = &self.all;
        let wait = async {
            loop {
                let written = all.written.notified();
                if all.bytes() <= SLOW_AT * all.bound || !all.writing.load(Ordering::Acquire) {
                    return;
                }
                written.await;
            }
        };
        if all.bytes() > SLOW_AT * all.bound {
            let _ = tokio::time::timeout(SLOW_FOR, wait).await;
        }
    }

    /// Rows were committed.
    pub fn add(&self, bytes: u64) {
        self.all.total.fetch_add(bytes, Ordering::Relaxed);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held >= TABLE_BYTES {
            self.take(held);
        }
        if self.all.bytes() > self.all.bound && !self.all.writing.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(&self.all).relieve());
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.take(u64::MAX);
    }
}
