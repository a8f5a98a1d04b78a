//! The grace period after a gateway's restart.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::caps;

use super::SessionId;

/// Who is still expected to reclaim. Over when nobody is, or when time is up; whoever is missing then is
/// to be evicted before [`LeaseTable::end_grace`](crate::lease::LeaseTable::end_grace).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grace {
    missing: BTreeSet<SessionId>,
    until: Duration,
}

impl Grace {
    /// Grace for the sessions that were on record when the gateway started, at `now`.
    #[must_use]
    pub fn new(sessions: impl IntoIterator<Item = SessionId>, now: Duration) -> Grace {
        Grace { missing: sessions.into_iter().collect(), until: now + caps::GRACE }
    }

    /// A session has reclaimed, said goodbye, or was evicted.
    pub fn done(&mut self, session: SessionId) {
        self.missing.remove(&session);
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.missing.is_empty() || now >= self.until
    }

    /// When it ends at the latest.
    #[must_use]
    pub const fn until(&self) -> Duration {
        self.until
    }

    /// Who has not come back.
    #[must_use]
    pub const fn missing(&self) -> &BTreeSet<SessionId> {
        &self.missing
    }
}
