//! [`Snapshots`] of the oracle: a copy of everything.

use super::{Oracle, State};
use crate::api::{Caller, Objects, Result, SnapshotInfo, Snapshots};
use crate::error::StoreError;
use async_trait::async_trait;
use mooring_policy::action::Action;
use mooring_protocol::types::FileKind;
use std::collections::BTreeMap;
use std::sync::Arc;

fn may_change(cx: &Caller) -> Result<()> {
    cx.authority.check(Action::Write, None)?;
    if cx.confined { Err(StoreError::AccessDenied("confined".into())) } else { Ok(()) }
}

fn check_name(name: &str) -> Result<()> {
    match name {
        "" | "." | ".." => Err(StoreError::Invalid("name")),
        _ if name.len() > 255 => Err(StoreError::NameTooLong),
        _ if name.contains(['/', '\0']) => Err(StoreError::Invalid("name")),
        _ => Ok(()),
    }
}

impl Oracle {
    /// Another tree that is what this one is, or was in a snapshot.
    ///
    /// # Errors
    /// Those of [`crate::volume::Volume::clone_head`].
    pub fn clone_tree(&self, cx: &Caller, from: Option<&str>) -> Result<Oracle> {
        may_change(cx)?;
        from.map_or(Ok(()), check_name)?;
        let then = match from {
            Some(name) => self.snapshots.lock().get(name).map(|(state, _)| state.clone()),
            None => Some(self.state().clone()),
        };
        let then = then.ok_or(StoreError::NotFound)?;
        let oracle = Oracle::with(fresh(then), false);
        Ok(oracle.with_min_part_bytes(self.min_part_bytes))
    }
}

/// A state that nobody has at hand: handles and uploads under way are none of it.
fn fresh(then: State) -> State {
    let mut state = State { uploads: BTreeMap::new(), ..then };
    for node in state.nodes.values_mut() {
        (node.pins, node.staged, node.part) = (0, false, false);
    }
    let all: Vec<_> = state.nodes.keys().copied().collect();
    all.into_iter().for_each(|ino| state.reap(ino));
    state
}

#[async_trait]
impl Snapshots for Oracle {
    async fn snapshot_create(&self, cx: &Caller, name: &str) -> Result<SnapshotInfo> {
        may_change(cx)?;
        check_name(name)?;
        let mut snapshots = self.snapshots.lock();
        if snapshots.contains_key(name) {
            return Err(StoreError::Exists);
        }
        let state = self.state().clone();
        let last = snapshots.values().map(|(_, info)| info.view).max().unwrap_or(0);
        let files = state.nodes.values().filter(|node| node.attr.kind == FileKind::File);
        let info = SnapshotInfo {
            view: last + 1,
            name: name.to_owned(),
            created: cx.now,
            inodes: state.nodes.len() as u64,
            blocks: files.map(|node| node.blocks.len() as u64).sum(),
        };
        snapshots.insert(name.to_owned(), (state, info.clone()));
        Ok(info)
    }

    async fn snapshots(&self, cx: &Caller) -> Result<Vec<SnapshotInfo>> {
        cx.authority.check(Action::List, None)?;
        Ok(self.snapshots.lock().values().map(|(_, info)| info.clone()).collect())
    }

    async fn snapshot_remove(&self, cx: &Caller, name: &str) -> Result<()> {
        may_change(cx)?;
        check_name(name)?;
        self.snapshots.lock().remove(name).map(drop).ok_or(StoreError::NotFound)
    }

    async fn snapshot_restore(&self, cx: &Caller, name: &str) -> Result<()> {
        may_change(cx)?;
        check_name(name)?;
        let then = self.snapshots.lock().get(name).map(|(state, _)| state.clone());
        let then = then.ok_or(StoreError::NotFound)?;
        let mut state = self.state();
        let (next, operations) = (state.next, state.operations);
        *state = fresh(State { next, operations, ..then });
        Ok(())
    }

    async fn snapshot_view(&self, cx: &Caller, name: &str) -> Result<Arc<dyn Objects>> {
        cx.authority.check(Action::List, None)?;
        check_name(name)?;
        let snapshots = self.snapshots.lock();
        let (state, _) = snapshots.get(name).ok_or(StoreError::NotFound)?;
        Ok(Arc::new(Oracle::with(state.clone(), true)))
    }
}
