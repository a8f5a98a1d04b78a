//! Which requests of a session have been applied, in bounded space.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::caps;

/// The set of request ids that changed something and are done.
///
/// Ids are given out in order and at most [`caps::MAX_IN_FLIGHT`] are open at once, so an id far below the
/// highest can only be done, or never was one that changes something; either way it is not asked again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Applied {
    ids: BTreeSet<u64>,
}

impl Applied {
    /// Ids remembered: twice what may be in flight, so that the oldest open one is always among them.
    pub const WINDOW: usize = 2 * caps::MAX_IN_FLIGHT;

    /// Remembers an id.
    pub fn insert(&mut self, id: u64) {
        self.ids.insert(id);
        while self.ids.len() > Self::WINDOW {
            self.ids.pop_first();
        }
    }

    /// Whether this id was applied.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }
}
