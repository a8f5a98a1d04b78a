//! The gateway's table of leases of one volume: who may cache what, and who has to wait for whom.
//!
//! A lease on an inode covers its data and attributes; on a directory, its entries as well. Read leases
//! are shared, a write lease is alone. The table is a plain value: it is told what happened and answers
//! with [`Effects`], what to send and who may go on. It has no clock, no I/O and no lock.
//!
//! # Who asks for what
//!
//! | call | for | waits until |
//! |---|---|---|
//! | [`offer`](LeaseTable::offer) | a lease that rides on a reply | never waits: costs nobody anything, or is not given |
//! | [`acquire`](LeaseTable::acquire) | a lease that the agent asked for | conflicting leases are given up |
//! | [`write`](LeaseTable::write) | an operation that changes inodes, from any door | *other* sessions' leases on them are given up |
//! | [`read`](LeaseTable::read) | an operation that looks, without a lease | a barrier: writers have handed over what they have, and keep their lease |
//!
//! Every operation that changes something passes through `write` and `finish`, also a holder's own:
//! until it is finished no lease is granted on what it changes, and nobody reads past what a holder has
//! handed over but the store has not yet applied.
//!
//! # Order on the stream
//!
//! A grant holds for the agent from the moment it reads it. So a grant is first *promised*, the gateway
//! then reads the attributes it sends along, queues the reply, and calls [`announced`](LeaseTable::announced)
//! in that order; a recall of it is held back until then. One grant per session and inode is on the way at
//! a time, and at most one recall; an acknowledgement names the grant's sequence, and what a downgrade
//! leaves has the next higher one, on both sides without a word. So a return that crosses a recall, or an
//! acknowledgement sent twice around a reconnect, cannot be taken for another.
//!
//! What one session has under way on one inode at a time may run in any order. So an agent hands over what
//! overlaps one after the other, each when the last was answered.
//!
//! Invariant: what an agent believes to hold is never more than what this table says it holds.
//!
//! # Fairness
//!
//! Waiters of an inode stand in one queue. Nothing is granted past a waiter it conflicts with, and while
//! anybody waits for an inode its holders get nothing new on it. But what a holder has issued runs *before*
//! it is recalled: it goes ahead of the waiters, since the holder's kernel may hold the very lock that the
//! invalidation needs (measured: a notification blocks until the pending create or read is answered).
//!
//! # A session that has many leases
//!
//! It gives up the oldest for the newest; see [`shed`](LeaseTable::shed).
//!
//! # Why nothing waits in a circle
//!
//! Three rules for holders, which [`crate::holder`] keeps:
//! acknowledging the recall of a *read* lease never waits for the holder's own changes, only for its reads;
//! acknowledging a *write* lease waits at most for what the holder has issued on that inode;
//! no acknowledgement waits for an [`acquire`](LeaseTable::acquire).
//! Reads wait only for barriers and for changes that run already. Changes of one inode under its write
//! lease run at once. What is left is two sessions that each hold one directory for writing and each rename
//! between both: there the later rename is told [`Go::Retry`], its kernel lets go of the directories, asks
//! again by itself (Linux repeats a path operation once on ESTALE), and the other goes first.
//! Should a guest break the rules, the deadline of its recall ends the wait and the session.

mod holdings;
mod query;
mod read;
mod settle;
mod shed;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::caps;
use crate::message::Notice;
use crate::session::SessionId;
use crate::types::{Ino, LeaseGrant, LeaseMode};

use state::{Change, Client, Due, Held, Inode, Item, Recall, ticket_of, waits};

/// Names a waiting or running operation. Chosen by the caller and not reused while the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a waiting operation may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// Run it. A change is to be [finished](LeaseTable::finish).
    Run,
    /// The lease asked for; to be [announced](LeaseTable::announced) with the reply.
    Granted(LeaseGrant),
    /// Waiting would close a circle: answer [`Status::Stale`](crate::status::Status::Stale); the kernel asks again.
    Retry,
}

/// A notice to a session that holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tell {
    /// Give a lease up, or down to `to`.
    Recall {
        /// The inode.
        ino: Ino,
        /// What the session holds.
        mode: LeaseMode,
        /// The grant that is meant.
        seq: u64,
        /// What it may keep.
        to: LeaseMode,
        /// When the session is evicted if it does not answer, from now.
        within: Duration,
    },
    /// Hand over everything up to now, and keep the leases.
    Barrier {
        /// Named in the acknowledgement.
        id: u64,
        /// One inode, or the whole volume.
        ino: Option<Ino>,
        /// When the session is evicted if it does not answer, from now.
        within: Duration,
    },
}

impl From<Tell> for Notice {
    fn from(tell: Tell) -> Notice {
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        match tell {
            Tell::Recall { ino, mode, seq, to, within } => {
                Notice::Recall { grant: LeaseGrant { ino, mode, seq }, to, deadline_ms: ms(within) }
            }
            Tell::Barrier { id, ino, within } => Notice::Barrier { id, ino, deadline_ms: ms(within) },
        }
    }
}

/// What a call brought about, to be carried out in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Notices to queue.
    pub tell: Vec<(SessionId, Tell)>,
    /// Operations that may go on.
    pub ready: Vec<(Ticket, Go)>,
}

/// A request that is not even queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Too many wait for this inode.
    #[error("{limit} requests wait for this inode already")]
    TooManyWaiters {
        /// The limit.
        limit: usize,
    },
    /// The session has all the leases it may have.
    #[error("the session has {limit} leases already, and answers no recalls of older ones")]
    TooManyLeases {
        /// The limit.
        limit: usize,
    },
    /// Not a session of this volume, or evicted.
    #[error("no such session")]
    NoSession,
}

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LeaseTable {
    clients: BTreeMap<SessionId, Client>,
    inodes: BTreeMap<Ino, Inode>,
    changes: BTreeMap<Ticket, Change>,
    /// Inode of each queued acquire.
    acquires: BTreeMap<Ticket, Ino>,
    reads: BTreeMap<Ticket, read::Read>,
    deadlines: BTreeSet<(Duration, SessionId, Due)>,
    next_barrier: u64,
    grace: bool,
    max_leases: shed::Bound,
}

impl LeaseTable {
    /// The table of a volume that nobody had open before.
    #[must_use]
    pub fn new() -> LeaseTable {
        LeaseTable::default()
    }

    /// The table after a restart: until [`end_grace`](LeaseTable::end_grace) leases are only reclaimed,
    /// and only who has reclaimed an inode works on it.
    #[must_use]
    pub fn recovering() -> LeaseTable {
        LeaseTable { grace: true, ..LeaseTable::default() }
    }

    /// The same table with another bound on the leases of a session, which is [`caps::MAX_LEASES`] otherwise.
    #[must_use]
    pub fn with_max_leases(self, leases: usize) -> LeaseTable {
        LeaseTable { max_leases: shed::Bound(leases), ..self }
    }

    /// Lets a session take part; `patience` is how long it may take to answer a notice.
    pub fn join(&mut self, session: SessionId, patience: Duration) {
        self.clients.entry(session).or_insert_with(|| Client {
            patience,
            next_seq: 1,
            leases: holdings::Holdings::default(),
            writes: 0,
            unanswered: 0,
            barriers: BTreeMap::new(),
        });
    }

    /// Grants what costs nobody anything, to ride on a reply. Call it *before* reading what the reply says.
    pub fn offer(&mut self, session: SessionId, ino: Ino, mode: LeaseMode) -> Option<LeaseGrant> {
        let client = self.clients.get(&session)?;
        if self.grace || (client.leases.len() >= self.max_leases.0 && !client.leases.contains(ino)) {
            return None;
        }
        if let Some(inode) = self.inodes.get(&ino) {
            let free = inode.queue.is_empty()
                && inode.held.iter().all(|h| {
                    if h.session == session {
                        h.recall.is_none() && h.promised.is_none()
                    } else {
                        settle::compatible(h.reach(), mode)
                    }
                });
            if !free {
                return None;
            }
        }
        self.promise(session, ino, mode)
    }

    /// Asks for a lease; [`Go::Granted`] comes now or later.
    ///
    /// # Errors
    /// A bound is reached, or the session is gone. The operation then goes without a lease.
    pub fn acquire(
        &mut self,
        ticket: Ticket,
        session: SessionId,
        ino: Ino,
        mode: LeaseMode,
        now: Duration,
        fx: &mut Effects,
    ) -> Result<(), LeaseError> {
        let client = self.clients.get(&session).ok_or(LeaseError::NoSession)?;
        if client.leases.len() >= self.max_leases.0 && !client.leases.contains(ino) {
            self.make_room(session, now, fx);
            return Err(LeaseError::TooManyLeases { limit: self.max_leases.0 });
        }
        self.check_room(ino)?;
        self.acquires.insert(ticket, ino);
        self.inodes.entry(ino).or_default().queue.push_back(Item::Acquire { ticket, session, mode });
        self.settle(ino, now, fx);
        Ok(())
    }

    /// Announces a change of these inodes by a session, or by a door without one (S3). [`Go::Run`] comes
    /// now or later; then run it and [`finish`](LeaseTable::finish).
    ///
    /// # Errors
    /// A bound is reached.
    pub fn write(
        &mut self,
        ticket: Ticket,
        who: Option<SessionId>,
        inos: &[Ino],
        now: Duration,
        fx: &mut Effects,
    ) -> Result<(), LeaseError> {
        let inos: BTreeSet<Ino> = inos.iter().copied().collect();
        for ino in &inos {
            self.check_room(*ino)?;
        }
        let mut change =
            Change { who, inos: inos.clone(), blocked: inos.len(), covered: false, readers: Vec::new() };
        for &ino in &inos {
            let inode = self.inodes.entry(ino).or_default();
            let mode = inode.mode_of(who);
            let covered = mode == LeaseMode::Write;
            change.covered |= covered;
            // What a holder has issued runs before the holder is recalled: ahead of all who may wait for that.
            let at = match mode {
                LeaseMode::None => None,
                _ => inode.queue.iter().position(|item| waits(item, who)),
            };
            let at = at.unwrap_or(inode.queue.len());
            inode.queue.insert(at, Item::Change { ticket, who, covered, clear: false });
        }
        if inos.is_empty() {
            fx.ready.push((ticket, Go::Run));
        }
        self.changes.insert(ticket, change);
        for ino in inos {
            self.settle(ino, now, fx);
        }
        Ok(())
    }

    /// A change has been applied, or has failed.
    pub fn finish(&mut self, ticket: Ticket, now: Duration, fx: &mut Effects) {
        let Some(change) = self.changes.remove(&ticket) else { return };
        for reader in change.readers {
            self.read_step(reader, now, fx);
        }
        for ino in change.inos {
            if let Some(inode) = self.inodes.get_mut(&ino) {
                inode.queue.retain(|item| ticket_of(item) != ticket);
            }
            self.settle(ino, now, fx);
        }
    }

    /// An operation no longer waits, or a change that was told to run is given up unapplied.
    pub fn cancel(&mut self, ticket: Ticket, now: Duration, fx: &mut Effects) {
        self.reads.remove(&ticket);
        if let Some(ino) = self.acquires.remove(&ticket) {
            if let Some(inode) = self.inodes.get_mut(&ino) {
                inode.queue.retain(|item| ticket_of(item) != ticket);
            }
            self.settle(ino, now, fx);
        }
        self.finish(ticket, now, fx);
    }

    /// The reply that carries a grant is in the session's outgoing queue.
    pub fn announced(&mut self, session: SessionId, grant: LeaseGrant, now: Duration, fx: &mut Effects) {
        let promised = Some((grant.mode, grant.seq));
        if let Some(held) = self.held_mut(session, grant.ino).filter(|h| h.promised == promised) {
            held.promised = None;
            held.seq = grant.seq;
            self.set_mode(session, grant.ino, grant.mode, now, fx);
            self.send_held_back(session, grant.ino, now, fx);
        }
        self.settle(grant.ino, now, fx);
        self.make_room(session, now, fx);
    }

    /// The reply that was to carry a grant will not be sent.
    pub fn withdrawn(&mut self, session: SessionId, grant: LeaseGrant, now: Duration, fx: &mut Effects) {
        let promised = Some((grant.mode, grant.seq));
        if let Some(held) = self.held_mut(session, grant.ino).filter(|h| h.promised == promised) {
            held.promised = None;
            let mode = held.mode;
            self.set_mode(session, grant.ino, mode, now, fx);
            self.send_held_back(session, grant.ino, now, fx);
        }
        self.settle(grant.ino, now, fx);
    }

    /// A session has carried out a recall. Everything it had was sent before this.
    pub fn recalled(&mut self, session: SessionId, ino: Ino, seq: u64, now: Duration, fx: &mut Effects) {
        let Some(held) = self.held_mut(session, ino).filter(|h| h.seq == seq) else { return };
        let Some(Recall { to, deadline: Some(deadline) }) = held.recall.clone() else { return };
        held.recall = None;
        let mode = held.mode.min(to);
        held.seq += 1;
        self.answered(session, deadline, Due::Recall(ino));
        self.set_mode(session, ino, mode, now, fx);
        self.settle(ino, now, fx);
    }

    /// A session gives a lease up unasked. Everything it had was sent before this.
    pub fn returned(&mut self, session: SessionId, ino: Ino, seq: u64, now: Duration, fx: &mut Effects) {
        let Some(held) = self.held_mut(session, ino).filter(|h| h.seq == seq) else { return };
        if let Some(Recall { deadline: Some(deadline), .. }) = held.recall.take() {
            self.answered(session, deadline, Due::Recall(ino));
        }
        self.set_mode(session, ino, LeaseMode::None, now, fx);
        self.settle(ino, now, fx);
    }

    /// Sessions that have not answered in time. Persist their eviction, refuse what they send from now on,
    /// then [`drop_session`](LeaseTable::drop_session), in that order.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> BTreeSet<SessionId> {
        self.deadlines.iter().take_while(|(at, ..)| *at <= now).map(|(_, session, _)| *session).collect()
    }

    /// Forgets a session and everything it holds or waits for.
    ///
    /// Its running changes stay until they are [finished](LeaseTable::finish).
    pub fn drop_session(&mut self, session: SessionId, now: Duration, fx: &mut Effects) {
        let Some(client) = self.clients.remove(&session) else { return };
        self.deadlines.retain(|(_, s, _)| *s != session);
        let mut touched: BTreeSet<Ino> = client.leases.inos().collect();
        for (ino, inode) in &mut self.inodes {
            let before = inode.queue.len();
            inode.queue.retain(|item| !matches!(item, Item::Acquire { session: s, .. } if *s == session));
            if inode.queue.len() != before {
                touched.insert(*ino);
            }
        }
        self.acquires.retain(|ticket, ino| {
            self.inodes.get(ino).is_some_and(|i| i.queue.iter().any(|item| ticket_of(item) == *ticket))
        });
        self.drop_waiting_changes(session, &mut touched);
        for ino in &touched {
            if let Some(inode) = self.inodes.get_mut(ino) {
                inode.held.retain(|h| h.session != session);
            }
        }
        for (_, barriers) in client.barriers {
            self.release_readers(barriers, now, fx);
        }
        for ino in touched {
            self.settle(ino, now, fx);
        }
    }

    /// Notices the session has not answered, to send again after it has reconnected.
    #[must_use]
    pub fn unanswered(&self, session: SessionId, now: Duration) -> Vec<Tell> {
        let due = self.deadlines.iter().filter(|(_, s, _)| *s == session);
        due.filter_map(|(at, _, due)| self.tell_again(session, *due, at.saturating_sub(now))).collect()
    }

    /// What a session holds, for `status`, and to compare with what it says it holds.
    #[must_use]
    pub fn leases_of(&self, session: SessionId) -> Vec<LeaseGrant> {
        let leases = self.clients.get(&session).map(|c| c.leases.inos()).into_iter().flatten();
        leases
            .filter_map(|ino| {
                let held = self.inodes.get(&ino)?.of(session)?;
                Some(LeaseGrant { ino, mode: held.mode, seq: held.seq })
            })
            .collect()
    }

    /// Whether nothing at all is held or waited for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inodes.is_empty() && self.reads.is_empty() && self.changes.is_empty()
    }

    fn check_room(&self, ino: Ino) -> Result<(), LeaseError> {
        match self.inodes.get(&ino) {
            Some(inode) if inode.queue.len() >= caps::MAX_LEASE_WAITERS => {
                Err(LeaseError::TooManyWaiters { limit: caps::MAX_LEASE_WAITERS })
            }
            _ => Ok(()),
        }
    }
}
