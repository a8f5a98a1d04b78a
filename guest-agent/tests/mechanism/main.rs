//! The mechanism: leases, the kernel's caches and the order of things, on real mounts.
//!
//! Two guests mount the same bucket. The gateway is a toy with the real lease machine; agents, frames, FUSE and the
//! kernel are real. Needs /dev/fuse and the right to mount.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crossing;
mod gateway;
mod kernel;
mod order;
mod seen;
mod sessions;
mod stage;
mod tree;

/// Numbers that look random and can be had again: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(pub u64);

impl Dice {
    /// A seed from `MECHANISM_SEED`, or a fixed one; printed so that a failure can be repeated.
    pub fn seeded() -> Dice {
        let seed = std::env::var("MECHANISM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x6d6f_6f72);
        eprintln!("MECHANISM_SEED={seed}");
        Dice(seed)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
