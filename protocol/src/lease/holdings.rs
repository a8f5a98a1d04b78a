//! What one session holds, in the order in which it last asked for it.

use std::collections::BTreeMap;

use crate::types::Ino;

/// The inodes one session has leases on. A lease's age is the sequence of its last grant: asking for what one holds
/// renews it, so the oldest is what the gateway has longest heard nothing of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Holdings {
    granted: BTreeMap<Ino, u64>,
    /// All but those being shed.
    by_age: BTreeMap<u64, Ino>,
}

impl Holdings {
    /// A lease is granted, for the first time or again.
    pub(super) fn renew(&mut self, ino: Ino, seq: u64) {
        if let Some(before) = self.granted.insert(ino, seq) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(seq, ino);
    }

    /// A lease is on its way out.
    pub(super) fn shed(&mut self, ino: Ino) {
        if let Some(seq) = self.granted.get(&ino) {
            self.by_age.remove(seq);
        }
    }

    pub(super) fn remove(&mut self, ino: Ino) {
        if let Some(seq) = self.granted.remove(&ino) {
            self.by_age.remove(&seq);
        }
    }

    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.granted.contains_key(&ino)
    }

    pub(super) fn len(&self) -> usize {
        self.granted.len()
    }

    /// How many are on their way out.
    pub(super) fn shedding(&self) -> usize {
        self.granted.len() - self.by_age.len()
    }

    pub(super) fn inos(&self) -> impl Iterator<Item = Ino> + '_ {
        self.granted.keys().copied()
    }

    /// Those that stay, from the one that was longest not asked for.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = Ino> + '_ {
        self.by_age.values().copied()
    }
}
