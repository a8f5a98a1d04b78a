//! What an operation holds while it waits and while it runs; both end by being dropped.

use std::sync::Arc;

use mooring_protocol::lease::{Go, Ticket};
use mooring_protocol::session::SessionId;
use mooring_protocol::types::{Ino, LeaseGrant};
use tokio::sync::oneshot as once;

use super::{Actor, Coherent};

/// An operation that was let through; it justifies the grants on its reply. Dropping it ends its changes and takes back
/// a lease that was promised to it.
pub struct Pass {
    pub(super) volume: Arc<Coherent>,
    pub(super) clock: u64,
    pub(super) changes: Vec<(Ticket, Vec<Ino>)>,
    pub(super) promised: Vec<(SessionId, LeaseGrant)>,
}

impl Pass {
    /// The lease it waited for.
    pub fn grant(&self) -> Option<LeaseGrant> {
        self.promised.first().map(|(_, grant)| *grant)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.changes.is_empty() && self.promised.is_empty() {
            return;
        }
        let volume = self.volume.clone();
        volume.with(|state, now, fx| {
            state.end_changes(&mut self.changes, now, fx);
            for (session, grant) in self.promised.drain(..) {
                state.table.withdrawn(session, grant, now, fx);
            }
        });
    }
}

/// A ticket and its answer; takes the ticket out of the queue when its operation stops waiting.
pub(super) struct Queued<'a> {
    pub(super) volume: &'a Coherent,
    pub(super) ticket: Ticket,
    pub(super) session: Actor,
    pub(super) answer: once::Receiver<Go>,
    pub(super) taken: bool,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        self.volume.with(|state, now, fx| {
            state.waiters.remove(&self.ticket);
            // Answers are sent under this lock: either it is here already, or it never comes.
            match (self.answer.try_recv(), self.session) {
                (Ok(Go::Granted(grant)), Some(session)) => state.table.withdrawn(session, grant, now, fx),
                _ => state.table.cancel(self.ticket, now, fx),
            }
        });
    }
}
