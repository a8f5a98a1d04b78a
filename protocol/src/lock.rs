//! POSIX byte-range locks (`fcntl`) of one volume, across all its sessions.
//!
//! A lock belongs to an owner: a session and the lock owner that its guest's kernel names (one per
//! process). An owner never conflicts with itself: a new lock replaces what it had on those bytes, which
//! splits and merges ranges as fcntl(2) says. Locks are advisory and say nothing of leases.
//!
//! Whoever waits is granted in the order of asking, as far as what is held allows. Waiting that would
//! close a circle of owners, over any number of inodes and sessions, is refused with [`LockError::Deadlock`],
//! as the kernel does on one machine. The circle is looked for when a wait begins, which is when it closes.

use std::collections::{BTreeMap, BTreeSet};

use crate::caps;
use crate::lease::Ticket;
use crate::session::SessionId;
use crate::status::Status;
use crate::types::{Ino, LockKind, LockRange};

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The session.
    pub session: SessionId,
    /// As its kernel names it.
    pub id: u64,
}

/// A lock held, or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Whose.
    pub owner: Owner,
    /// The process, for `F_GETLK`.
    pub pid: u32,
    /// Which bytes; ends inclusive.
    pub range: LockRange,
    /// Shared or exclusive; in a request also release.
    pub kind: LockKind,
}

impl Lock {
    fn conflicts(&self, other: &Lock) -> bool {
        self.owner != other.owner
            && (self.kind == LockKind::Write || other.kind == LockKind::Write)
            && self.range.start <= other.range.end
            && other.range.start <= self.range.end
    }
}

/// Why a lock is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody else has a conflicting lock.
    #[error("a conflicting lock is held")]
    WouldBlock,
    /// Waiting would never end.
    #[error("waiting for this lock would close a circle of waiters")]
    Deadlock,
    /// A bound is reached.
    #[error("the session or inode has as many locks as it may")]
    TooMany,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    EmptyRange,
}

impl LockError {
    /// As the protocol says it.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            LockError::WouldBlock => Status::WouldBlock,
            LockError::Deadlock => Status::Deadlock,
            LockError::TooMany => Status::TooManyLocks,
            LockError::EmptyRange => Status::Invalid,
        }
    }
}

/// What became of a request that may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The lock is taken.
    Taken,
    /// It waits; its ticket is told later.
    Waiting,
}

#[derive(Debug, Clone, Default)]
struct InodeLocks {
    /// Disjoint per owner; adjacent ones of the same kind are merged.
    held: Vec<Lock>,
    waiting: Vec<(Ticket, Lock)>,
}

impl InodeLocks {
    fn blockers(&self, wanted: &Lock) -> impl Iterator<Item = &Lock> {
        self.held.iter().filter(move |held| wanted.conflicts(held))
    }
}

/// The locks of one volume.
#[derive(Debug, Clone, Default)]
pub struct LockTable {
    inodes: BTreeMap<Ino, InodeLocks>,
    held: BTreeMap<SessionId, usize>,
}

impl LockTable {
    /// A volume without locks.
    #[must_use]
    pub fn new() -> LockTable {
        LockTable::default()
    }

    /// A lock that stands in the way of `wanted`, if there is one (`F_GETLK`).
    #[must_use]
    pub fn get(&self, ino: Ino, wanted: &Lock) -> Option<Lock> {
        self.inodes.get(&ino)?.blockers(wanted).min_by_key(|lock| lock.range.start).copied()
    }

    /// Takes, changes or releases a lock without waiting (`F_SETLK`). Gives the waiters that got theirs.
    ///
    /// # Errors
    /// A conflict, a bound, or a range that is none.
    pub fn set(&mut self, ino: Ino, lock: Lock) -> Result<Vec<Ticket>, LockError> {
        self.check(ino, &lock)?;
        if lock.kind != LockKind::Unlock && self.get(ino, &lock).is_some() {
            return Err(LockError::WouldBlock);
        }
        self.apply(ino, lock);
        Ok(self.wake(ino))
    }

    /// Takes a lock, waiting for it if need be (`F_SETLKW`).
    ///
    /// # Errors
    /// A circle of waiters, a bound, or a range that is none.
    pub fn set_wait(
        &mut self,
        ticket: Ticket,
        ino: Ino,
        lock: Lock,
    ) -> Result<(Waited, Vec<Ticket>), LockError> {
        match self.set(ino, lock) {
            Ok(ready) => return Ok((Waited::Taken, ready)),
            Err(LockError::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        if self.would_deadlock(ino, &lock) {
            return Err(LockError::Deadlock);
        }
        let inode = self.inodes.entry(ino).or_default();
        if inode.waiting.len() >= caps::MAX_LOCK_WAITERS {
            return Err(LockError::TooMany);
        }
        inode.waiting.push((ticket, lock));
        Ok((Waited::Waiting, Vec::new()))
    }

    /// A waiter gives up. False when it was not waiting (any more).
    pub fn cancel(&mut self, ino: Ino, ticket: Ticket) -> bool {
        let Some(inode) = self.inodes.get_mut(&ino) else { return false };
        let before = inode.waiting.len();
        inode.waiting.retain(|(t, _)| *t != ticket);
        before != inode.waiting.len()
    }

    /// An owner closed the file: all its locks on it end, as POSIX has it. Gives the waiters that got theirs.
    pub fn close(&mut self, ino: Ino, owner: Owner) -> Vec<Ticket> {
        let all = LockRange { start: 0, end: u64::MAX };
        self.apply(ino, Lock { owner, pid: 0, range: all, kind: LockKind::Unlock });
        self.wake(ino)
    }

    /// A session is gone with all its locks and waits. Gives the waiters that got theirs.
    pub fn drop_session(&mut self, session: SessionId) -> Vec<Ticket> {
        for inode in self.inodes.values_mut() {
            inode.held.retain(|lock| lock.owner.session != session);
            inode.waiting.retain(|(_, lock)| lock.owner.session != session);
        }
        self.held.remove(&session);
        let inos: Vec<Ino> = self.inodes.keys().copied().collect();
        inos.into_iter().flat_map(|ino| self.wake(ino)).collect()
    }

    /// Locks that a session holds.
    #[must_use]
    pub fn count(&self, session: SessionId) -> usize {
        self.held.get(&session).copied().unwrap_or(0)
    }

    /// The locks held on an inode.
    #[must_use]
    pub fn held(&self, ino: Ino) -> &[Lock] {
        self.inodes.get(&ino).map_or(&[], |inode| &inode.held)
    }

    fn check(&self, ino: Ino, lock: &Lock) -> Result<(), LockError> {
        if lock.range.start > lock.range.end {
            return Err(LockError::EmptyRange);
        }
        // Splitting in the middle adds one, a new range one: at most two more than before. A release of all
        // bytes adds none, so that who is at the limit can always get below it.
        let all = lock.kind == LockKind::Unlock && lock.range.start == 0 && lock.range.end == u64::MAX;
        let inode = self.inodes.get(&ino).map_or(0, |i| i.held.len());
        let full =
            inode + 2 > caps::MAX_LOCKS_PER_INODE || self.count(lock.owner.session) + 2 > caps::MAX_LOCKS;
        if full && !all { Err(LockError::TooMany) } else { Ok(()) }
    }

    /// Puts a lock that conflicts with nobody in place of what its owner had on those bytes.
    fn apply(&mut self, ino: Ino, lock: Lock) {
        let inode = self.inodes.entry(ino).or_default();
        let before = inode.held.len();
        let mut new = lock;
        let mut kept = Vec::with_capacity(before + 2);
        for old in inode.held.drain(..) {
            if old.owner != lock.owner {
                kept.push(old);
            } else if old.kind == new.kind && touches(old.range, new.range) {
                new.range.start = new.range.start.min(old.range.start);
                new.range.end = new.range.end.max(old.range.end);
            } else {
                kept.extend(outside(old, new.range));
            }
        }
        if new.kind != LockKind::Unlock {
            kept.push(new);
        }
        kept.sort_by_key(|l| (l.range.start, l.owner));
        let after = kept.len();
        inode.held = kept;
        let count = self.held.entry(lock.owner.session).or_default();
        *count = (*count + after).saturating_sub(before);
        if *count == 0 {
            self.held.remove(&lock.owner.session);
        }
    }

    /// Grants waiters in order, as far as it goes.
    fn wake(&mut self, ino: Ino) -> Vec<Ticket> {
        let mut ready = Vec::new();
        let mut at = 0;
        while let Some((ticket, lock)) = self.inodes.get(&ino).and_then(|i| i.waiting.get(at)).copied() {
            if self.get(ino, &lock).is_some() {
                at += 1;
                continue;
            }
            if let Some(inode) = self.inodes.get_mut(&ino) {
                inode.waiting.remove(at);
            }
            self.apply(ino, lock);
            ready.push(ticket);
            // What it has now may be less than what it had (shared for exclusive), so those before it are looked at again.
            at = 0;
        }
        if self.inodes.get(&ino).is_some_and(|i| i.held.is_empty() && i.waiting.is_empty()) {
            self.inodes.remove(&ino);
        }
        ready
    }

    /// Whether following "waits for" from `wanted` leads back to its owner.
    fn would_deadlock(&self, ino: Ino, wanted: &Lock) -> bool {
        let blockers = |ino: Ino, lock: &Lock| -> Vec<Owner> {
            self.inodes.get(&ino).map_or(Vec::new(), |i| i.blockers(lock).map(|l| l.owner).collect())
        };
        let mut waits: BTreeMap<Owner, Vec<(Ino, Lock)>> = BTreeMap::new();
        for (ino, inode) in &self.inodes {
            for (_, lock) in &inode.waiting {
                waits.entry(lock.owner).or_default().push((*ino, *lock));
            }
        }
        let mut next = blockers(ino, wanted);
        let mut seen = BTreeSet::new();
        while let Some(owner) = next.pop() {
            if owner == wanted.owner {
                return true;
            }
            if seen.insert(owner) {
                let its = waits.get(&owner).into_iter().flatten();
                next.extend(its.flat_map(|(ino, lock)| blockers(*ino, lock)));
            }
        }
        false
    }
}

/// Whether two inclusive ranges overlap or stand side by side.
fn touches(a: LockRange, b: LockRange) -> bool {
    a.start <= b.end.saturating_add(1) && b.start <= a.end.saturating_add(1)
}

/// What is left of a lock outside `hole`.
fn outside(lock: Lock, hole: LockRange) -> Vec<Lock> {
    let LockRange { start, end } = lock.range;
    if end < hole.start || hole.end < start {
        return vec![lock];
    }
    let mut left = Vec::new();
    if start < hole.start {
        left.push(Lock { range: LockRange { start, end: hole.start - 1 }, ..lock });
    }
    if hole.end < end {
        left.push(Lock { range: LockRange { start: hole.end + 1, end }, ..lock });
    }
    left
}
