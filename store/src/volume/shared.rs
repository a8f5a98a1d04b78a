//! What operations and the committer share.

use super::Config;
use super::cache::Caches;
use super::gc::Gc;
use super::linger::Linger;
use super::quota::{Limits, Used};
use super::rows::Rows;
use crate::keys::account::Account;
use crate::memory::Memory;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// State of an open volume that the committer writes and operations read.
pub(crate) struct Shared {
    pub(crate) rows: Rows,
    pub(crate) caches: Caches,
    /// Moves when a directory changes its place.
    pub(crate) epoch: AtomicU64,
    /// A commit failed in an unknown state: nothing may be answered any more.
    pub(crate) broken: AtomicBool,
    pub(crate) usage: Usage,
    /// Live bytes of every pack that has any, as of the last commit.
    pub(crate) live: RwLock<HashMap<u128, u64>>,
    pub(crate) gc: Arc<Gc>,
    /// Told when a map has become garbage.
    pub(crate) sweep: tokio::sync::Notify,
    /// Held while garbage is dropped, and while a map that is not finished yet stands among it.
    pub(crate) building: tokio::sync::Mutex<()>,
    pub(crate) limits: Limits,
    pub(crate) linger: Arc<Linger>,
}

impl Shared {
    pub(crate) fn new(rows: Rows, memory: &Memory, config: &Config, totals: (u64, (u64, u64))) -> Shared {
        let (volume, (inodes, blocks)) = totals;
        Shared {
            rows,
            caches: Caches::new(&memory.rows, config.window_bytes),
            epoch: 0.into(),
            broken: false.into(),
            usage: Usage { inodes: inodes.into(), blocks: blocks.into(), account: Mutex::default() },
            live: RwLock::default(),
            gc: Arc::new(Gc::default()),
            sweep: tokio::sync::Notify::new(),
            building: tokio::sync::Mutex::default(),
            limits: Limits::new(config.quota, volume, config.budget.clone()),
            linger: Arc::new(Linger::new(config.linger)),
        }
    }
}

/// Totals of a volume, as of the last commit.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) inodes: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) account: Mutex<Account>,
}

impl Usage {
    /// Both totals.
    pub(crate) fn used(&self) -> Used {
        Used { blocks: self.blocks.load(Ordering::Acquire), inodes: self.inodes.load(Ordering::Acquire) }
    }
}
