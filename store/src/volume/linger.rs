//! Inodes whose last name was given to another inode stay for a moment.
//!
//! Who opens a file does two things: it looks the name up, then it opens the inode that it found. A kernel does so for
//! every `open`, S3 for every GET. When a rename or a PUT gives the name to another inode in between, the inode found
//! is gone, and the second step fails with ESTALE. The kernel looks up again, but only once; a program that reads a
//! file which another replaces without pause (the usual way to write safely) sees the error.
//!
//! So such an inode is kept as if it were open: it has an orphan row, a crash leaves it to
//! [`purge_orphans`](crate::api::Tree::purge_orphans), and one task of the volume frees it when its time is over. Unlink
//! and DELETE free at once: there the name is gone, and "not found" is the right answer to the second step too.
//!
//! **What counts.** The volume's totals count an inode until it is freed. Quotas and free space leave out what lingers:
//! who replaces a file has given its room back. What lingers is bounded in number and in blocks, beyond which the
//! oldest go at once, and when the totals reach a quota all of it goes.

use super::Volume;
use crate::api::Result;
use crate::error::StoreError;
use mooring_protocol::types::Ino;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long an inode lingers: more than any look and open are apart unless the guest stands still.
pub const LINGER: Duration = Duration::from_secs(2);

/// Inodes that linger at the same time.
const MAX_INODES: usize = 4096;
/// Blocks they have together (1 GiB); one inode may have more.
const MAX_BLOCKS: u64 = 1 << 18;

/// The inodes that linger.
pub(crate) struct Linger {
    time: Duration,
    state: Mutex<State>,
    /// The first came, or all shall go.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// In the order in which their time ends. An entry whose end is not the one in `inodes` is void.
    queue: VecDeque<(Instant, Ino)>,
    inodes: HashMap<Ino, (Instant, u64)>,
    blocks: u64,
    /// Inodes and blocks that are being freed: the volume's totals have them still.
    going: (u64, u64),
    /// Nothing waits for its time.
    hurry: bool,
}

/// An inode whose time is over, until it is freed. Unless it is it goes back, so that a caller that goes away leaves
/// nothing.
struct Over<'a> {
    linger: &'a Linger,
    ino: Ino,
    blocks: u64,
    freed: bool,
}

impl Linger {
    /// Inodes linger for `time`; not at all when it is zero.
    pub(crate) fn new(time: Duration) -> Linger {
        Linger { time, state: Mutex::default(), wake: Notify::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.time.is_zero()
    }

    /// The inode is about to lose its last name. Called before the commit: should that fail, or its caller go away,
    /// the inode is merely looked at in vain later.
    pub(crate) fn add(&self, ino: Ino, blocks: u64) {
        self.push(ino, blocks, Instant::now() + self.time);
    }

    fn push(&self, ino: Ino, blocks: u64, end: Instant) {
        let mut state = self.state.lock();
        if let Some((_, before)) = state.inodes.insert(ino, (end, blocks)) {
            state.blocks -= before;
        }
        state.blocks += blocks;
        let at = state.queue.partition_point(|(other, _)| *other <= end);
        state.queue.insert(at, (end, ino));
        drop(state);
        if at == 0 {
            self.wake.notify_one();
        }
    }

    /// The inode lingers no more.
    pub(crate) fn forget(&self, ino: Ino) {
        let mut state = self.state.lock();
        if let Some((_, blocks)) = state.inodes.remove(&ino) {
            state.blocks -= blocks;
        }
    }

    /// Whether the inode lingers still.
    pub(crate) fn holds(&self, ino: Ino) -> bool {
        self.state.lock().inodes.contains_key(&ino)
    }

    /// Inodes and blocks that linger.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.inodes.len() as u64 + state.going.0, state.blocks + state.going.1)
    }

    /// Lets all go without waiting for their time.
    pub(crate) fn hurry(&self) {
        self.state.lock().hurry = true;
        self.wake.notify_one();
    }

    /// When there is something to do.
    fn next(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let next = state.queue.front().map(|(end, _)| *end);
        state.hurry &= next.is_some();
        if state.hurry { next.map(|end| end.min(Instant::now())) } else { next }
    }

    /// Takes one whose time is over.
    fn take_over(&self) -> Option<Over<'_>> {
        let now = Instant::now();
        self.take(|state, end| state.hurry || end <= now)
    }

    /// Takes the oldest while there are too many.
    fn take_beyond(&self) -> Option<Over<'_>> {
        self.take(|state, _| {
            let many = state.queue.len() > 1 && state.blocks > MAX_BLOCKS;
            many || state.queue.len() > MAX_INODES
        })
    }

    fn take(&self, wanted: impl Fn(&State, Instant) -> bool) -> Option<Over<'_>> {
        let mut state = self.state.lock();
        loop {
            let &(end, ino) = state.queue.front()?;
            let known = state.inodes.get(&ino).filter(|(known, _)| *known == end).map(|(_, blocks)| *blocks);
            let Some(blocks) = known else {
                state.queue.pop_front();
                continue;
            };
            if !wanted(&state, end) {
                return None;
            }
            state.queue.pop_front();
            state.inodes.remove(&ino);
            state.blocks -= blocks;
            state.going.0 += 1;
            state.going.1 += blocks;
            return Some(Over { linger: self, ino, blocks, freed: false });
        }
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.linger.state.lock();
        state.going.0 -= 1;
        state.going.1 -= self.blocks;
        drop(state);
        if !self.freed {
            self.linger.push(self.ino, self.blocks, Instant::now());
        }
    }
}

/// The task of a volume that frees what lingered. Ends with the volume.
pub(crate) struct Reaper(JoinHandle<()>);

impl Reaper {
    pub(crate) fn start(volume: &Arc<Volume>) -> Reaper {
        Reaper(tokio::spawn(reap(volume.linger.clone(), Arc::downgrade(volume))))
    }

    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn reap(linger: Arc<Linger>, volume: Weak<Volume>) {
    loop {
        match linger.next() {
            None => linger.wake.notified().await,
            // Whoever hurries ends the wait; a wait that ends early does no harm.
            Some(end) => drop(tokio::time::timeout_at(end, linger.wake.notified()).await),
        }
        let Some(volume) = volume.upgrade() else { return };
        while let Some(over) = linger.take_over() {
            match volume.free_over(over).await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                // Its row is there still: it goes when orphans are purged.
                Err(error) => tracing::warn!(%error, "a replaced file could not be freed yet"),
            }
        }
    }
}

impl Volume {
    /// Frees the oldest of what lingers beyond the bounds. No lock is held.
    pub(crate) async fn keep_linger_bounded(&self) -> Result<()> {
        while let Some(over) = self.linger.take_beyond() {
            self.free_over(over).await?;
        }
        Ok(())
    }

    async fn free_over(&self, mut over: Over<'_>) -> Result<()> {
        let freed = self.free_orphan(over.ino).await;
        over.freed = true;
        freed.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ino(number: u64) -> Ino {
        Ino::new(number).unwrap()
    }

    fn freed(mut over: Over<'_>) -> Ino {
        over.freed = true;
        over.ino
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_first_and_not_before_its_time() {
        let linger = Linger::new(LINGER);
        linger.add(ino(2), 5);
        tokio::time::advance(LINGER / 2).await;
        linger.add(ino(3), 7);
        assert_eq!(linger.totals(), (2, 12));
        assert!(linger.take_over().is_none());
        tokio::time::advance(LINGER / 2).await;
        assert_eq!(linger.take_over().map(freed), Some(ino(2)));
        assert!(linger.take_over().is_none());
        assert!(!linger.holds(ino(2)) && linger.holds(ino(3)));
        linger.hurry();
        assert_eq!(linger.take_over().map(freed), Some(ino(3)));
        assert_eq!(linger.totals(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_came_again_stays_for_the_later_end_and_counts_once() {
        let linger = Linger::new(LINGER);
        linger.add(ino(2), 5);
        tokio::time::advance(LINGER / 2).await;
        linger.add(ino(2), 6);
        assert_eq!(linger.totals(), (1, 6));
        tokio::time::advance(LINGER / 2).await;
        assert!(linger.take_over().is_none());
        tokio::time::advance(LINGER / 2).await;
        assert_eq!(linger.take_over().map(freed), Some(ino(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bounds_the_oldest_go_and_what_is_not_freed_comes_back() {
        let linger = Linger::new(LINGER);
        linger.add(ino(1), MAX_BLOCKS + 1);
        assert!(linger.take_beyond().is_none(), "one may be larger than the bound");
        linger.add(ino(2), 1);
        drop(linger.take_beyond().unwrap());
        assert_eq!(linger.totals(), (2, MAX_BLOCKS + 2));
        assert_eq!(linger.take_over().map(freed), Some(ino(1)));
        for number in 3..3 + MAX_INODES as u64 {
            linger.add(ino(number), 0);
        }
        assert_eq!(linger.take_beyond().map(freed), Some(ino(2)));
        assert!(linger.take_beyond().is_none());
    }
}
