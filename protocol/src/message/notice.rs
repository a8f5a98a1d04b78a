//! What the gateway says unasked, and what the agent answers.

use serde::{Deserialize, Serialize};

use super::Door;
use crate::types::{Ino, LeaseGrant, LeaseMode};

/// What the gateway says unasked, behind one door (header `volume`), or to the session (`volume` 0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Reduce a lease to `to`: hand over what is dirty, publish, invalidate the kernel, then [`Ack::Recalled`].
    Recall {
        /// The grant that is recalled; a newer grant on the same inode is not meant.
        grant: LeaseGrant,
        /// What may be kept: `Read` after a downgrade, else `None`.
        to: LeaseMode,
        /// Milliseconds until the session is evicted.
        deadline_ms: u32,
    },
    /// Hand over everything gathered up to now (of one inode, or all), keep the leases, then [`Ack::Barrier`].
    Barrier {
        /// Named in the acknowledgement.
        id: u64,
        /// One inode, or everything behind the door.
        ino: Option<Ino>,
        /// Milliseconds until the session is evicted.
        deadline_ms: u32,
    },
    /// The right behind this door ended: drop everything, fail what is open; then [`Ack::Revoked`].
    Revoked {
        /// Milliseconds until the session is fenced.
        deadline_ms: u32,
    },
    /// What can be mounted now, all of it.
    Doors {
        /// The full list.
        doors: Vec<Door>,
    },
    /// A fresh session token for the S3 and API doors.
    Token {
        /// The token.
        token: String,
        /// When it ends, milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// The session is evicted: nothing it sends is taken any more.
    Fenced {
        /// Why, for the log.
        reason: String,
    },
    /// The gateway is about to stop in good order; reconnect afterwards.
    Goodbye,
}

/// The agent's answer to a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ack {
    /// The recall is done.
    Recalled {
        /// The inode.
        ino: Ino,
        /// The recalled grant's sequence.
        seq: u64,
    },
    /// Everything gathered before the barrier was handed over.
    Barrier {
        /// Its id.
        id: u64,
    },
    /// Pages and state of the door are dropped.
    Revoked,
}
