//! Rows seen through a chain of layers.
//!
//! A row of an older layer shows through unless a newer layer has the same row or a tombstone for it. Everything is
//! written into the newest layer.
//!
//! In the background rows move from a layer that is no snapshot any more into the one above it. A look through several
//! layers must not miss a row on its way, so it holds the chain still meanwhile ([`Rows::still`]).

use crate::api::Result;
use crate::keys::{Layer, TOMBSTONE};
use crate::meta::{Batch, Meta, Op, View, after, prefix_end};
use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock as AsyncRwLock};

/// A page of rows: what follows the prefix in the key, and the value.
pub(crate) type Page = Vec<(Bytes, Bytes)>;

/// The rows of one head.
pub(crate) struct Rows {
    meta: Arc<dyn Meta>,
    /// Newest first, at least one.
    chain: RwLock<Arc<[Layer]>>,
    /// Shared by all heads and snapshots of a volume.
    moving: Moving,
}

/// Held shared by looks through several layers, exclusively while rows move between layers.
pub(crate) type Moving = Arc<AsyncRwLock<()>>;

/// Keeps rows in their layers.
pub(crate) type Still = OwnedRwLockReadGuard<()>;

impl Rows {
    pub(crate) fn new(meta: Arc<dyn Meta>, chain: Vec<Layer>, moving: Moving) -> Rows {
        debug_assert!(!chain.is_empty(), "a head has at least its own layer");
        Rows { meta, chain: RwLock::new(chain.into()), moving }
    }

    /// The layers, newest first.
    pub(crate) fn chain(&self) -> Arc<[Layer]> {
        self.chain.read().clone()
    }

    /// From now on these are the layers. What shows through them is what showed before, or nobody looks.
    pub(crate) fn set_chain(&self, chain: Vec<Layer>) {
        debug_assert!(!chain.is_empty(), "a head has at least its own layer");
        *self.chain.write() = chain.into();
    }

    /// Keeps rows in their layers while the guard lives. Not to be asked for twice.
    pub(crate) async fn still(&self) -> Still {
        self.moving.clone().read_owned().await
    }

    /// Waits until nobody looks, and lets nobody look while the guard lives.
    pub(crate) async fn alone(&self) -> OwnedRwLockWriteGuard<()> {
        self.moving.clone().write_owned().await
    }

    pub(crate) fn meta(&self) -> &Arc<dyn Meta> {
        &self.meta
    }

    /// Where the head writes.
    pub(crate) fn head(&self) -> Layer {
        self.chain.read().first().copied().unwrap_or(Layer::FIRST)
    }

    /// The value of a row of a namespace family.
    pub(crate) async fn get(&self, key: impl Fn(Layer) -> Vec<u8> + Send) -> Result<Option<Bytes>> {
        let _still = self.still().await;
        Ok(self.find(key).await?.map(|(_, value)| value))
    }

    /// The value of a row, and the layer it lies in. The chain is held still.
    pub(crate) async fn find(&self, key: impl Fn(Layer) -> Vec<u8> + Send) -> Result<Option<(Layer, Bytes)>> {
        for &layer in self.chain().iter() {
            match self.meta.get(&key(layer)).await? {
                Some(value) if value == TOMBSTONE => return Ok(None),
                Some(value) => return Ok(Some((layer, value))),
                None => {}
            }
        }
        Ok(None)
    }

    /// Removes a row of the head. What hides nothing is taken away before the commit, by [`Self::bare`].
    pub(crate) fn delete(&self, batch: &mut Batch, key: impl Fn(Layer) -> Vec<u8>) {
        let chain = self.chain.read();
        match chain[..] {
            [head] => batch.delete(key(head)),
            _ => batch.put(key(chain.first().copied().unwrap_or(Layer::FIRST)), TOMBSTONE),
        };
    }

    /// The batch without tombstones that hide nothing: what was made and removed since the last snapshot leaves no
    /// trace.
    pub(crate) async fn bare(&self, batch: Batch) -> Result<Batch> {
        let chain = self.chain();
        if chain.len() == 1 || !batch.ops().iter().any(is_tombstone) {
            return Ok(batch);
        }
        let _still = self.still().await;
        let mut bare = Batch::new();
        for op in batch.ops() {
            match op {
                Op::Put(key, _) if is_tombstone(op) && !self.hides(&chain, key).await? => {
                    bare.delete(key.clone())
                }
                Op::Put(key, value) => bare.put(key.clone(), value.clone()),
                Op::Delete(key) => bare.delete(key.clone()),
            };
        }
        Ok(bare)
    }

    /// Whether a row below the head would show through if the row of this key went.
    async fn hides(&self, chain: &[Layer], key: &Bytes) -> Result<bool> {
        for &layer in chain.iter().skip(1) {
            if let Some(value) = self.meta.get(&in_layer(key, layer)).await? {
                return Ok(value != TOMBSTONE);
            }
        }
        Ok(false)
    }

    /// Up to `limit` rows under `prefix` whose rest is at least `from`. An empty page is the end.
    pub(crate) async fn page(
        &self,
        prefix: impl Fn(Layer) -> Vec<u8> + Send,
        from: &[u8],
        limit: usize,
    ) -> Result<Page> {
        self.span(prefix, (from, &[]), limit).await
    }

    /// Like [`Self::page`], of rows whose rest is below `to`; an empty `to` is no bound.
    pub(crate) async fn span(
        &self,
        prefix: impl Fn(Layer) -> Vec<u8> + Send,
        (from, to): (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Page> {
        let _still = self.still().await;
        if let [layer] = self.chain()[..] {
            let page = scan_span(&*self.meta, &prefix(layer), (from, to), limit).await?;
            // A layer that has taken in the lowest one may keep what hid a row of that.
            if page.iter().all(|(_, value)| value != TOMBSTONE) {
                return Ok(page);
            }
        }
        self.merged(prefix, (from, to), limit).await
    }

    async fn merged(
        &self,
        prefix: impl Fn(Layer) -> Vec<u8> + Send,
        (from, to): (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Page> {
        let mut from = from.to_vec();
        loop {
            // The newest layer wins; rows beyond the shortest non-final page are not known of all layers yet.
            let mut merged = std::collections::BTreeMap::new();
            let mut horizon: Option<Bytes> = None;
            for &layer in self.chain().iter() {
                let page = scan_span(&*self.meta, &prefix(layer), (&from, to), limit).await?;
                if let Some((last, _)) = page.last() {
                    horizon = Some(horizon.map_or(last.clone(), |known: Bytes| known.min(last.clone())));
                }
                for (rest, value) in page {
                    merged.entry(rest).or_insert(value);
                }
            }
            let Some(horizon) = horizon else { return Ok(Page::new()) };
            let page: Page = merged
                .into_iter()
                .filter(|(rest, value)| *rest <= horizon && value != TOMBSTONE)
                .take(limit)
                .collect();
            if !page.is_empty() {
                return Ok(page);
            }
            from = after(&horizon);
        }
    }

    /// All rows under `prefix`, which must be few.
    pub(crate) async fn all(&self, prefix: impl Fn(Layer) -> Vec<u8> + Send + Copy) -> Result<Page> {
        const PAGE: usize = 256;
        let mut found = Page::new();
        let mut from = Vec::new();
        loop {
            let page = self.page(prefix, &from, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            from = after(last);
            found.extend(page);
        }
    }
}

/// The key of the same row in another layer: every namespace family has it behind its first byte.
pub(crate) fn in_layer(key: &[u8], layer: Layer) -> Vec<u8> {
    let mut other = key.to_vec();
    if let Some(place) = other.get_mut(1..5) {
        place.copy_from_slice(&layer.0.to_be_bytes());
    }
    other
}

fn is_tombstone(op: &Op) -> bool {
    matches!(op, Op::Put(_, value) if value == TOMBSTONE)
}

/// Up to `limit` rows under `prefix` in one place, whose rest is at least `from`.
pub(crate) async fn scan(meta: &dyn Meta, prefix: &[u8], from: &[u8], limit: usize) -> Result<Page> {
    scan_span(meta, prefix, (from, &[]), limit).await
}

async fn scan_span(meta: &dyn Meta, prefix: &[u8], (from, to): (&[u8], &[u8]), limit: usize) -> Result<Page> {
    let start = [prefix, from].concat();
    let end = if to.is_empty() { prefix_end(prefix) } else { [prefix, to].concat() };
    let rows = meta.scan(&start, &end, limit).await?;
    Ok(rows.into_iter().map(|(key, value)| (key.slice(prefix.len()..), value)).collect())
}

/// [`scan`] of a view.
pub(crate) async fn scan_view(view: &dyn View, prefix: &[u8], from: &[u8], limit: usize) -> Result<Page> {
    let start = [prefix, from].concat();
    let rows = view.scan(&start, &prefix_end(prefix), limit).await?;
    Ok(rows.into_iter().map(|(key, value)| (key.slice(prefix.len()..), value)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::keys::xattr;
    use crate::meta::MemoryMeta;
    use mooring_protocol::types::Ino;

    async fn two_layers() -> Rows {
        let meta = Arc::new(MemoryMeta::new());
        let rows = Rows::new(meta.clone(), vec![Layer(2), Layer(1)], Moving::default());
        let mut batch = Batch::new();
        for (layer, name, value) in
            [(1, "a", "old"), (1, "b", "old"), (1, "c", "old"), (2, "b", "new"), (2, "d", "new")]
        {
            let key = xattr::key(Layer(layer), Ino::ROOT, name.as_bytes());
            batch.put(key, xattr::encode(value.as_bytes()));
        }
        rows.delete(&mut batch, |layer| xattr::key(layer, Ino::ROOT, b"c"));
        meta.commit(batch).await.unwrap();
        rows
    }

    #[tokio::test]
    async fn newer_layers_hide_older_ones() {
        let rows = two_layers().await;
        let mut seen = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let value = rows.get(|layer| xattr::key(layer, Ino::ROOT, name.as_bytes())).await.unwrap();
            seen.push(value.map(|value| xattr::decode(&value).unwrap()));
        }
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(seen, [text("old"), text("new"), None, text("new"), None]);
    }

    #[tokio::test]
    async fn a_tombstone_that_hides_nothing_shows_nothing() {
        let rows = two_layers().await;
        // What became of the lower layer is in the upper one.
        rows.set_chain(vec![Layer(2)]);
        for limit in 1..4 {
            let page = rows.page(|layer| xattr::prefix(layer, Ino::ROOT), b"c", limit).await.unwrap();
            assert_eq!(page.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), ["d"]);
        }
        let all = rows.all(|layer| xattr::prefix(layer, Ino::ROOT)).await.unwrap();
        assert_eq!(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), ["b", "d"]);
    }

    #[tokio::test]
    async fn pages_merge_whatever_their_size() {
        let rows = two_layers().await;
        for limit in 1..5 {
            let mut names = Vec::new();
            let mut from = Vec::new();
            loop {
                let page = rows.page(|layer| xattr::prefix(layer, Ino::ROOT), &from, limit).await.unwrap();
                let Some((last, _)) = page.last() else { break };
                from = after(last);
                names.extend(page.iter().map(|(name, _)| name.clone()));
            }
            assert_eq!(names, ["a", "b", "d"], "pages of {limit}");
        }
    }
}
