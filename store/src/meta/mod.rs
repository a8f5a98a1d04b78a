//! The metadata of a volume: an ordered map of small rows with atomic batches.
//!
//! Everything above (inodes, directory entries, extent maps, the realm's registry) is rows behind
//! [`Meta`]. The trait is narrow on purpose: the engine under it promises neither a stable API nor more
//! than one release of format compatibility, so nothing else in this crate may name it.
//!
//! Two engines implement it and pass one conformance suite (`tests/meta_conformance.rs`): [`SlateMeta`], which
//! is what runs, and [`MemoryMeta`], the small definition of right that tests compare with.
//!
//! # What a caller must do
//!
//! * **Data before metadata.** A row that points into a pack is committed only after the pack's `append` has
//!   returned, and an engine that outlives the process is given the packs as its [`Data`]: [`Meta::sync`] makes them
//!   durable first, and recovery drops commits whose bytes were lost. Then no crash, of process or machine, leaves a
//!   row that names bytes that are not there.
//! * **Isolation is the caller's.** There are no transactions: read, decide and commit under your own locks.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

pub use crate::journal::DataError;

mod batch;
mod error;
mod memory;
mod slate;

pub use batch::{Batch, Op};
pub use error::MetaError;
pub use memory::MemoryMeta;
pub use slate::{BlockCache, SPACE_RESERVE, SlateMeta, SlateOptions};
pub(crate) use slate::{refuse_lost, salvage};

/// The bytes that rows name, kept beside the engine.
pub trait Data: crate::journal::Data {
    /// Whether the bytes that this row names, if any, are there and whole. Asked at open, before anything is stored.
    /// Blocking.
    fn is_there(&self, key: &[u8], value: &[u8]) -> Result<bool, DataError>;
}

/// Position of a commit in the order of all commits of one volume. Starts at 1 and never repeats; 0 means
/// "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// How far each stage of durability has come. Always `stored <= journalled <= received`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Committed: visible, and in the journal file, so it survives kill -9 of this process.
    pub received: Seq,
    /// On the journal's medium (fdatasync returned): survives loss of power on this host.
    pub journalled: Seq,
    /// In the volume's store. On the local-directory store the journal is the store's, so this equals
    /// `journalled`.
    pub stored: Seq,
}

/// Rows of one [`Meta::scan`] page: key and value, in key order.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A page ends after this many bytes of keys and values even when `limit` rows are not reached. A page always
/// carries at least one row when there is one.
pub const SCAN_PAGE_BYTES: usize = 1 << 20;

/// Most bytes of keys and values in one batch. Larger changes must be split by their owner, who alone knows
/// where they may be cut.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Longest key, bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// An ordered map of rows with atomic batches and a durability order. See the module documentation.
#[async_trait]
pub trait Meta: Send + Sync + 'static {
    /// The value under `key` as of the last returned commit.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError>;

    /// Rows in `[start, end)` in key order: at most `limit` rows and about [`SCAN_PAGE_BYTES`]. An empty `end`
    /// means "to the last key". Fewer rows than `limit` do not mean the end: the caller goes on with
    /// [`after`] the last key until a page is empty.
    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError>;

    /// Applies `batch` atomically. On return it is visible to every later read, sequenced, and in the journal
    /// file (it survives kill -9 of this process, not yet loss of power). An empty batch is a no-op that
    /// returns the last sequence.
    ///
    /// # Errors
    /// [`MetaError::NoSpace`], [`MetaError::Disk`] and [`MetaError::Batch`] leave the volume usable and nothing of the
    /// batch applied. After any other error the engine is closed: whether the batch took place shows after reopening.
    async fn commit(&self, batch: Batch) -> Result<Seq, MetaError>;

    /// Makes everything committed before the call durable, with the bytes it names, and returns how far. Concurrent callers share one
    /// fdatasync.
    async fn sync(&self) -> Result<Seq, MetaError>;

    /// All rows as they are now, for reading while others commit. Old versions of rows are kept as long as it lives.
    async fn view(&self) -> Result<Box<dyn View>, MetaError>;

    /// How far each stage has come. Never blocks.
    fn watermarks(&self) -> Watermarks;

    /// Waits until the disk fails, and says how. Commits that have begun wait then; others are refused.
    async fn faulty(&self) -> MetaError {
        std::future::pending().await
    }

    /// Waits until another gateway has taken the rows over; for ever where none can, or nothing asks the store.
    async fn taken(&self) {
        std::future::pending().await
    }

    /// Makes everything durable and lets go of the volume. Later calls fail with [`MetaError::Closed`]. Bounded
    /// in time: what could not be moved out of the journal in time is replayed at the next open.
    async fn close(self: Arc<Self>) -> Result<(), MetaError>;
}

/// The rows of one moment; see [`Meta::view`].
#[async_trait]
pub trait View: Send + Sync {
    /// The last commit that is in it.
    fn seq(&self) -> Seq;

    /// Like [`Meta::scan`].
    async fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Rows, MetaError>;
}

/// The smallest key above `key`: where a scan goes on after its last row.
#[must_use]
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The smallest key above every key that begins with `prefix`; empty (no end) when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |at| at + 1);
    let mut end = prefix[..keep].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::{after, prefix_end};

    #[test]
    fn range_helpers_bound_what_they_say() {
        assert_eq!(after(b"a"), b"a\0");
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(&[1, 0xff]), [2]);
        assert!(prefix_end(&[0xff, 0xff]).is_empty());
        assert!(prefix_end(b"").is_empty());
    }
}
