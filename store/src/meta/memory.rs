//! The engine of the test oracle: a `BTreeMap` behind [`Meta`].

use super::{Batch, Meta, MetaError, Op, Rows, SCAN_PAGE_BYTES, Seq, View, Watermarks};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

/// Metadata in memory only. It is the definition of right that [`super::SlateMeta`] is compared with, and keeps
/// the same refusals and the same order of watermarks; it survives nothing.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Bytes, Bytes>,
    committed: Seq,
    synced: Seq,
    closed: bool,
}

impl MemoryMeta {
    /// An empty volume.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn open(&self) -> Result<(), MetaError> {
        if self.closed {
            let reason = "closed by its owner".to_owned();
            return Err(MetaError::Closed { path: PathBuf::from("memory"), reason });
        }
        Ok(())
    }
}

#[async_trait]
impl Meta for MemoryMeta {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        let state = self.state.read();
        state.open()?;
        Ok(state.rows.get(key).cloned())
    }

    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError> {
        let state = self.state.read();
        state.open()?;
        Ok(page(&state.rows, start, end, limit))
    }

    async fn view(&self) -> Result<Box<dyn View>, MetaError> {
        let state = self.state.read();
        state.open()?;
        Ok(Box::new(Frozen(state.rows.clone(), state.committed)))
    }

    async fn commit(&self, batch: Batch) -> Result<Seq, MetaError> {
        batch.check()?;
        let mut state = self.state.write();
        state.open()?;
        if batch.is_empty() {
            return Ok(state.committed);
        }
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => state.rows.insert(key.clone(), value.clone()),
                Op::Delete(key) => state.rows.remove(key),
            };
        }
        state.committed.0 += 1;
        Ok(state.committed)
    }

    async fn sync(&self) -> Result<Seq, MetaError> {
        let mut state = self.state.write();
        state.open()?;
        state.synced = state.committed;
        Ok(state.synced)
    }

    fn watermarks(&self) -> Watermarks {
        let state = self.state.read();
        Watermarks { received: state.committed, journalled: state.synced, stored: state.synced }
    }

    async fn close(self: Arc<Self>) -> Result<(), MetaError> {
        let mut state = self.state.write();
        state.synced = state.committed;
        state.closed = true;
        Ok(())
    }
}

/// The rows as they were.
struct Frozen(BTreeMap<Bytes, Bytes>, Seq);

#[async_trait]
impl View for Frozen {
    fn seq(&self) -> Seq {
        self.1
    }

    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError> {
        Ok(page(&self.0, start, end, limit))
    }
}

fn page(all: &BTreeMap<Bytes, Bytes>, start: &[u8], end: &[u8], limit: usize) -> Rows {
    let mut rows = Rows::new();
    if !end.is_empty() && start >= end {
        return rows;
    }
    let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    let mut bytes = 0;
    for (key, value) in all.range::<[u8], _>((Bound::Included(start), upper)).take(limit) {
        bytes += key.len() + value.len();
        rows.push((key.clone(), value.clone()));
        if bytes >= SCAN_PAGE_BYTES {
            break;
        }
    }
    rows
}
