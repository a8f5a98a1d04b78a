//! Who has what of a volume now, for status and for changes of much at once.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use mooring_protocol::types::Ino;

use super::Coherent;

impl Coherent {
    /// Sessions that have this volume open behind some door.
    pub fn holders(&self) -> usize {
        self.state.lock().links.len()
    }

    /// Leases held now.
    pub fn leases(&self) -> usize {
        let state = self.state.lock();
        state.links.keys().map(|s| state.table.leases_of(*s).len()).sum()
    }

    /// The inodes on which leases are held now.
    pub fn leased(&self) -> Vec<Ino> {
        let state = self.state.lock();
        let held = state.links.keys().flat_map(|session| state.table.leases_of(*session));
        let inos: BTreeSet<Ino> = held.map(|grant| grant.ino).collect();
        inos.into_iter().collect()
    }

    /// Leases granted since the volume was opened.
    pub fn leases_granted(&self) -> u64 {
        self.leases_granted.load(Ordering::Relaxed)
    }
}
