//! Room for new leases: a session near its bound gives up what it has longest not asked for.
//!
//! A guest that reads a million files would otherwise stop at its bound, with the first files cached and the newest
//! never. So a little below the bound every grant recalls the session's oldest lease: an ordinary recall to nothing,
//! which the agent answers like any other. Two things differ from a recall that somebody waits for:
//!
//! - It has no deadline. A guest that is paused, disconnected or slow is not cut off for it; one that never answers
//!   reaches the bound and is granted nothing new. As soon as somebody does wait for the inode, the notice is said
//!   again, with the deadline it would have had ([`LeaseTable::hasten`]).
//! - At most [`caps::MAX_SHEDDING`] are unanswered. Notices that others wait for so find room in the session's queue,
//!   and a slow guest is not taken for one that does not answer at all.
//!
//! What is in use is left alone: a lease promised on a reply, and an inode that somebody works on or waits for.

use std::time::Duration;

use crate::caps;
use crate::session::SessionId;
use crate::types::{Ino, LeaseMode};

use super::state::{Held, Recall};
use super::{Due, Effects, LeaseTable, Tell};

/// The deadline of what nobody waits for.
const NEVER: Duration = Duration::MAX;

/// Of the oldest leases, how many are looked at for one that is not in use. A guest that keeps these busy sheds nothing,
/// and costs nobody time.
const LOOKED_AT: usize = 32;

/// Leases one session may hold behind one door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bound(pub(super) usize);

impl Default for Bound {
    fn default() -> Bound {
        Bound(caps::MAX_LEASES)
    }
}

impl Bound {
    /// Where shedding begins. The room above it is for grants that come while recalls are on their way: some pages of
    /// a listing with attributes.
    const fn begins(self) -> usize {
        self.0 - self.0.div_ceil(64)
    }
}

impl LeaseTable {
    /// Recalls a lease, for room. False when there is none, or it is in use.
    ///
    /// The table does this by itself where a session comes near its bound.
    pub fn shed(&mut self, session: SessionId, ino: Ino, now: Duration, fx: &mut Effects) -> bool {
        let Some(inode) = self.inodes.get_mut(&ino).filter(|inode| inode.queue.is_empty()) else {
            return false;
        };
        let held = inode.held.iter_mut().find(|h| h.session == session);
        let Some(held) = held.filter(|h| h.recall.is_none() && h.promised.is_none()) else { return false };
        let to = LeaseMode::None;
        held.recall = Some(Recall { to, deadline: Some(NEVER) });
        let tell = Tell::Recall { ino, mode: held.mode, seq: held.seq, to, within: NEVER };
        if let Some(client) = self.clients.get_mut(&session) {
            client.leases.shed(ino);
        }
        self.notify(session, tell, NEVER, Due::Recall(ino), now, fx);
        true
    }

    /// A session was granted something: near its bound, its oldest leases go.
    pub(super) fn make_room(&mut self, session: SessionId, now: Duration, fx: &mut Effects) {
        let Some(client) = self.clients.get(&session) else { return };
        let staying = client.leases.len() - client.leases.shedding();
        let wanted = staying.saturating_sub(self.max_leases.begins());
        let wanted = wanted.min(caps::MAX_SHEDDING.saturating_sub(client.leases.shedding()));
        if wanted == 0 {
            return;
        }
        let oldest: Vec<Ino> = client.leases.oldest_first().take(wanted + LOOKED_AT).collect();
        let mut shed = 0;
        for ino in oldest {
            shed += usize::from(self.shed(session, ino, now, fx));
            if shed == wanted {
                return;
            }
        }
    }

    /// Somebody waits for a recall that nobody waited for. The agent is told by when it is to be done.
    pub(super) fn hasten(&mut self, held: &mut Held, ino: Ino, now: Duration, fx: &mut Effects) {
        let Some(Recall { deadline: Some(deadline), to }) = &mut held.recall else { return };
        let Some(client) = self.clients.get(&held.session).filter(|_| *deadline == NEVER) else { return };
        let within = client.patience;
        self.deadlines.remove(&(NEVER, held.session, Due::Recall(ino)));
        *deadline = now + within;
        self.deadlines.insert((*deadline, held.session, Due::Recall(ino)));
        let tell = Tell::Recall { ino, mode: held.mode, seq: held.seq, to: *to, within };
        fx.tell.push((held.session, tell));
    }

    /// When [`overdue`](LeaseTable::overdue) is next worth asking.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, ..)| *at).filter(|at| *at != NEVER)
    }
}
