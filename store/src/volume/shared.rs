//! What operations and the committer share.

use super::cache::Caches;
use super::rows::Rows;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// State of an open volume that the committer writes and operations read.
pub(crate) struct Shared {
    pub(crate) rows: Rows,
    pub(crate) caches: Caches,
    /// Moves when a directory changes its place.
    pub(crate) epoch: AtomicU64,
    /// A commit failed in an unknown state: nothing may be answered any more.
    pub(crate) broken: AtomicBool,
    pub(crate) usage: Usage,
}

/// Totals of a volume, as of the last commit.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) inodes: AtomicU64,
    pub(crate) blocks: AtomicU64,
}
