//! Rows seen through a chain of layers.
//!
//! A row of an older layer shows through unless a newer layer has the same row or a tombstone for it. Everything is
//! written into the newest layer.

use crate::api::Result;
use crate::keys::{Layer, TOMBSTONE};
use crate::meta::{Batch, Meta, View, after, prefix_end};
use bytes::Bytes;
use std::sync::Arc;

/// A page of rows: what follows the prefix in the key, and the value.
pub(crate) type Page = Vec<(Bytes, Bytes)>;

/// The rows of one head.
pub(crate) struct Rows {
    meta: Arc<dyn Meta>,
    /// Newest first, at least one.
    chain: Vec<Layer>,
}

impl Rows {
    pub(crate) fn new(meta: Arc<dyn Meta>, chain: Vec<Layer>) -> Rows {
        debug_assert!(!chain.is_empty(), "a head has at least its own layer");
        Rows { meta, chain }
    }

    pub(crate) fn meta(&self) -> &Arc<dyn Meta> {
        &self.meta
    }

    /// Where the head writes.
    pub(crate) fn head(&self) -> Layer {
        self.chain.first().copied().unwrap_or(Layer::FIRST)
    }

    /// The value of a row of a namespace family.
    pub(crate) async fn get(&self, key: impl Fn(Layer) -> Vec<u8> + Send) -> Result<Option<Bytes>> {
        for &layer in &self.chain {
            match self.meta.get(&key(layer)).await? {
                Some(value) if value == TOMBSTONE => return Ok(None),
                Some(value) => return Ok(Some(value)),
                None => {}
            }
        }
        Ok(None)
    }

    /// Removes a row of the head: physically when nothing can show through.
    pub(crate) fn delete(&self, batch: &mut Batch, key: impl Fn(Layer) -> Vec<u8>) {
        if self.chain.len() == 1 {
            batch.delete(key(self.head()));
        } else {
            batch.put(key(self.head()), TOMBSTONE);
        }
    }

    /// Up to `limit` rows under `prefix` whose rest is at least `from`. An empty page is the end.
    pub(crate) async fn page(
        &self,
        prefix: impl Fn(Layer) -> Vec<u8> + Send,
        from: &[u8],
        limit: usize,
    ) -> Result<Page> {
        if let [layer] = self.chain[..] {
            return scan(&*self.meta, &prefix(layer), from, limit).await;
        }
        self.merged(prefix, from, limit).await
    }

    async fn merged(
        &self,
        prefix: impl Fn(Layer) -> Vec<u8> + Send,
        from: &[u8],
        limit: usize,
    ) -> Result<Page> {
        let mut from = from.to_vec();
        loop {
            // The newest layer wins; rows beyond the shortest non-final page are not known of all layers yet.
            let mut merged = std::collections::BTreeMap::new();
            let mut horizon: Option<Bytes> = None;
            for &layer in &self.chain {
                let page = scan(&*self.meta, &prefix(layer), &from, limit).await?;
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

/// Up to `limit` rows under `prefix` in one place, whose rest is at least `from`.
pub(crate) async fn scan(meta: &dyn Meta, prefix: &[u8], from: &[u8], limit: usize) -> Result<Page> {
    let start = [prefix, from].concat();
    let rows = meta.scan(&start, &prefix_end(prefix), limit).await?;
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
        let rows = Rows::new(meta.clone(), vec![Layer(2), Layer(1)]);
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
