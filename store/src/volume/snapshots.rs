//! Snapshots: taking, listing, looking into them.
//!
//! A snapshot costs two rows: the layer that the head was writing into becomes the snapshot's, and the head goes on in a
//! new, empty one above it. Changes are kept out for the moment in which that is committed, so everything before the
//! snapshot is in it, and nothing after. What follows is the business of later changes: rows of lower layers are never
//! written again, and a file's map is copied before it changes ([`super::freeze`]).
//!
//! Inodes without a name, open or on their way to an object, are in the frozen layer too, where no name leads to them;
//! what they hold goes with the snapshot.

use super::map::signed;
use super::view::View;
use super::{Volume, rows};
use crate::api::{Caller, Objects, Result, SnapshotInfo, Snapshots};
use crate::error::StoreError;
use crate::keys::counter::Counter;
use crate::keys::snapshot::{self, Snapshot};
use crate::keys::{HeadId, Layer, layer};
use crate::meta::after;
use async_trait::async_trait;
use mooring_policy::action::Action;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest name, bytes.
const MAX_NAME: usize = 255;
/// The highest number of a view.
const MAX_VIEW: u16 = 0xfffe;

#[async_trait]
impl Snapshots for Volume {
    async fn snapshot_create(&self, cx: &Caller, name: &str) -> Result<SnapshotInfo> {
        may_change(cx)?;
        check_name(name)?;
        self.alive()?;
        let info = self.take_snapshot(cx, name).await?;
        self.family.layering.wake();
        crate::api::Tree::sync(self).await?;
        Ok(info)
    }

    async fn snapshots(&self, cx: &Caller) -> Result<Vec<SnapshotInfo>> {
        cx.authority.check(Action::List, None)?;
        self.alive()?;
        let all = self.own_snapshots().await?;
        Ok(all.into_iter().map(|(name, row)| info(name, &row)).collect())
    }

    async fn snapshot_remove(&self, cx: &Caller, name: &str) -> Result<()> {
        may_change(cx)?;
        check_name(name)?;
        self.alive()?;
        let layers = self.family.layering.place.lock().await;
        let row = self.snapshot(name).await?.ok_or(StoreError::NotFound)?;
        let entered = self.enter().await;
        let mut tx = self.tx(&entered);
        drop(entered);
        tx.delete_plain(snapshot::key(self.head_id(), name));
        self.commit(tx.done()).await?;
        self.end_view(row.layer);
        drop(layers);
        self.family.layering.wake();
        crate::api::Tree::sync(self).await
    }

    async fn snapshot_restore(&self, cx: &Caller, name: &str) -> Result<()> {
        may_change(cx)?;
        check_name(name)?;
        self.alive()?;
        self.restore(name).await?;
        self.family.layering.wake();
        self.purge(true).await?;
        crate::api::Tree::sync(self).await
    }

    async fn snapshot_view(&self, cx: &Caller, name: &str) -> Result<Arc<dyn Objects>> {
        cx.authority.check(Action::List, None)?;
        check_name(name)?;
        self.alive()?;
        let row = self.snapshot(name).await?.ok_or(StoreError::NotFound)?;
        let view = self.view(&row).await?;
        // A snapshot that was removed meanwhile may have been so before there was a view to end.
        if self.snapshot(name).await? != Some(row) {
            view.end();
            return Err(StoreError::NotFound);
        }
        Ok(view)
    }
}

impl Volume {
    async fn take_snapshot(&self, cx: &Caller, name: &str) -> Result<SnapshotInfo> {
        let _layers = self.family.layering.place.lock().await;
        let stopped = self.stop().await?;
        let all = self.own_snapshots().await?;
        if all.iter().any(|(known, _)| known == name) {
            return Err(StoreError::Exists);
        }
        let used = self.shared.usage.used();
        let row = Snapshot {
            view: free_view(all.iter().map(|(_, row)| row.view))?,
            layer: self.rows().head(),
            created: cx.now,
            inodes: used.inodes,
            blocks: used.blocks,
        };
        let next = self.next_layer().await?;
        let mut tx = self.tx(&stopped);
        drop(stopped);
        tx.put_plain(snapshot::key(self.head_id(), name), snapshot::encode(&row));
        tx.put_plain(layer::key(next), layer::encode(Some(row.layer)));
        tx.counter(Counter::Head, self.head_id(), u64::from(next.0));
        let chain = [&[next], &self.rows().chain()[..]].concat();
        tx.head(chain, false);
        self.commit(tx.done()).await?;
        Ok(info(name.to_owned(), &row))
    }

    /// Puts a new head on top of a snapshot. The old one is nobody's from then on.
    async fn restore(&self, name: &str) -> Result<()> {
        let _layers = self.family.layering.place.lock().await;
        let row = self.snapshot(name).await?.ok_or(StoreError::NotFound)?;
        // Uploads are no part of a snapshot, and their parts are of the head that goes.
        self.give_up_uploads().await?;
        let next = self.next_layer().await?;
        let chain = super::heads::chain(&**self.rows().meta(), u64::from(row.layer.0)).await?;
        let stopped = self.locks.stop_all(self.rows()).await;
        // Those begun meanwhile.
        self.give_up_uploads().await?;
        let mut tx = self.tx(&stopped);
        drop(stopped);
        let change = |now: u64, then: u64| signed(then) - signed(now);
        let used = self.shared.usage.used();
        tx.totals(change(used.inodes, row.inodes), change(used.blocks, row.blocks));
        tx.put_plain(layer::key(next), layer::encode(Some(row.layer)));
        tx.counter(Counter::Head, self.head_id(), u64::from(next.0));
        tx.moved_directory();
        tx.head([&[next], &chain[..]].concat(), true);
        self.commit(tx.done()).await
    }

    /// A layer above all there are.
    pub(super) async fn next_layer(&self) -> Result<Layer> {
        let layers = layers(self.rows()).await?;
        let highest = layers.last().map_or(0, |(layer, _)| layer.0);
        let next = highest.checked_add(1).map(Layer);
        next.ok_or(StoreError::TooLarge("layers of the volume: all numbers are used"))
    }

    pub(super) async fn snapshot(&self, name: &str) -> Result<Option<Snapshot>> {
        let row = self.rows().meta().get(&snapshot::key(self.head_id(), name)).await?;
        row.map(|value| Ok(snapshot::decode(&value)?)).transpose()
    }

    /// The head's snapshots by name.
    async fn own_snapshots(&self) -> Result<Vec<(String, Snapshot)>> {
        let all = self.all_snapshots().await?.into_iter();
        let own = all.filter(|(head, ..)| *head == self.head_id());
        Ok(own.map(|(_, name, row)| (name, row)).collect())
    }

    /// All snapshots of all heads.
    pub(super) async fn all_snapshots(&self) -> Result<Vec<(HeadId, String, Snapshot)>> {
        let mut all = Vec::new();
        for (key, value) in plain(self.rows(), &snapshot::prefix()).await? {
            let (head, name) = snapshot::parse(&key)?;
            all.push((head, name.to_owned(), snapshot::decode(&value)?));
        }
        Ok(all)
    }

    /// Nothing is told any more of what a look into this snapshot finds.
    pub(super) fn end_view(&self, layer: Layer) {
        if let Some(view) = self.family.views.lock().remove(&layer).and_then(|view| view.upgrade()) {
            view.end();
        }
    }

    async fn view(&self, row: &Snapshot) -> Result<Arc<View>> {
        let chain = super::heads::chain(&**self.rows().meta(), u64::from(row.layer.0)).await?;
        let mut views = self.family.views.lock();
        views.retain(|_, view| view.strong_count() > 0);
        if let Some(open) = views.get(&row.layer).and_then(std::sync::Weak::upgrade) {
            return Ok(open);
        }
        let view = Arc::new(View::new(self, chain, row));
        views.insert(row.layer, Arc::downgrade(&view));
        Ok(view)
    }
}

/// Every layer with the one below it, lowest first.
pub(super) async fn layers(rows: &rows::Rows) -> Result<Vec<(Layer, Option<Layer>)>> {
    let mut layers = Vec::new();
    for (key, value) in plain(rows, &layer::prefix()).await? {
        layers.push((layer::parse(&key)?, layer::decode(&value)?));
    }
    Ok(layers)
}

/// All rows of a small family: whole keys, and values.
pub(super) async fn plain(rows: &rows::Rows, prefix: &[u8]) -> Result<Vec<(Vec<u8>, bytes::Bytes)>> {
    const PAGE: usize = 512;
    let mut all = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = rows::scan(&**rows.meta(), prefix, &from, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        from = after(last);
        all.extend(page.into_iter().map(|(rest, value)| ([prefix, &rest[..]].concat(), value)));
    }
}

/// A number that no snapshot has: the one after the highest, or the lowest that is free.
fn free_view(taken: impl Iterator<Item = u16>) -> Result<u16> {
    let taken: BTreeSet<u16> = taken.collect();
    let next = taken.last().map_or(1, |last| last.saturating_add(1));
    let free =
        (next <= MAX_VIEW).then_some(next).or_else(|| (1..=MAX_VIEW).find(|view| !taken.contains(view)));
    free.ok_or(StoreError::TooLarge("a volume may have 65,534 snapshots; remove some"))
}

/// Whether the caller may change snapshots at all.
pub(super) fn may_change(cx: &Caller) -> Result<()> {
    cx.authority.check(Action::Write, None)?;
    if cx.confined {
        return Err(StoreError::AccessDenied("snapshots are of a whole bucket, and its owner's".into()));
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<()> {
    match name {
        "" => Err(StoreError::Invalid("a snapshot needs a name")),
        "." | ".." => Err(StoreError::Invalid("a snapshot cannot be named . or ..")),
        _ if name.len() > MAX_NAME => Err(StoreError::NameTooLong),
        _ if name.contains(['/', '\0']) => {
            Err(StoreError::Invalid("a snapshot's name cannot hold a slash or a NUL byte"))
        }
        _ => Ok(()),
    }
}

fn info(name: String, row: &Snapshot) -> SnapshotInfo {
    let Snapshot { view, created, inodes, blocks, .. } = *row;
    SnapshotInfo { view, name, created, inodes, blocks }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn numbers_of_views_come_again_last() {
        assert_eq!(free_view([].into_iter()).unwrap(), 1);
        assert_eq!(free_view([1, 7].into_iter()).unwrap(), 8);
        assert_eq!(free_view([1, MAX_VIEW].into_iter()).unwrap(), 2);
        assert!(free_view(1..=MAX_VIEW).is_err());
    }

    #[test]
    fn names_are_those_of_directory_entries() {
        for bad in ["", ".", "..", "a/b", "a\0", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["daily-2026-11-21", "...", "é", &"x".repeat(255)] {
            check_name(good).unwrap();
        }
    }
}
