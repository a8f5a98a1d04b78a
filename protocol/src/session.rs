//! Sessions: what survives a lost connection, a restarted gateway, and what does not.
//!
//! ```text
//! gateway                                             agent
//!
//!  Fresh --welcome--> Active <------resume------.      Connected <--welcome: kept / reclaimed--.
//!                       |                       |          |                                   |
//!                  connection lost              |     connection lost                          |
//!                       v                       |          v                                   |
//!                  Disconnected(until) ---------'     Reconnecting ----------------------------'
//!                       |                                  |
//!             until passed, recall overdue,          welcome: lost
//!             or not reclaimed within grace                v
//!                       v                               Fenced: unsent changes are refused (EIO),
//!                    Evicted                            then a new session begins
//! ```
//!
//! Each (re)connection raises the session's epoch, and frames of an older epoch are refused: what a dead
//! connection still delivers cannot mix with what the new one sends.
//!
//! # Exactly once
//!
//! A request that changes something keeps its id when it is sent again. The gateway then answers from the
//! reply cache, or ties the running request to the new connection. The cache needs no acknowledgements:
//! replies reach the agent in the order in which they were finished, so those it has not read are the
//! newest ones, and never more than it may have in flight.
//!
//! The ids applied are persisted with the changes themselves ([`Applied`]), so that after a restart of the
//! gateway a request sent again is known to be done although its reply is lost. Cached replies carry *no
//! lease grants*: a grant replayed after its recall would be a lease that nobody knows of.
//!
//! An eviction is persisted before anything of the session is given to others. So after a restart it
//! cannot come back and reclaim what somebody else has meanwhile.

mod agent;
mod applied;
mod gateway;
mod grace;

pub use agent::{Link, LinkState, Refused, Unanswered};
pub use applied::Applied;
pub use gateway::{Admit, Phase, RecordError, Session, SessionRecord};
pub use grace::Grace;

use serde::{Deserialize, Serialize};

/// A session's id: random, so that it cannot be guessed; the gateway draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
