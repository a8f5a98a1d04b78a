//! Decoded map rows above the metadata engine, so that a read of bytes that are in memory asks the engine nothing.
//!
//! A map is cached in windows: all rows that overlap so many bytes of the file. A window is whole, so a hole in it is
//! known to be one. It is filled from the engine under (at least shared) the lock of the map's inode; the committer
//! applies each change to the windows that are cached before it releases the inode's lock. So whoever holds that lock
//! sees what was last committed. Frozen maps never change and need no lock.

use super::cache::{Owner, RowCache};
use crate::keys::map::{BLOCK, Row, Source};
use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// About what the cache adds to a window, and a window to a row, bytes.
const WINDOW_OVERHEAD: usize = 200;
const ROW_OVERHEAD: usize = 48;

/// A row that spans more windows than this is not followed into each: everything is forgotten. No row written today
/// comes near it.
const MAX_SPAN: u64 = 1024;

/// A row that a change adds or takes away.
#[derive(Clone, Debug)]
pub(crate) struct RowChange {
    pub(crate) map: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// `None`: the row that ended here is gone.
    pub(crate) row: Option<Row>,
}

/// The rows of a part of a map, by the offset each ends at.
#[derive(Default)]
pub(crate) struct Window {
    rows: BTreeMap<u64, Row>,
    bytes: usize,
}

/// Windows of all volumes: whose, map, number of the window.
pub(crate) type Windows = Cache<(Owner, u64, u64), Arc<RwLock<Window>>>;

/// Windows that take about `bytes` of memory together.
pub(crate) fn windows(bytes: u64) -> Windows {
    let weigh = |_: &(Owner, u64, u64), window: &Arc<RwLock<Window>>| {
        u32::try_from(WINDOW_OVERHEAD + window.read().bytes).unwrap_or(u32::MAX)
    };
    super::cache::recent(bytes, weigh)
}

/// What a volume has of the cached windows.
pub(crate) struct MapCache {
    shared: Arc<RowCache>,
    /// Changed to forget everything.
    owner: AtomicU64,
    /// Bytes of a file in one window.
    span: u64,
}

impl Window {
    fn put(&mut self, end: u64, row: Row) {
        self.bytes += cost(&row);
        if let Some(before) = self.rows.insert(end, row) {
            self.bytes -= cost(&before);
        }
    }

    fn remove(&mut self, end: u64) {
        if let Some(before) = self.rows.remove(&end) {
            self.bytes -= cost(&before);
        }
    }
}

fn cost(row: &Row) -> usize {
    let inline = if let Source::Inline(bytes) = &row.source { bytes.len() } else { 0 };
    size_of::<(u64, Row)>() + ROW_OVERHEAD + inline
}

/// The row with bytes of its own: those of a request would keep all of the request in memory.
fn owned(row: &Row) -> Row {
    match &row.source {
        Source::Inline(bytes) => Row { source: Source::Inline(Bytes::copy_from_slice(bytes)), ..row.clone() },
        _ => row.clone(),
    }
}

impl MapCache {
    /// Windows of `span` bytes of a file (whole blocks).
    pub(crate) fn new(shared: &Arc<RowCache>, span: u64) -> MapCache {
        MapCache { shared: shared.clone(), owner: shared.owner().into(), span: span.max(BLOCK) }
    }

    fn key(&self, (map, window): (u64, u64)) -> (Owner, u64, u64) {
        (self.owner.load(Ordering::Acquire), map, window)
    }

    /// Bytes of a file in one window.
    pub(crate) fn span(&self) -> u64 {
        self.span
    }

    /// Adds the rows of window number `window` that overlap `[start, end)` to `found`, without those that are in it
    /// already as part of the window before. `false`: the window is not cached.
    pub(crate) fn collect(
        &self,
        key: (u64, u64),
        (start, end): (u64, u64),
        found: &mut Vec<(u64, Row)>,
    ) -> bool {
        let Some(cached) = self.shared.windows.get(&self.key(key)) else { return false };
        let above = found.last().map_or(start, |(last, _)| start.max(*last));
        let cached = cached.read();
        let rows = cached.rows.range(above.saturating_add(1)..);
        found.extend(
            rows.take_while(|(row_end, row)| *row_end - row.blocks * BLOCK < end)
                .map(|(row_end, row)| (*row_end, row.clone())),
        );
        true
    }

    /// Caches a window: `rows` are all that overlap it. The lock of the map's inode is held.
    pub(crate) fn fill(&self, key: (u64, u64), rows: &[(u64, Row)]) {
        let mut window = Window::default();
        rows.iter().for_each(|(end, row)| window.put(*end, owned(row)));
        self.shared.windows.insert(self.key(key), Arc::new(RwLock::new(window)));
    }

    /// Notes that nothing of a map lies in `[start, end)`'s windows. The lock of its inode is held exclusively.
    pub(crate) fn know_empty(&self, map: u64, (start, end): (u64, u64)) {
        for window in start / self.span..=end.saturating_sub(1) / self.span {
            if !self.shared.windows.contains_key(&self.key((map, window))) {
                self.fill((map, window), &[]);
            }
        }
    }

    /// Shows what a commit did. The locks of the maps' inodes are held exclusively.
    pub(crate) fn apply(&self, changes: Vec<RowChange>) {
        // The window of the change before, which mostly is the next one's too, and what it weighed.
        let mut last: Option<Touched> = None;
        for RowChange { map, start, end, row } in changes {
            let (first, until) = (start / self.span, end.saturating_sub(1) / self.span);
            if until - first > MAX_SPAN {
                self.owner.store(self.shared.owner(), Ordering::Release);
                last = None;
                continue;
            }
            for window in first..=until {
                if last.as_ref().is_none_or(|last| last.key != (map, window)) {
                    self.weigh_again(last.take());
                    last = self.touch((map, window));
                }
                let Some(touched) = &last else { continue };
                let mut window = touched.window.write();
                match &row {
                    Some(row) => window.put(end, owned(row)),
                    None => window.remove(end),
                }
            }
        }
        self.weigh_again(last);
    }

    fn touch(&self, key: (u64, u64)) -> Option<Touched> {
        let window = self.shared.windows.get(&self.key(key))?;
        let bytes = window.read().bytes;
        Some(Touched { key, window, bytes })
    }

    /// The cache weighs what is put into it.
    fn weigh_again(&self, touched: Option<Touched>) {
        let Some(Touched { key, window, bytes }) = touched else { return };
        if window.read().bytes != bytes {
            self.shared.windows.insert(self.key(key), window);
        }
    }
}

struct Touched {
    key: (u64, u64),
    window: Arc<RwLock<Window>>,
    bytes: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::keys::map::ExtentId;

    const SPAN: u64 = 4 * BLOCK;

    fn row(blocks: u64, tag: u8) -> Row {
        let id = ExtentId { domain: 0, hash: [tag; 16] };
        Row { blocks, len: blocks * BLOCK, source: Source::Extent { id, skip: 0 } }
    }

    fn change(end: u64, blocks: u64, row: Option<Row>) -> RowChange {
        RowChange { map: 7, start: (end - blocks) * BLOCK, end: end * BLOCK, row }
    }

    fn ends(cache: &MapCache, windows: std::ops::Range<u64>, range: (u64, u64)) -> Option<Vec<u64>> {
        let mut found = Vec::new();
        for window in windows {
            if !cache.collect((7, window), (range.0 * BLOCK, range.1 * BLOCK), &mut found) {
                return None;
            }
        }
        Some(found.iter().map(|(end, _)| end / BLOCK).collect())
    }

    #[test]
    fn a_row_over_two_windows_is_in_both_and_found_once() {
        let cache = MapCache::new(&Arc::new(RowCache::new(4 << 20)), SPAN);
        cache.know_empty(7, (0, 2 * SPAN));
        cache.apply(vec![change(2, 2, Some(row(2, 1))), change(6, 3, Some(row(3, 2)))]);
        assert_eq!(ends(&cache, 0..2, (0, 8)), Some(vec![2, 6]));
        assert_eq!(ends(&cache, 0..1, (3, 4)), Some(vec![6]));
        assert_eq!(ends(&cache, 1..2, (5, 6)), Some(vec![6]));
        assert_eq!(ends(&cache, 0..1, (2, 3)), Some(vec![]));
        // Taken away and put again shorter, as an overwrite does.
        cache.apply(vec![change(6, 3, None), change(6, 1, Some(row(1, 3)))]);
        assert_eq!(ends(&cache, 0..1, (3, 4)), Some(vec![]));
        assert_eq!(ends(&cache, 1..2, (4, 8)), Some(vec![6]));
        assert_eq!(ends(&cache, 1..3, (4, 12)), None, "what is not cached is not a hole");
    }

    #[test]
    fn a_change_reaches_only_what_is_cached_and_is_weighed() {
        let cache = MapCache::new(&Arc::new(RowCache::new(4 << 20)), SPAN);
        cache.apply(vec![change(1, 1, Some(row(1, 1)))]);
        assert_eq!(ends(&cache, 0..1, (0, 4)), None);
        cache.fill((7, 0), &[(BLOCK, row(1, 1))]);
        cache.shared.windows.run_pending_tasks();
        let before = cache.shared.windows.weighted_size();
        let inline = Row { blocks: 1, len: 100, source: Source::Inline(Bytes::from(vec![0; 100])) };
        cache.apply(vec![change(2, 1, Some(inline))]);
        cache.shared.windows.run_pending_tasks();
        assert!(cache.shared.windows.weighted_size() >= before + 100);
        cache.apply(vec![change(MAX_SPAN * 5, MAX_SPAN * 5, Some(row(MAX_SPAN * 5, 9)))]);
        assert_eq!(ends(&cache, 0..1, (0, 4)), None, "a row over very many windows clears all");
    }
}
