//! The agent's side of a session: what was asked and not answered, and what happens to it.

use std::collections::BTreeMap;

use crate::caps;
use crate::message::Resumed;
use crate::status::Status;

/// Where the link to the gateway stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Requests go out as they come.
    Connected,
    /// No connection, or none that is settled: requests wait.
    Reconnecting,
    /// The session was evicted. Nothing more goes out in its name.
    Fenced,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many as allowed are unanswered; wait for one.
    #[error("{} requests are unanswered", caps::MAX_IN_FLIGHT)]
    Full,
    /// The session was evicted; what was not handed over is refused.
    #[error("the session was evicted by the gateway")]
    Fenced,
}

impl Refused {
    /// What the program that asked is told.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Refused::Full => Status::Overloaded,
            Refused::Fenced => Status::Fenced,
        }
    }
}

/// A request and its id.
pub type Unanswered<R> = (u64, R);

/// Requests that are unanswered, in the order in which they were made. `R` is what it takes to send one
/// again (an encoded body and its payload, by reference).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link<R> {
    state: LinkState,
    next: u64,
    unanswered: BTreeMap<u64, R>,
}

impl<R> Default for Link<R> {
    fn default() -> Link<R> {
        Link { state: LinkState::Reconnecting, next: 1, unanswered: BTreeMap::new() }
    }
}

impl<R: Clone> Link<R> {
    /// A link that has never been connected.
    #[must_use]
    pub fn new() -> Link<R> {
        Link::default()
    }

    /// Takes a request. Gives its id, and whether to send it now; otherwise it goes out after the next
    /// [`welcomed`](Link::welcomed).
    ///
    /// # Errors
    /// Too many are unanswered, or the session is over.
    pub fn submit(&mut self, request: R) -> Result<(u64, bool), Refused> {
        match self.state {
            LinkState::Fenced => Err(Refused::Fenced),
            _ if self.unanswered.len() >= caps::MAX_IN_FLIGHT => Err(Refused::Full),
            state => {
                let id = self.next;
                self.next += 1;
                self.unanswered.insert(id, request);
                Ok((id, state == LinkState::Connected))
            }
        }
    }

    /// A reply came. `None` when nothing waits for it (it was cancelled, or answers twice).
    pub fn answered(&mut self, id: u64) -> Option<R> {
        self.unanswered.remove(&id)
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        if self.state == LinkState::Connected {
            self.state = LinkState::Reconnecting;
        }
    }

    /// The gateway has answered the greeting.
    ///
    /// Gives what to send now, in order. After [`Resumed::Reclaim`] that is nothing yet: reclaim first, then
    /// call [`reclaimed`](Link::reclaimed). After [`Resumed::Lost`] the link is fenced: fail what is
    /// [unanswered](Link::fail_all) and begin a new link for the new session.
    pub fn welcomed(&mut self, resumed: Resumed) -> Vec<Unanswered<R>> {
        match (self.state, resumed) {
            (LinkState::Fenced, _) | (_, Resumed::Lost) => {
                self.state = LinkState::Fenced;
                Vec::new()
            }
            (_, Resumed::Reclaim) => Vec::new(),
            (_, Resumed::Fresh | Resumed::Kept) => self.go(),
        }
    }

    /// What was held has been reclaimed: gives what to send now, in order.
    pub fn reclaimed(&mut self) -> Vec<Unanswered<R>> {
        if self.state == LinkState::Fenced { Vec::new() } else { self.go() }
    }

    /// The gateway said that the session is evicted.
    pub fn fenced(&mut self) {
        self.state = LinkState::Fenced;
    }

    /// Takes out everything unanswered, to fail it.
    pub fn fail_all(&mut self) -> Vec<Unanswered<R>> {
        std::mem::take(&mut self.unanswered).into_iter().collect()
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> LinkState {
        self.state
    }

    /// How many are unanswered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unanswered.len()
    }

    fn go(&mut self) -> Vec<Unanswered<R>> {
        self.state = LinkState::Connected;
        self.unanswered.iter().map(|(id, request)| (*id, request.clone())).collect()
    }
}
