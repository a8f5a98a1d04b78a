//! What the table keeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::session::SessionId;
use crate::types::{Ino, LeaseMode};

use super::Ticket;
use super::holdings::Holdings;
use super::read::Barriers;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// How long it may take to answer a notice.
    pub(super) patience: Duration,
    pub(super) next_seq: u64,
    pub(super) leases: Holdings,
    /// Write leases the agent knows of.
    pub(super) writes: usize,
    /// Notices it has not answered.
    pub(super) unanswered: usize,
    pub(super) barriers: BTreeMap<Option<Ino>, Barriers>,
}

/// What one session has on one inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) session: SessionId,
    /// What the agent knows it has; `None` when only `promised` is there.
    pub(super) mode: LeaseMode,
    pub(super) seq: u64,
    /// Granted, and not yet in the session's outgoing queue.
    pub(super) promised: Option<(LeaseMode, u64)>,
    pub(super) recall: Option<Recall>,
}

impl Held {
    /// The most that the session may come to believe without hearing from us again.
    pub(super) fn reach(&self) -> LeaseMode {
        self.promised.map_or(self.mode, |(mode, _)| mode.max(self.mode))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Recall {
    pub(super) to: LeaseMode,
    /// `None` while a promised grant holds the notice back.
    pub(super) deadline: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Acquire {
        ticket: Ticket,
        session: SessionId,
        mode: LeaseMode,
    },
    Change {
        ticket: Ticket,
        who: Option<SessionId>,
        /// It came from the holder of the write lease: it may carry what other sessions must see.
        covered: bool,
        /// Nothing on this inode stands in its way any more.
        clear: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Inode {
    pub(super) held: Vec<Held>,
    pub(super) queue: VecDeque<Item>,
}

impl Inode {
    pub(super) fn of(&self, session: SessionId) -> Option<&Held> {
        self.held.iter().find(|h| h.session == session)
    }

    pub(super) fn mode_of(&self, session: Option<SessionId>) -> LeaseMode {
        session.and_then(|s| self.of(s)).map_or(LeaseMode::None, |h| h.mode)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) who: Option<SessionId>,
    pub(super) inos: BTreeSet<Ino>,
    /// Inodes that are not clear yet.
    pub(super) blocked: usize,
    pub(super) covered: bool,
    /// Reads that go on when it has finished.
    pub(super) readers: Vec<Ticket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Due {
    Recall(Ino),
    Barrier(u64),
    TooManyNotices,
}

/// Whether an item waits, and is not a change of `who` itself.
pub(super) fn waits(item: &Item, who: Option<SessionId>) -> bool {
    match item {
        Item::Acquire { .. } => true,
        Item::Change { who: other, clear, .. } => !clear && *other != who,
    }
}

pub(super) fn ticket_of(item: &Item) -> Ticket {
    match item {
        Item::Acquire { ticket, .. } | Item::Change { ticket, .. } => *ticket,
    }
}
