//! Settings of the engine, each with its reason.

use super::blocks::Blocks;
use super::tables::OpenTables;
use super::unwritten::{TABLE_BYTES, Unwritten};
use slatedb::config::{
    CompactorOptions, GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ScanOptions, Settings,
};
use slatedb::db_cache::{DbCache, SplitCache};
use std::sync::Arc;
use std::time::Duration;

/// The database's path within `meta/`.
pub(super) const DB_PATH: &str = "db";

/// Scans of more rows than this read ahead.
const SHORT_SCAN: usize = 64;

/// About what a row takes in a table.
const ROW_BYTES: usize = 64;

/// Most bytes per read of a long scan.
const READ_AHEAD: usize = 256 << 10;

/// Blocks and indexes of all volumes of the process, under one bound; and their rows that are in no table yet, under
/// another.
pub struct BlockCache {
    cache: Arc<dyn DbCache>,
    unwritten: Arc<Unwritten>,
    tables: Arc<OpenTables>,
}

impl BlockCache {
    /// A cache of about `bytes`: a quarter for indexes and filters, without which every read costs two; and about
    /// `unwritten` bytes of rows in no table.
    #[must_use]
    pub fn new(bytes: u64, unwritten: u64) -> Self {
        let part = |bytes| -> Arc<dyn DbCache> { Arc::new(Blocks::new(bytes)) };
        let cache = SplitCache::new()
            .with_block_cache(Some(part(bytes / 4 * 3)))
            .with_meta_cache(Some(part(bytes / 4)))
            .build();
        Self { cache: Arc::new(cache), unwritten: Unwritten::new(unwritten), tables: Arc::default() }
    }

    /// Bytes of rows in no table yet.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten.bytes()
    }

    pub(super) fn unwritten(&self) -> &Arc<Unwritten> {
        &self.unwritten
    }

    pub(super) fn tables(&self) -> Arc<OpenTables> {
        Arc::clone(&self.tables)
    }

    pub(super) fn engine(&self) -> Arc<dyn DbCache> {
        Arc::clone(&self.cache)
    }
}

/// How a scan of so many rows reads.
pub(super) fn scan_options(limit: usize, cache_blocks: bool) -> ScanOptions {
    // Of each table that may have rows of the range, so what is not needed costs as often.
    let read_ahead_bytes = match limit {
        0..=SHORT_SCAN => 1,
        _ => (limit * ROW_BYTES).min(READ_AHEAD),
    };
    ScanOptions { cache_blocks, read_ahead_bytes, ..ScanOptions::default() }
}

pub(super) fn settings() -> Settings {
    Settings {
        // Our journal syncs itself.
        flush_interval: None,
        // Polled for fencing and compaction results; the directory lock fences already.
        manifest_poll_interval: Duration::from_secs(5),
        // Bounds replay, and the memory of a volume, at a few tables' worth.
        l0_sst_size_bytes: TABLE_BYTES as usize,
        // The default, 1 GiB for each database, is too much for one of many.
        max_unflushed_bytes: 64 << 20,
        // A local disk that fails does not get better by asking again; without this a broken one hangs.
        object_store_max_retries: Some(5),
        compactor_options: Some(CompactorOptions {
            poll_interval: Duration::from_secs(5),
            ..CompactorOptions::default()
        }),
        // Set with its builder, which also carries our collector of journal files.
        garbage_collector_options: None,
        ..Settings::default()
    }
}

/// Settings for tables on an object store.
pub(super) fn settings_on_store() -> Settings {
    Settings {
        // A request each time, for every open volume.
        manifest_poll_interval: Duration::from_secs(10),
        // A store that fails comes back. What waits meanwhile is bounded by `max_unflushed_bytes`.
        object_store_max_retries: None,
        manifest_update_timeout: Duration::from_secs(3600),
        // Each flush of a memtable is an object; the log has its own bound.
        max_wal_flushes_before_l0_flush: 1 << 16,
        compactor_options: Some(CompactorOptions {
            poll_interval: Duration::from_secs(10),
            ..CompactorOptions::default()
        }),
        ..settings()
    }
}

/// The collector's options for an object store; `replaces` when it can replace an object on condition, by which a
/// process that has lost the volume is kept from removing what its successor made.
pub(super) fn garbage_collector_on_store(replaces: bool) -> GarbageCollectorOptions {
    let mut options = garbage_collector();
    let lists =
        [&mut options.manifest_options, &mut options.compacted_options, &mut options.compactions_options];
    for part in lists.into_iter().flatten() {
        part.interval = Some(Duration::from_secs(1800));
    }
    if let Some(log) = &mut options.wal_options {
        log.interval = Some(Duration::from_secs(30));
    }
    options.boundary_files_enabled = replaces;
    options.object_store_max_retries = None;
    options
}

pub(super) fn garbage_collector() -> GarbageCollectorOptions {
    let every = |interval, min_age| {
        Some(GarbageCollectorDirectoryOptions { interval: Some(interval), min_age, ..Default::default() })
    };
    let minute = Duration::from_secs(60);
    GarbageCollectorOptions {
        // Without conditional overwrites the age must exceed the life of a stale process. The directory lock
        // leaves none on this host; five minutes is the engine's own default.
        manifest_options: every(10 * minute, 5 * minute),
        compacted_options: every(10 * minute, 5 * minute),
        compactions_options: every(10 * minute, 5 * minute),
        // Journal files go as soon as the tables hold their rows.
        wal_options: every(Duration::from_secs(10), Duration::ZERO),
        // We write none.
        wal_fence_options: None,
        detach_options: None,
        boundary_files_enabled: false,
        object_store_max_retries: Some(5),
        ..GarbageCollectorOptions::default()
    }
}
