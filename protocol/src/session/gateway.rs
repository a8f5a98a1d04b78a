//! The gateway's side of a session.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::caps;
use crate::message::Resumed;
use crate::status::Status;

use super::{Applied, SessionId};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Made, and its agent has not been welcomed yet.
    Fresh,
    /// Has a connection.
    Active,
    /// Has none. Kept until this moment.
    Disconnected(Duration),
    /// Over. Nothing it sends is taken.
    Evicted,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admit {
    /// Carry it out and report with [`Session::finish`].
    Run,
    /// It runs already; its reply goes to the connection that is there when it is done.
    Running,
    /// Done before: answer with this.
    Replay(Status, Bytes),
    /// Done before a restart, and its reply is lost: build the answer from what is there now.
    Applied,
    /// Refuse with this status.
    Refuse(Status),
}

/// A cached answer: status and body, without grants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cached {
    request: u64,
    status: Status,
    body: Bytes,
}

/// One agent's session, as the gateway that serves it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    id: SessionId,
    epoch: u64,
    peer: Vec<u8>,
    phase: Phase,
    /// It began before this gateway process and has not reclaimed yet.
    to_reclaim: bool,
    /// Running requests, and whether each changes something.
    running: BTreeMap<u64, bool>,
    cache: VecDeque<Cached>,
    applied: Applied,
}

impl Session {
    /// A new session for `peer`: the channel's identity in the caller's own form. Only the same peer may
    /// resume it.
    #[must_use]
    pub fn new(id: SessionId, peer: Vec<u8>) -> Session {
        Session {
            id,
            epoch: 0,
            peer,
            phase: Phase::Fresh,
            to_reclaim: false,
            running: BTreeMap::new(),
            cache: VecDeque::new(),
            applied: Applied::default(),
        }
    }

    /// A connection of `peer` takes this session, naming the epoch it knew. Raises the epoch.
    ///
    /// A second connection while the first seems alive wins: the first one's end may just not have been
    /// noticed. [`Resumed::Lost`] means that the caller makes a new session.
    pub fn connect(&mut self, peer: &[u8], known_epoch: u64) -> Resumed {
        let foreign = peer != self.peer || known_epoch > self.epoch;
        if foreign || self.phase == Phase::Evicted {
            return Resumed::Lost;
        }
        let fresh = self.phase == Phase::Fresh;
        self.epoch += 1;
        self.phase = Phase::Active;
        match (fresh, self.to_reclaim) {
            (true, _) => Resumed::Fresh,
            (false, true) => Resumed::Reclaim,
            (false, false) => Resumed::Kept,
        }
    }

    /// The connection that had `epoch` ended. Ignored when a newer one took over.
    pub fn disconnect(&mut self, epoch: u64, now: Duration) {
        if self.phase == Phase::Active && epoch == self.epoch {
            self.phase = Phase::Disconnected(now + caps::DISCONNECTED);
        }
    }

    /// Whether it has been without a connection for too long.
    #[must_use]
    pub fn is_overdue(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Disconnected(until) if until <= now)
    }

    /// Ends it. Persist the record before anything it held is given to others.
    pub fn evict(&mut self) {
        self.phase = Phase::Evicted;
        self.running.clear();
        self.cache.clear();
    }

    /// It has reclaimed; from now on it may ask for anything.
    pub fn reclaimed(&mut self) {
        self.to_reclaim = false;
    }

    /// Judges a request of the connection with `epoch`; `changes` says whether carrying it out twice would
    /// differ from once.
    pub fn admit(&mut self, epoch: u64, request: u64, changes: bool) -> Admit {
        if self.phase == Phase::Evicted {
            return Admit::Refuse(Status::Fenced);
        }
        if epoch != self.epoch {
            return Admit::Refuse(Status::NoSession);
        }
        if request == 0 {
            return Admit::Refuse(Status::Malformed);
        }
        if self.running.contains_key(&request) {
            return Admit::Running;
        }
        if changes {
            if let Some(cached) = self.cache.iter().find(|c| c.request == request) {
                return Admit::Replay(cached.status, cached.body.clone());
            }
            if self.applied.contains(request) {
                return Admit::Applied;
            }
        }
        if self.running.len() >= caps::MAX_IN_FLIGHT {
            return Admit::Refuse(Status::Overloaded);
        }
        self.running.insert(request, changes);
        Admit::Run
    }

    /// A request is done; its reply is to be queued in the same order as these calls. `body` is the answer
    /// *without grants*.
    pub fn finish(&mut self, request: u64, status: Status, body: Bytes) {
        let Some(changes) = self.running.remove(&request) else { return };
        if !changes || self.phase == Phase::Evicted {
            return;
        }
        if status.is_ok() {
            self.applied.insert(request);
        }
        // Too large to keep: a repetition finds it in `applied` and the answer is built anew.
        if body.len() > caps::MAX_CACHED_REPLY && status.is_ok() {
            return;
        }
        if self.cache.len() >= caps::REPLY_CACHE_ENTRIES {
            self.cache.pop_front();
        }
        self.cache.push_back(Cached { request, status, body });
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it has still to reclaim what it had before the gateway restarted.
    #[must_use]
    pub const fn must_reclaim(&self) -> bool {
        self.to_reclaim
    }

    /// Requests running for it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.running.len()
    }

    /// What is persisted.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        SessionRecord {
            id: self.id,
            epoch: self.epoch,
            peer: self.peer.clone(),
            evicted: self.phase == Phase::Evicted,
            applied: self.applied.clone(),
        }
    }

    /// A session as found after a restart: disconnected, with everything to reclaim.
    #[must_use]
    pub fn from_record(record: SessionRecord, now: Duration) -> Session {
        let phase = if record.evicted { Phase::Evicted } else { Phase::Disconnected(now + caps::GRACE) };
        Session {
            epoch: record.epoch,
            phase,
            to_reclaim: !record.evicted,
            applied: record.applied,
            ..Session::new(record.id, record.peer)
        }
    }
}

/// A session's persisted form. Written when it begins, when its epoch rises and when it is evicted; `applied` follows each
/// change, in a log of its own. A change whose note is missing is in doubt after a restart: docs/adr/0006 says how that
/// is settled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Its epoch.
    pub epoch: u64,
    /// Who may resume it.
    pub peer: Vec<u8>,
    /// It must never come back.
    pub evicted: bool,
    /// Requests that are done.
    pub applied: Applied,
}

/// A persisted record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Nothing there.
    #[error("session record is empty")]
    Empty,
    /// Written by a later version.
    #[error(
        "session record has version {got}, this build reads up to {}; run the newer gateway",
        SessionRecord::VERSION
    )]
    Version {
        /// The version found.
        got: u8,
    },
    /// Broken.
    #[error("session record cannot be read")]
    Decode(#[source] postcard::Error),
    /// Cannot be written.
    #[error("session record cannot be written")]
    Encode(#[source] postcard::Error),
}

impl SessionRecord {
    /// Version of the form: one byte before the record. 1: the first.
    pub const VERSION: u8 = 1;

    /// The bytes to persist.
    ///
    /// # Errors
    /// None in practice: the types are all serialisable.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        postcard::to_extend(self, vec![Self::VERSION]).map_err(RecordError::Encode)
    }

    /// Reads persisted bytes.
    ///
    /// # Errors
    /// The record is broken or from a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<SessionRecord, RecordError> {
        match bytes.split_first() {
            None => Err(RecordError::Empty),
            Some((&Self::VERSION, rest)) => postcard::from_bytes(rest).map_err(RecordError::Decode),
            Some((&got, _)) => Err(RecordError::Version { got }),
        }
    }
}
