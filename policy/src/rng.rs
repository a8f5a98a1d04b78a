//! Randomness comes in from outside, so that a test can replay a run from its seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's cryptographic generator (through AWS-LC). The one for everything but tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "the one place in the crate that takes ambient randomness")]
    #[allow(clippy::panic, reason = "a predictable key or id is worse than a stopped process")]
    fn fill(&self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::fill(bytes).is_err() {
            panic!("the operating system gives no random bytes: refusing to issue predictable keys and ids");
        }
    }
}

/// A repeatable sequence for tests and simulations. Predictable by design: never for keys.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_the_system_does_not() {
        let draw = |random: &dyn Random| {
            let mut bytes = [0; 37];
            random.fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(&SeededRandom::new(1)), draw(&SeededRandom::new(1)));
        assert_ne!(draw(&SeededRandom::new(1)), draw(&SeededRandom::new(2)));
        assert_ne!(draw(&SystemRandom), draw(&SystemRandom));
    }

    #[test]
    fn the_sequence_is_that_of_the_paper() {
        let random = SeededRandom::new(0);
        assert_eq!([random.next(), random.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }
}
