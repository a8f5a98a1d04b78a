//! Which packs are worth rewriting.
//!
//! * A pack that is under half live, always: moving a byte frees more than one.
//! * Many small packs, as restarts leave them: they become one.
//! * When the volume is still, or somebody asks: the emptiest, until garbage is a sixth of all at most. While it
//!   is written to that would cost several bytes moved for each one freed, and what is there dies by itself.
//!
//! An open pack that is mostly garbage is completed once nobody has written for a moment.

use crate::pack::PackId;

/// Garbage that may stay: one part in this many of the live bytes.
const SLACK: u64 = 5;
/// A pack with less garbage than one part in this many is never worth it.
const LEAST: u64 = 10;
/// Small: less than one part in this many of a full pack.
const SMALL: u64 = 4;
/// So many small packs are made one.
const MANY_SMALL: usize = 8;
/// Live bytes that are rewritten together: bounds the list in memory, and lets extents of one file come together.
const TOGETHER: u64 = 64 << 20;

/// A pack, as it is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub id: PackId,
    pub bytes: u64,
    pub live: u64,
    pub sealed: bool,
    pub pinned: bool,
}

impl Seen {
    /// Complete, and nothing can name it any more.
    pub(super) fn is_dead(&self) -> bool {
        self.sealed && !self.pinned && self.live == 0
    }

    fn garbage(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }

    fn may_go(&self) -> bool {
        self.sealed && !self.pinned && self.live > 0
    }
}

/// What is allowed now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    full: u64,
    still: bool,
    thorough: bool,
}

impl Rules {
    /// `None`: nothing may be rewritten.
    pub(super) fn new(full: u64, rewrites: bool, still: bool, thorough: bool) -> Option<Rules> {
        rewrites.then_some(Rules { full, still, thorough })
    }

    /// The open pack, when it is time to complete it.
    pub(super) fn ripe(self, seen: &[Seen]) -> Option<PackId> {
        let worth = |pack: &&Seen| !pack.sealed && !pack.pinned && pack.garbage() > pack.live / SLACK;
        let small = |pack: &Seen| !self.thorough && pack.garbage() < self.full / 64;
        seen.iter().filter(|_| self.still).find(worth).filter(|pack| !small(pack)).map(|pack| pack.id)
    }

    /// Whether there is work that waits for the volume to be still.
    pub(super) fn would_if_still(&self, seen: &[Seen], unfit: impl Fn(&Seen) -> bool) -> bool {
        let still = Rules { still: true, ..*self };
        still.ripe(seen).is_some() || !still.victims(seen, unfit).is_empty()
    }

    /// The packs to rewrite now.
    pub(super) fn victims(&self, seen: &[Seen], unfit: impl Fn(&Seen) -> bool) -> Vec<PackId> {
        let mut fit: Vec<&Seen> = seen.iter().filter(|pack| pack.may_go() && !unfit(pack)).collect();
        // The emptiest first; among equals the order is that of ids, so that a plan can be told from the packs.
        fit.sort_by_key(|pack| (pack.live * 1000 / pack.bytes.max(1), pack.id));
        let small = |pack: &Seen| pack.bytes < self.full / SMALL;
        let many = if self.thorough { 2 } else { MANY_SMALL };
        let merges = fit.iter().filter(|pack| small(pack)).count() >= many;
        let live: u64 = seen.iter().map(|pack| pack.live).sum();
        let mut garbage: u64 = seen.iter().filter(|pack| pack.sealed).map(Seen::garbage).sum();
        let (mut victims, mut moved) = (Vec::new(), 0);
        for pack in fit {
            let half = pack.live * 2 < pack.bytes;
            let over = self.still && garbage > live / SLACK && pack.garbage() > pack.bytes / LEAST;
            if !(half || over || (merges && small(pack))) {
                continue;
            }
            if moved > 0 && moved + pack.live > TOGETHER {
                break;
            }
            moved += pack.live;
            garbage = garbage.saturating_sub(pack.garbage());
            victims.push(pack.id);
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const FULL: u64 = 1000;

    fn pack(id: u128, bytes: u64, live: u64) -> Seen {
        Seen { id: PackId(id), bytes, live, sealed: true, pinned: false }
    }

    fn rules(still: bool, thorough: bool) -> Rules {
        Rules::new(FULL, true, still, thorough).unwrap()
    }

    fn victims(rules: Rules, seen: &[Seen]) -> Vec<u128> {
        rules.victims(seen, |_| false).into_iter().map(|pack| pack.0).collect()
    }

    #[test]
    fn under_half_goes_always_and_the_rest_when_it_is_still() {
        let seen = [pack(1, 1000, 499), pack(2, 1000, 700), pack(3, 1000, 950), pack(4, 1000, 720)];
        assert_eq!(victims(rules(false, false), &seen), [1]);
        // Garbage of 1,131 is to be under 573: 501 and 300 must go, the 280 may stay.
        assert_eq!(victims(rules(true, false), &seen), [1, 2]);
        assert!(rules(false, false).would_if_still(&seen[1..2], |_| false));
        assert!(!rules(false, false).would_if_still(&seen[2..3], |_| false));
    }

    #[test]
    fn what_is_open_pinned_dead_or_unfit_is_left_alone() {
        let open = Seen { sealed: false, ..pack(1, 1000, 10) };
        let pinned = Seen { pinned: true, ..pack(2, 1000, 10) };
        let dead = pack(3, 1000, 0);
        assert!(dead.is_dead() && !Seen { pinned: true, ..dead }.is_dead());
        assert_eq!(victims(rules(true, true), &[open, pinned, dead]), []);
        let unfit = rules(true, true).victims(&[pack(4, 1000, 10)], |pack| pack.id == PackId(4));
        assert_eq!(unfit, []);
    }

    #[test]
    fn many_small_packs_become_one() {
        let small: Vec<Seen> = (0..8).map(|id| pack(id, 100, 100)).collect();
        assert_eq!(victims(rules(false, false), &small).len(), 8);
        assert_eq!(victims(rules(true, false), &small[1..]), []);
        assert_eq!(victims(rules(true, true), &small[6..]), [6, 7]);
        assert_eq!(victims(rules(true, true), &small[7..]), [], "one alone stays");
    }

    #[test]
    fn an_open_pack_of_garbage_is_completed_when_it_is_still() {
        let open = Seen { sealed: false, ..pack(1, 600, 100) };
        assert_eq!(rules(true, false).ripe(&[open]), Some(PackId(1)));
        assert_eq!(rules(false, false).ripe(&[open]), None);
        assert_eq!(rules(true, false).ripe(&[Seen { live: 590, ..open }]), None);
    }
}
