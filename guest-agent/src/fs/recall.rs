//! Giving leases up, and everything else the gateway says about a door.
//!
//! The order is kept by the protocol's [`Holder`](mooring_protocol::holder); this file carries out its steps.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_protocol::holder::{OnRecall, Range as Span, Step};
use mooring_protocol::message::{Ack, Notice, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseGrant, LeaseMode};

use super::Door;
use super::node::Node;
use crate::fuse::{Notifier, Told};

/// A program that was killed never uses its answer; for one that lives this is long.
const USED_BY_THEN: Duration = Duration::from_secs(1);

impl Door {
    /// Takes a notice. Called by the reading task; the work is done elsewhere.
    pub(crate) fn notice(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Recall { grant, to, .. } => self.recall(grant, to),
            Notice::Barrier { id, ino, .. } => {
                let door = self.clone();
                self.runtime.spawn(async move {
                    match ino {
                        Some(ino) => door.hand_over(&door.table.get(ino)).await,
                        None => door.hand_over_all().await,
                    }
                    door.remote.ack(door.id, Ack::Barrier { id });
                });
            }
            Notice::Revoked { .. } => {
                let door = self.clone();
                self.runtime.spawn(async move {
                    door.drop_all(Status::Revoked).await;
                    door.remote.ack(door.id, Ack::Revoked);
                });
            }
            other => tracing::warn!(?other, "a notice that is not about a door"),
        }
    }

    fn recall(self: &Arc<Self>, grant: LeaseGrant, to: LeaseMode) {
        let node = self.table.get(grant.ino);
        let verdict = {
            let mut state = node.state.lock();
            let verdict = state.holder.recall(grant.seq, to);
            match verdict {
                OnRecall::Begin => {
                    state.recalling = true;
                    state.recalled = Some(Instant::now());
                }
                // Somebody does want it now: it is to be acknowledged.
                OnRecall::UnderWay => state.returning = false,
                OnRecall::AckNow => {}
            }
            verdict
        };
        tracing::trace!(ino = %grant.ino, seq = grant.seq, ?verdict, "recall");
        match verdict {
            OnRecall::Begin => {
                node.changed.notify_waiters();
                let door = self.clone();
                self.runtime.spawn(async move { door.give_up(&node).await });
            }
            OnRecall::AckNow => self.remote.ack(self.id, Ack::Recalled { ino: grant.ino, seq: grant.seq }),
            OnRecall::UnderWay => {}
        }
    }

    /// Carries a recall out, step by step.
    pub(super) async fn give_up(&self, node: &Arc<Node>) {
        loop {
            // Registered before the look, so that a change in between is not missed.
            let changed = node.changed.notified();
            let (step, returned) = node.next_step();
            match &step {
                Step::Idle => return,
                Step::Wait => {
                    changed.await;
                    continue;
                }
                Step::Flush => self.hand_over(node).await,
                Step::Publish => node.publish(),
                Step::Invalidate(spans) => self.invalidate(node, spans).await,
                Step::Finish { ack } => {
                    node.changed.notify_waiters();
                    match ack {
                        Some(seq) if returned => self.give_back(node.ino, *seq).await,
                        Some(seq) => self.remote.ack(self.id, Ack::Recalled { ino: node.ino, seq: *seq }),
                        None => {}
                    }
                    return;
                }
            }
            node.state.lock().holder.done(&step);
            node.changed.notify_waiters();
        }
    }

    async fn invalidate(&self, node: &Node, spans: &[Span]) {
        // Attributes with a life in the kernel have to arrive there before they are dropped.
        node.gate.clear().await;
        let Some(notifier) = self.notifier.get() else { return };
        let (pages, attrs, names) = {
            let mut state = node.state.lock();
            let (pages, attrs) = (state.kernel_pages, state.kernel_attrs);
            if spans.contains(&Span::ALL) {
                state.kernel_pages = false;
                state.kernel_attrs = false;
            }
            (pages, attrs, std::mem::take(&mut state.told))
        };
        let kernel_node = self.to_node(node.ino);
        for name in names {
            notifier.entry(kernel_node, name).await;
        }
        if !pages && spans.contains(&Span::ALL) {
            if attrs {
                self.drop_attr(node, notifier).await;
            }
            return;
        }
        self.drop_pages(node, spans).await;
    }

    /// Drops the kernel's attributes of a node.
    ///
    /// An answer that is written is not an answer that is used: the program that waits for it has to be woken first.
    /// Where the kernel knows the inode already that is no matter, since it ignores attributes asked for before they
    /// were dropped. Where it does not, the inode would be made of that answer after the kernel was told in vain, and its
    /// attributes would be kept for ever. So the kernel is told again until it knows the inode, or has forgotten it.
    async fn drop_attr(&self, node: &Node, notifier: &Notifier) {
        let until = Instant::now() + USED_BY_THEN;
        let mut pause = Duration::from_micros(50);
        while notifier.attr(self.to_node(node.ino)).await == Told::Unknown
            && node.state.lock().owed
            && Instant::now() < until
        {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        node.state.lock().owed = false;
    }

    /// The kernel has used every answer that told of this inode, and dropped it.
    pub(super) fn forgotten(&self, ino: Ino) {
        if let Some(node) = self.table.known(ino) {
            node.state.lock().owed = false;
        }
    }

    /// Tells the gateway that a lease we had no use for is free.
    async fn give_back(&self, ino: Ino, seq: u64) {
        let leases = vec![LeaseGrant { ino, mode: LeaseMode::None, seq }];
        if let Err(status) = self.ask(Request::Return { leases }).await {
            tracing::debug!(%ino, %status, "a lease could not be given back");
        }
    }

    /// The session or the right behind this door is gone: everything cached goes, what was not handed over is
    /// refused, and what is open fails from now on.
    ///
    /// The cut itself is made before this returns; the future is the emptying of the caches.
    pub(crate) fn drop_all(self: &Arc<Self>, why: Status) -> impl Future<Output = ()> + Send + use<> {
        if why == Status::Revoked {
            self.closed.store(true, std::sync::atomic::Ordering::Release);
        }
        self.files.lock().values().for_each(|file| file.kill());
        let mut work = Vec::new();
        for node in self.table.all() {
            let under_way = {
                let mut state = node.state.lock();
                if state.gather.take().is_some() || state.sending.is_some() {
                    state.error = Some(why);
                }
                state.writers.clear();
                state.releasing.clear();
                state.locks.clear();
                let under_way = state.recalling;
                state.recalling = true;
                state.returning = false;
                state.holder.fence();
                under_way
            };
            node.changed.notify_waiters();
            // A recall under way finishes by itself, without an acknowledgement.
            if !under_way {
                let door = self.clone();
                work.push(self.runtime.spawn(async move { door.give_up(&node).await }));
            }
        }
        async move {
            for task in work {
                let _ = task.await;
            }
        }
    }

    /// Gives up leases that were not used for long, when there are too many.
    pub(super) async fn trim(self: &Arc<Self>) {
        for node in self.table.idlest() {
            {
                let mut state = node.state.lock();
                if !state.idle() {
                    continue;
                }
                let seq = state.holder.seq();
                if state.holder.recall(seq, LeaseMode::None) != OnRecall::Begin {
                    drop(state);
                    self.table.forget(node.ino);
                    continue;
                }
                state.recalling = true;
                state.returning = true;
            }
            self.give_up(&node).await;
            self.table.forget(node.ino);
        }
    }
}

impl Node {
    /// From here on nothing is answered from what is known.
    fn publish(&self) {
        let mut state = self.state.lock();
        state.published = true;
        state.forget();
    }

    /// What to do next; with the last step, whether the lease was given up unasked. A recall ends in one moment: nothing
    /// may begin between the holder's end of it and ours.
    fn next_step(&self) -> (Step, bool) {
        let mut state = self.state.lock();
        let step = state.holder.next_step();
        if !matches!(step, Step::Finish { .. }) {
            return (step, false);
        }
        state.recalling = false;
        state.published = false;
        (step, std::mem::take(&mut state.returning))
    }
}
