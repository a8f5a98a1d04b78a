//! The heads of an open volume, and the tasks that work for all of them.
//!
//! A volume is opened with one of its heads; the others join it ([`Volume::open_head`]) and leave it ([`Volume::close`]),
//! and with the last the volume is closed. Each head has names, caches, locks on inodes, limits and pins of its own. One
//! committer, one collector, one allocator of numbers and one tree of layers serve all:
//!
//! ```text
//!   head 0 ─┐                ┌─▶ committer, packs, rows
//!   head 7 ─┼─▶ family ──────┼─▶ collector, sweeper, merger: each step asks for any head that is open
//!   head 9 ─┘                └─▶ numbers, layers, views of snapshots
//! ```
//!
//! A change belongs to one head, so nobody ever waits for locks of two. What concerns layers waits for all: changes of any
//! head keep the *world* lock shared.

use super::commit::Work;
use super::rows::Moving;
use super::{Volume, damage, gc, ids, layers, sweep, view};
use crate::keys::{HeadId, Layer};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the heads of an open volume have in common. It ends with the last of them.
pub(crate) struct Family {
    heads: Mutex<BTreeMap<HeadId, Weak<Volume>>>,
    /// One head comes or goes at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Held shared by every change, exclusively while layers change what they are.
    pub(super) world: Arc<tokio::sync::RwLock<()>>,
    pub(super) moving: Moving,
    pub(super) ids: ids::Ids,
    pub(super) layering: Arc<layers::Layering>,
    /// Snapshots that somebody looks into.
    pub(super) views: Mutex<HashMap<Layer, Weak<view::View>>>,
    pub(crate) damages: damage::Damages,
    pub(super) queue: RwLock<Option<mpsc::Sender<Work>>>,
    pub(super) committer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    sweeper: OnceLock<sweep::Sweeper>,
    merger: OnceLock<layers::Merger>,
    collector: OnceLock<gc::Collector>,
}

impl Family {
    pub(super) fn new(next: u64, queue: mpsc::Sender<Work>, committer: JoinHandle<()>) -> Family {
        Family {
            heads: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            world: Arc::default(),
            moving: Moving::default(),
            ids: ids::Ids::new(next),
            layering: Arc::default(),
            views: Mutex::default(),
            damages: damage::Damages::default(),
            queue: RwLock::new(Some(queue)),
            committer: tokio::sync::Mutex::new(Some(committer)),
            sweeper: OnceLock::new(),
            merger: OnceLock::new(),
            collector: OnceLock::new(),
        }
    }

    /// Starts what works for all heads.
    pub(super) fn start(self: &Arc<Family>, first: &Arc<Volume>) {
        self.join(first);
        self.sweeper.get_or_init(|| sweep::Sweeper::start(self, first.shared.trunk.clone()));
        self.merger.get_or_init(|| layers::Merger::start(self));
        self.collector.get_or_init(|| gc::Collector::start(self, first));
    }

    pub(super) async fn stop(&self) {
        self.sweeper.get().into_iter().for_each(sweep::Sweeper::stop);
        self.merger.get().into_iter().for_each(layers::Merger::stop);
        if let Some(collector) = self.collector.get() {
            collector.stop().await;
        }
    }

    /// A head is open.
    pub(super) fn join(&self, head: &Arc<Volume>) {
        self.heads.lock().insert(head.head_id(), Arc::downgrade(head));
    }

    /// A head is closed.
    pub(super) fn leave(&self, head: &Volume) {
        let mut heads = self.heads.lock();
        let itself = |known: &Weak<Volume>| std::ptr::eq(known.as_ptr(), head);
        if heads.get(&head.head_id()).is_some_and(itself) {
            heads.remove(&head.head_id());
        }
    }

    /// The heads that are open.
    pub(super) fn open(&self) -> Vec<Arc<Volume>> {
        let heads = self.heads.lock();
        heads.values().filter_map(Weak::upgrade).filter(|head| !head.is_closed()).collect()
    }

    /// A head, if it is open.
    pub(super) fn get(&self, head: HeadId) -> Option<Arc<Volume>> {
        self.heads.lock().get(&head).and_then(Weak::upgrade).filter(|head| !head.is_closed())
    }

    /// A head that is open, for work that is of none.
    pub(super) fn any(&self) -> Option<Arc<Volume>> {
        self.heads.lock().values().filter_map(Weak::upgrade).find(|head| !head.is_closed())
    }
}
