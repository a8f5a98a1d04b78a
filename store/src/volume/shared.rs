//! What operations and the committer share: of one head, and of the volume.

use super::Config;
use super::cache::{Caches, Places};
use super::gc::Gc;
use super::linger::Linger;
use super::quota::{Limits, Used};
use super::rows::Rows;
use crate::keys::HeadId;
use crate::keys::account::Account;
use crate::memory::Memory;
use crate::meta::Meta;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// State of an open volume, whatever the head.
pub(crate) struct Trunk {
    pub(crate) meta: Arc<dyn Meta>,
    /// A commit failed in an unknown state: nothing may be answered any more.
    pub(crate) broken: AtomicBool,
    /// What the extents come to.
    pub(crate) account: Mutex<Account>,
    /// Live bytes of every pack that has any, as of the last commit.
    pub(crate) live: RwLock<HashMap<u128, u64>>,
    pub(crate) places: Places,
    pub(crate) gc: Arc<Gc>,
    /// Told when a map has become garbage.
    pub(crate) sweep: tokio::sync::Notify,
    /// Held while garbage is dropped, and while a map that is not finished yet stands among it.
    pub(crate) building: tokio::sync::Mutex<()>,
}

impl Trunk {
    pub(crate) fn new(meta: Arc<dyn Meta>, memory: &Memory) -> Trunk {
        Trunk {
            meta,
            broken: false.into(),
            account: Mutex::default(),
            live: RwLock::default(),
            places: Places::new(&memory.rows),
            gc: Arc::new(Gc::default()),
            sweep: tokio::sync::Notify::new(),
            building: tokio::sync::Mutex::default(),
        }
    }
}

/// State of a head, or of a snapshot that is looked into.
pub(crate) struct Shared {
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) head: HeadId,
    pub(crate) rows: Rows,
    pub(crate) caches: Caches,
    /// Moves when a directory changes its place.
    pub(crate) epoch: AtomicU64,
    /// It was closed; the volume may be open still.
    pub(crate) closed: AtomicBool,
    pub(crate) usage: Usage,
    pub(crate) limits: Limits,
    pub(crate) linger: Arc<Linger>,
}

impl Shared {
    /// `volume` is the number of the volume, by which its first head is charged.
    pub(crate) fn new(
        trunk: &Arc<Trunk>,
        rows: Rows,
        memory: &Memory,
        config: &Config,
        (volume, used): (u64, Used),
    ) -> Shared {
        let charged = if config.head == HeadId::FIRST { volume } else { config.head.0 };
        Shared {
            trunk: trunk.clone(),
            head: config.head,
            rows,
            caches: Caches::new(&memory.rows, config.window_bytes),
            epoch: 0.into(),
            closed: false.into(),
            usage: Usage { inodes: used.inodes.into(), blocks: used.blocks.into() },
            limits: Limits::new(config.quota, charged, config.budget.clone()),
            linger: Arc::new(Linger::new(config.linger)),
        }
    }
}

/// Totals of a head, as of the last commit.
#[derive(Default)]
pub(crate) struct Usage {
    inodes: AtomicU64,
    blocks: AtomicU64,
}

impl Usage {
    /// Both totals.
    pub(crate) fn used(&self) -> Used {
        Used { blocks: self.blocks.load(Ordering::Acquire), inodes: self.inodes.load(Ordering::Acquire) }
    }

    /// Set by the committer alone.
    pub(super) fn set(&self, used: Used) {
        self.inodes.store(used.inodes, Ordering::Release);
        self.blocks.store(used.blocks, Ordering::Release);
    }
}
