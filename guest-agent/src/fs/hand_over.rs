//! When gathered writes go to the gateway: at fsync, recall and barrier, at close if so asked, when much is gathered,
//! when memory is short, and after a second at the latest.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino};

use super::Door;
use super::node::Node;
use crate::write::Batch;

/// This much of one file goes without waiting for more.
pub(super) const FULL: usize = 4 << 20;
/// How often the age of what is gathered is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked whether too much is cached.
const TRIM_TICK: Duration = Duration::from_secs(1);

/// Gives up what is not used, until the door is gone.
pub(super) async fn keep_small(door: Weak<Door>) {
    let mut tick = tokio::time::interval(TRIM_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(door) = door.upgrade() else { return };
        door.trim().await;
    }
}

/// Hands over what is old, until the door is gone.
pub(super) async fn keep(door: Weak<Door>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Two ticks early, so that with the way there the age stays below the promise.
    let age = caps::HAND_OVER_AGE - 2 * TICK;
    loop {
        tick.tick().await;
        let Some(door) = door.upgrade() else { return };
        let old: Vec<Arc<Node>> = {
            let dirty = door.dirty.lock();
            let due = |node: &&Arc<Node>| {
                node.state.lock().gather.since().is_some_and(|since| since.elapsed() >= age)
            };
            dirty.values().filter(due).cloned().collect()
        };
        for node in old {
            door.hand_over_soon(&node);
        }
    }
}

impl Door {
    /// Begins a hand-over and does not wait for it.
    pub(super) fn hand_over_soon(&self, node: &Arc<Node>) {
        let Some(door) = self.this.upgrade() else { return };
        let node = node.clone();
        self.runtime.spawn(async move { door.hand_over(&node).await });
    }

    /// Hands over everything gathered behind this door.
    pub(crate) async fn hand_over_all(&self) {
        let dirty: Vec<Arc<Node>> = self.dirty.lock().values().cloned().collect();
        join_all(dirty.iter().map(|node| self.hand_over(node))).await;
    }

    /// Hands over what is gathered of one file, and waits until the gateway has it. A failure is kept for the next
    /// fsync or close.
    pub(super) async fn hand_over(&self, node: &Arc<Node>) {
        {
            let state = node.state.lock();
            if state.gather.is_empty() && state.sending.is_none() && state.releasing.is_empty() {
                return;
            }
        }
        let _turn = node.hand_over.lock().await;
        // Before what is gathered is taken: a write that comes in between must find its way back into the list.
        self.dirty.lock().remove(&node.ino);
        let (batch, handle) = {
            let mut state = node.state.lock();
            let batch = state.gather.take();
            state.sending = batch.as_ref().map(|b| (b.end, b.stamp));
            (batch, state.writers.first().copied())
        };
        if let Some(batch) = batch {
            let result = match handle {
                Some(handle) => self.send(node.ino, handle, &batch).await,
                None => Err(Status::Fenced),
            };
            let mut state = node.state.lock();
            state.sending = None;
            if let Err(status) = result {
                tracing::error!(ino = %node.ino, bytes_to = batch.end, %status, "written data was refused");
                state.error.get_or_insert(status);
                // What the kernel has in its pages is not what the gateway has.
                state.attr = None;
            }
        }
        node.changed.notify_waiters();
        self.release_handles(node).await;
    }

    async fn send(&self, ino: Ino, handle: Handle, batch: &Batch) -> Result<(), Status> {
        let sends = batch.runs.iter().map(|(offset, run): &(u64, Bytes)| {
            let request = Request::Write {
                ino,
                handle,
                offset: *offset,
                append: false,
                stamp: Some(batch.stamp),
                clear_suid_sgid: batch.clear_suid_sgid,
            };
            async move {
                match self.ask_with(request, run.clone()).await?.0.reply {
                    Reply::Written { count, .. } if count == run.len() as u64 => Ok(()),
                    other => {
                        tracing::error!(?other, "a write was answered with something else");
                        Err(Status::Io)
                    }
                }
            }
        });
        join_all(sends).await.into_iter().collect()
    }

    /// Handles that were only kept for what was still to be written.
    async fn release_handles(&self, node: &Arc<Node>) {
        let done = {
            let mut state = node.state.lock();
            // Written to again meanwhile, through another open file: the handles stay until that is handed over,
            // since it may be through one of them.
            if !state.gather.is_empty() {
                return;
            }
            let done = std::mem::take(&mut state.releasing);
            state.writers.retain(|h| !done.iter().any(|d| d.handle == *h));
            done
        };
        let releases = done.into_iter().map(|held| async move {
            let release = Request::Release { handle: held.handle, lock_owner: None };
            if let Err(status) = self.ask(release).await {
                tracing::debug!(ino = %node.ino, %status, "a handle could not be released");
            }
        });
        join_all(releases).await;
    }
}
