//! One inode's queue, taken as far as it goes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::caps;
use crate::session::SessionId;
use crate::types::{Ino, LeaseGrant, LeaseMode};

use super::{Due, Effects, Go, Held, Inode, Item, LeaseTable, Recall, Tell, Ticket, ticket_of};

/// Whether two sessions may hold these at once.
pub(super) fn compatible(a: LeaseMode, b: LeaseMode) -> bool {
    a.min(b) == LeaseMode::None || a.max(b) == LeaseMode::Read
}

/// What stands before an item in the queue.
#[derive(Default)]
struct Ahead {
    reader: bool,
    writer: bool,
    change: bool,
    /// Sessions whose handed-over changes are not applied yet.
    covered: Vec<SessionId>,
}

impl LeaseTable {
    /// Goes once through an inode's queue: grants and clears what nothing stands in the way of, and
    /// recalls what stands in the way of the rest.
    pub(super) fn settle(&mut self, ino: Ino, now: Duration, fx: &mut Effects) {
        let Some(mut inode) = self.inodes.remove(&ino) else { return };
        let mut ahead = Ahead::default();
        let mut waits = Vec::new();
        let mut at = 0;
        while at < inode.queue.len() {
            let item = inode.queue[at].clone();
            match item {
                Item::Acquire { ticket, session, mode } => {
                    let blocked = self.grace
                        || ahead.change
                        || ahead.writer
                        || (mode == LeaseMode::Write && ahead.reader);
                    if !blocked && self.make_way(&mut inode, ino, session, mode, now, fx) {
                        inode.queue.remove(at);
                        self.acquires.remove(&ticket);
                        if let Some(grant) = self.promise_in(&mut inode, session, ino, mode) {
                            fx.ready.push((ticket, Go::Granted(grant)));
                        }
                        continue;
                    }
                    ahead.reader |= mode == LeaseMode::Read;
                    ahead.writer |= mode == LeaseMode::Write;
                }
                Item::Change { ticket, who, covered, clear } => {
                    if !clear {
                        let free = self.may_clear(&inode, who, &ahead)
                            && self.make_way_for_change(&mut inode, ino, who, now, fx);
                        if free {
                            inode.queue[at] = Item::Change { ticket, who, covered, clear: true };
                            self.cleared(ticket, fx);
                        } else {
                            waits.push(ticket);
                        }
                    }
                    ahead.change = true;
                    ahead.covered.extend(who.filter(|_| covered));
                }
            }
            at += 1;
        }
        if !inode.held.is_empty() || !inode.queue.is_empty() {
            self.inodes.insert(ino, inode);
        }
        for ticket in waits {
            self.break_circle(ticket, now, fx);
        }
    }

    fn may_clear(&self, inode: &Inode, who: Option<SessionId>, ahead: &Ahead) -> bool {
        let in_grace = self.grace && inode.mode_of(who) != LeaseMode::Write;
        let behind = ahead.reader || ahead.writer || ahead.covered.iter().any(|s| Some(*s) != who);
        !in_grace && !behind
    }

    /// Recalls what conflicts with a grant; true when nothing does.
    fn make_way(
        &mut self,
        inode: &mut Inode,
        ino: Ino,
        session: SessionId,
        mode: LeaseMode,
        now: Duration,
        fx: &mut Effects,
    ) -> bool {
        let to = if mode == LeaseMode::Read { LeaseMode::Read } else { LeaseMode::None };
        let mut free = true;
        for held in &mut inode.held {
            if held.session == session {
                free &= held.recall.is_none() && held.promised.is_none();
                // Others wait behind this request, and so for the answer to what was shed.
                self.hasten(held, ino, now, fx);
            } else if !compatible(held.reach(), mode) {
                free = false;
                self.recall(held, ino, to, now, fx);
            }
        }
        free
    }

    /// Recalls everybody else's lease; true when there is none.
    fn make_way_for_change(
        &mut self,
        inode: &mut Inode,
        ino: Ino,
        who: Option<SessionId>,
        now: Duration,
        fx: &mut Effects,
    ) -> bool {
        let mut free = true;
        for held in inode.held.iter_mut().filter(|h| Some(h.session) != who) {
            free = false;
            self.recall(held, ino, LeaseMode::None, now, fx);
        }
        free
    }

    fn recall(&mut self, held: &mut Held, ino: Ino, to: LeaseMode, now: Duration, fx: &mut Effects) {
        match &mut held.recall {
            // Held back behind a promised grant: the notice can still ask for more.
            Some(Recall { to: before, deadline: None }) => *before = to.min(*before),
            // On its way. What more is needed is asked for when it has been answered, so that an answer
            // is never ambiguous.
            Some(_) => self.hasten(held, ino, now, fx),
            None => {
                held.recall = Some(Recall { to, deadline: None });
                if held.promised.is_none() {
                    self.send_recall(held, ino, now, fx);
                }
            }
        }
    }

    fn send_recall(&mut self, held: &mut Held, ino: Ino, now: Duration, fx: &mut Effects) {
        let Some(recall) = &mut held.recall else { return };
        let Some(within) = self.clients.get(&held.session).map(|c| c.patience) else { return };
        let deadline = now + within;
        recall.deadline = Some(deadline);
        let tell = Tell::Recall { ino, mode: held.mode, seq: held.seq, to: recall.to, within };
        self.notify(held.session, tell, deadline, Due::Recall(ino), now, fx);
    }

    pub(super) fn notify(
        &mut self,
        session: SessionId,
        tell: Tell,
        deadline: Duration,
        due: Due,
        now: Duration,
        fx: &mut Effects,
    ) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.unanswered += 1;
        if client.unanswered > caps::MAX_QUEUED_NOTICES {
            self.deadlines.insert((now, session, Due::TooManyNotices));
        }
        self.deadlines.insert((deadline, session, due));
        fx.tell.push((session, tell));
    }

    /// A promise is settled: what was held back behind it goes out, or is moot.
    pub(super) fn send_held_back(&mut self, session: SessionId, ino: Ino, now: Duration, fx: &mut Effects) {
        let Some(mut inode) = self.inodes.remove(&ino) else { return };
        if let Some(held) = inode.held.iter_mut().find(|h| h.session == session) {
            match &held.recall {
                Some(Recall { to, deadline: None }) if held.mode <= *to => held.recall = None,
                Some(Recall { deadline: None, .. }) => self.send_recall(held, ino, now, fx),
                _ => {}
            }
        }
        self.inodes.insert(ino, inode);
    }

    pub(super) fn answered(&mut self, session: SessionId, deadline: Duration, due: Due) {
        self.deadlines.remove(&(deadline, session, due));
        if let Some(client) = self.clients.get_mut(&session) {
            client.unanswered = client.unanswered.saturating_sub(1);
        }
    }

    pub(super) fn promise(&mut self, session: SessionId, ino: Ino, mode: LeaseMode) -> Option<LeaseGrant> {
        let mut inode = self.inodes.remove(&ino).unwrap_or_default();
        let grant = self.promise_in(&mut inode, session, ino, mode);
        self.inodes.insert(ino, inode);
        grant
    }

    fn promise_in(
        &mut self,
        inode: &mut Inode,
        session: SessionId,
        ino: Ino,
        mode: LeaseMode,
    ) -> Option<LeaseGrant> {
        let client = self.clients.get_mut(&session)?;
        let seq = client.next_seq;
        // One is left out for what a downgrade leaves.
        client.next_seq += 2;
        client.leases.renew(ino, seq);
        let known = inode.held.iter_mut().find(|h| h.session == session);
        let mode = known.as_ref().map_or(mode, |h| h.mode.max(mode));
        let promised = Some((mode, seq));
        match known {
            Some(held) => held.promised = promised,
            None => inode.held.push(Held { session, mode: LeaseMode::None, seq: 0, promised, recall: None }),
        }
        Some(LeaseGrant { ino, mode, seq })
    }

    pub(super) fn held_mut(&mut self, session: SessionId, ino: Ino) -> Option<&mut Held> {
        self.inodes.get_mut(&ino)?.held.iter_mut().find(|h| h.session == session)
    }

    /// What the agent holds is now `mode`; forgets the entry when that is nothing and nothing is promised.
    pub(super) fn set_mode(
        &mut self,
        session: SessionId,
        ino: Ino,
        mode: LeaseMode,
        now: Duration,
        fx: &mut Effects,
    ) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        let Some(at) = inode.held.iter().position(|h| h.session == session) else { return };
        let before = std::mem::replace(&mut inode.held[at].mode, mode);
        let gone = mode == LeaseMode::None && inode.held[at].promised.is_none();
        if gone {
            inode.held.remove(at);
        }
        let Some(client) = self.clients.get_mut(&session) else { return };
        if gone {
            client.leases.remove(ino);
        }
        let was_writer = before == LeaseMode::Write;
        let is_writer = mode == LeaseMode::Write;
        client.writes = client.writes + usize::from(is_writer) - usize::from(was_writer);
        if was_writer && !is_writer {
            self.no_more_writer(session, ino, now, fx);
        }
    }

    fn cleared(&mut self, ticket: Ticket, fx: &mut Effects) {
        if let Some(change) = self.changes.get_mut(&ticket) {
            change.blocked -= 1;
            if change.blocked == 0 {
                fx.ready.push((ticket, Go::Run));
            }
        }
    }

    /// Refuses a change whose wait closes a circle.
    fn break_circle(&mut self, ticket: Ticket, now: Duration, fx: &mut Effects) {
        // A change of one inode is never part of a circle: its holder's runs at once, and others hold nothing up.
        let several = self.changes.get(&ticket).is_some_and(|c| c.inos.len() > 1);
        if several && self.waits_for_itself(ticket) {
            fx.ready.push((ticket, Go::Retry));
            self.finish(ticket, now, fx);
        }
    }

    /// Whether following "waits for an answer of a writer, whose own waiting change may hold that answer
    /// up" leads back to `start`.
    fn waits_for_itself(&self, start: Ticket) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![start];
        while let Some(ticket) = next.pop() {
            for other in self.held_up_by(ticket) {
                if other == start {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    }

    fn held_up_by(&self, ticket: Ticket) -> Vec<Ticket> {
        let Some(change) = self.changes.get(&ticket).filter(|c| c.blocked > 0) else { return Vec::new() };
        let mut found = Vec::new();
        for inode in change.inos.iter().filter_map(|ino| self.inodes.get(ino)) {
            let writer =
                inode.held.iter().find(|h| h.mode == LeaseMode::Write && Some(h.session) != change.who);
            for item in &inode.queue {
                if let Item::Change { ticket: other, who, covered, .. } = item {
                    let holds_up = *covered || writer.is_some_and(|w| Some(w.session) == *who);
                    if holds_up && *who != change.who && ticket_of(item) != ticket {
                        found.push(*other);
                    }
                }
            }
        }
        found
    }

    /// Takes a dropped session's waiting changes out of the queues; running ones stay until finished.
    pub(super) fn drop_waiting_changes(&mut self, session: SessionId, touched: &mut BTreeSet<Ino>) {
        let waiting: Vec<Ticket> = self
            .changes
            .iter()
            .filter(|(_, c)| c.who == Some(session) && c.blocked > 0)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in waiting {
            let Some(change) = self.changes.remove(&ticket) else { continue };
            for ino in change.inos {
                if let Some(inode) = self.inodes.get_mut(&ino) {
                    inode.queue.retain(|item| ticket_of(item) != ticket);
                }
                touched.insert(ino);
            }
        }
    }
}
