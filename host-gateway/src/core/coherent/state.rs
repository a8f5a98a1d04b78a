//! What stands under a volume's one mutex: the lease table, the ways to its sessions, who waits, and the stamps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_protocol::lease::{Effects, Go, LeaseTable, Ticket};
use mooring_protocol::session::SessionId;
use mooring_protocol::types::Ino;
use tokio::sync::oneshot as once;

use super::{Actor, HolderLink};

/// Stamps shared by all inodes of a volume.
const STAMPS: usize = 4096;

pub(super) struct State {
    pub(super) table: LeaseTable,
    pub(super) links: HashMap<SessionId, Arc<dyn HolderLink>>,
    pub(super) waiters: HashMap<Ticket, (Actor, once::Sender<Go>)>,
    /// Sessions whose queue of notices is full.
    pub(super) deaf: Vec<SessionId>,
    pub(super) stamps: Box<[u64]>,
    pub(super) clock: u64,
    pub(super) next_ticket: u64,
    pub(super) next_holder: u64,
}

impl State {
    pub(super) fn new(max_leases: usize, recovering: bool) -> State {
        let table = if recovering { LeaseTable::recovering() } else { LeaseTable::new() };
        State {
            table: table.with_max_leases(max_leases),
            links: HashMap::new(),
            waiters: HashMap::new(),
            deaf: Vec::new(),
            stamps: vec![0; STAMPS].into_boxed_slice(),
            clock: 1,
            next_ticket: 1,
            next_holder: 1,
        }
    }

    pub(super) fn carry_out(&mut self, fx: Effects) {
        for (session, tell) in fx.tell {
            if let Some(link) = self.links.get(&session)
                && link.notify(tell.into()).is_err()
            {
                self.deaf.push(session);
            }
        }
        for (ticket, go) in fx.ready {
            if let Some((_, waiter)) = self.waiters.remove(&ticket) {
                // The receiving end is dropped only after it was taken out of the waiters, under this lock.
                let _ = waiter.send(go);
            }
        }
    }

    /// Leaves the clock's next value on these inodes, and returns it.
    pub(super) fn stamp(&mut self, inos: &[Ino]) -> u64 {
        self.clock += 1;
        for &ino in inos {
            self.stamps[slot(ino)] = self.clock;
        }
        self.clock
    }

    /// Leaves the clock's next value on every inode.
    pub(super) fn stamp_all(&mut self) {
        self.clock += 1;
        self.stamps.fill(self.clock);
    }

    pub(super) fn end_changes(
        &mut self,
        changes: &mut Vec<(Ticket, Vec<Ino>)>,
        now: Duration,
        fx: &mut Effects,
    ) {
        for (ticket, inos) in changes.drain(..) {
            self.stamp(&inos);
            self.table.finish(ticket, now, fx);
        }
    }
}

/// Fibonacci hashing: inode numbers are dense, and a guest picks which it touches.
pub(super) fn slot(ino: Ino) -> usize {
    (ino.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % STAMPS
}
