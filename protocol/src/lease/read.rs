//! One-shot reads: barriers instead of recalls, and the grace period after a restart.

use std::time::Duration;

use crate::session::SessionId;
use crate::types::{Ino, LeaseGrant, LeaseMode};

use super::{Change, Due, Effects, Go, Held, Item, LeaseTable, Tell, Ticket};

/// Barriers of one session on one inode, or on the whole volume.
///
/// A barrier on its way may have been passed by a change that a newer reader must see, so newer readers
/// share the next one. At most one message is on its way, however many read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Barriers {
    current: Option<(u64, Duration, Vec<Ticket>)>,
    next: Vec<Ticket>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Read {
    who: Option<SessionId>,
    scope: Option<Ino>,
    /// What it still waits for: barriers first, then changes handed over and not yet applied.
    pending: usize,
    behind_barriers: bool,
    in_grace: bool,
}

impl LeaseTable {
    /// Announces a look at one inode, or at the whole volume (a listing), by a session or by a door
    /// without one. [`Go::Run`] comes now or later; nothing is to be finished.
    pub fn read(
        &mut self,
        ticket: Ticket,
        who: Option<SessionId>,
        scope: Option<Ino>,
        now: Duration,
        fx: &mut Effects,
    ) {
        let reclaimed =
            scope.and_then(|ino| self.inodes.get(&ino)).is_some_and(|i| i.mode_of(who) > LeaseMode::None);
        let in_grace = self.grace && !reclaimed;
        self.reads.insert(ticket, Read { who, scope, pending: 0, behind_barriers: true, in_grace });
        if !in_grace {
            self.begin_read(ticket, now, fx);
        }
    }

    /// The sessions of before have reclaimed or are evicted: everybody goes on.
    pub fn end_grace(&mut self, now: Duration, fx: &mut Effects) {
        if !std::mem::take(&mut self.grace) {
            return;
        }
        let waiting: Vec<Ticket> = self.reads.iter().filter(|(_, r)| r.in_grace).map(|(t, _)| *t).collect();
        for ticket in waiting {
            self.begin_read(ticket, now, fx);
        }
        let inos: Vec<Ino> = self.inodes.keys().copied().collect();
        for ino in inos {
            self.settle(ino, now, fx);
        }
    }

    /// After a restart, takes over what a session says it holds. Returns what it may keep; the rest is gone.
    ///
    /// Two sessions cannot honestly claim a conflict: a lease is granted only after its predecessor's end
    /// was acknowledged, or persisted as an eviction. So the first to claim is not held against the second.
    pub fn reclaim(&mut self, session: SessionId, claims: &[LeaseGrant]) -> Vec<LeaseGrant> {
        let mut kept = Vec::new();
        // A sequence that large was never given out.
        let sane = |c: &&LeaseGrant| c.mode != LeaseMode::None && c.seq < u64::MAX / 2;
        for claim in claims.iter().filter(sane) {
            let Some(client) = self.clients.get_mut(&session).filter(|_| self.grace) else { break };
            let full = client.leases.len() >= self.max_leases.0;
            let inode = self.inodes.entry(claim.ino).or_default();
            let free = inode
                .held
                .iter()
                .all(|h| h.session != session && super::settle::compatible(h.mode, claim.mode));
            if full || !free {
                continue;
            }
            // Larger than any it had, so that nothing old can be taken for it.
            client.next_seq = client.next_seq.max(claim.seq.saturating_add(2));
            let (mode, seq) = (claim.mode, client.next_seq);
            client.next_seq = seq.saturating_add(2);
            client.leases.renew(claim.ino, seq);
            client.writes += usize::from(mode == LeaseMode::Write);
            inode.held.push(Held { session, mode, seq, promised: None, recall: None });
            kept.push(LeaseGrant { ino: claim.ino, mode, seq });
        }
        kept
    }

    /// A session has handed over everything it had when it read the barrier.
    pub fn barrier_done(&mut self, session: SessionId, id: u64, now: Duration, fx: &mut Effects) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        let found = client.barriers.iter_mut().find(|(_, b)| b.current.as_ref().is_some_and(|c| c.0 == id));
        let Some((&scope, barriers)) = found else { return };
        let Some((_, deadline, done)) = barriers.current.take() else { return };
        let next = std::mem::take(&mut barriers.next);
        client.barriers.remove(&scope);
        self.answered(session, deadline, Due::Barrier(id));
        for ticket in done {
            self.read_step(ticket, now, fx);
        }
        if !next.is_empty() {
            self.send_barrier(session, scope, next, now, fx);
        }
    }

    fn begin_read(&mut self, ticket: Ticket, now: Duration, fx: &mut Effects) {
        let Some(read) = self.reads.get_mut(&ticket) else { return };
        read.in_grace = false;
        let (who, scope) = (read.who, read.scope);
        let writers: Vec<SessionId> = match scope {
            Some(ino) => self.inodes.get(&ino).map_or(Vec::new(), |inode| {
                let writers = inode.held.iter().filter(|h| h.mode == LeaseMode::Write);
                writers.map(|h| h.session).collect()
            }),
            None => self.clients.iter().filter(|(_, c)| c.writes > 0).map(|(s, _)| *s).collect(),
        };
        let writers: Vec<SessionId> = writers.into_iter().filter(|s| Some(*s) != who).collect();
        // One step more than barriers: the last step looks for changes under way.
        read_mut(&mut self.reads, ticket, |r| r.pending = writers.len() + 1);
        for session in writers {
            self.queue_barrier(session, scope, ticket, now, fx);
        }
        self.read_step(ticket, now, fx);
    }

    /// One of the things a read waits for has come about.
    pub(super) fn read_step(&mut self, ticket: Ticket, _now: Duration, fx: &mut Effects) {
        let Some(read) = self.reads.get_mut(&ticket) else { return };
        read.pending -= 1;
        if read.pending > 0 {
            return;
        }
        if std::mem::take(&mut read.behind_barriers) {
            let scope = read.scope;
            let mut behind = 0;
            for (_, change) in self.changes.iter_mut().filter(|(_, c)| hides(c, scope)) {
                change.readers.push(ticket);
                behind += 1;
            }
            if behind > 0 {
                read_mut(&mut self.reads, ticket, |r| r.pending = behind);
                return;
            }
        }
        self.reads.remove(&ticket);
        fx.ready.push((ticket, Go::Run));
    }

    fn queue_barrier(
        &mut self,
        session: SessionId,
        scope: Option<Ino>,
        ticket: Ticket,
        now: Duration,
        fx: &mut Effects,
    ) {
        let under_way = self.clients.get_mut(&session).and_then(|c| c.barriers.get_mut(&scope));
        match under_way {
            Some(barriers) => barriers.next.push(ticket),
            None => self.send_barrier(session, scope, vec![ticket], now, fx),
        }
    }

    fn send_barrier(
        &mut self,
        session: SessionId,
        ino: Option<Ino>,
        readers: Vec<Ticket>,
        now: Duration,
        fx: &mut Effects,
    ) {
        let id = self.next_barrier;
        self.next_barrier += 1;
        let Some(client) = self.clients.get_mut(&session) else { return };
        let within = client.patience;
        let deadline = now + within;
        client.barriers.insert(ino, Barriers { current: Some((id, deadline, readers)), next: Vec::new() });
        self.notify(session, Tell::Barrier { id, ino, within }, deadline, Due::Barrier(id), now, fx);
    }

    /// A session gave up a write lease: everything it had came before that, so its barriers are answered.
    pub(super) fn no_more_writer(&mut self, session: SessionId, ino: Ino, now: Duration, fx: &mut Effects) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        let mut answered: Vec<Barriers> = client.barriers.remove(&Some(ino)).into_iter().collect();
        if client.writes == 0 {
            answered.extend(client.barriers.remove(&None));
        }
        for barriers in answered {
            if let Some((id, deadline, _)) = &barriers.current {
                self.answered(session, *deadline, Due::Barrier(*id));
            }
            self.release_readers(barriers, now, fx);
        }
    }

    pub(super) fn release_readers(&mut self, barriers: Barriers, now: Duration, fx: &mut Effects) {
        let current = barriers.current.map(|(_, _, readers)| readers).unwrap_or_default();
        for ticket in current.into_iter().chain(barriers.next) {
            self.read_step(ticket, now, fx);
        }
    }

    pub(super) fn tell_again(&self, session: SessionId, due: Due, within: Duration) -> Option<Tell> {
        match due {
            Due::Recall(ino) => {
                let held = self.inodes.get(&ino)?.of(session)?;
                let to = held.recall.as_ref()?.to;
                Some(Tell::Recall { ino, mode: held.mode, seq: held.seq, to, within })
            }
            Due::Barrier(id) => {
                let barriers = &self.clients.get(&session)?.barriers;
                let scope = barriers.iter().find(|(_, b)| b.current.as_ref().is_some_and(|c| c.0 == id))?.0;
                Some(Tell::Barrier { id, ino: *scope, within })
            }
            Due::TooManyNotices => None,
        }
    }

    /// Whether any change on this inode runs or waits; for tests and `status`.
    #[must_use]
    pub fn is_changing(&self, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(|i| i.queue.iter().any(|item| matches!(item, Item::Change { .. })))
    }
}

/// Whether a change, handed over and running, may hide something from a reader of `scope`. A session's own
/// count as well: what it sent first it must see.
fn hides(change: &Change, scope: Option<Ino>) -> bool {
    change.covered && change.blocked == 0 && scope.is_none_or(|ino| change.inos.contains(&ino))
}

fn read_mut(
    reads: &mut std::collections::BTreeMap<Ticket, Read>,
    ticket: Ticket,
    change: impl FnOnce(&mut Read),
) {
    if let Some(read) = reads.get_mut(&ticket) {
        change(read);
    }
}
