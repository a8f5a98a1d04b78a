//! A volume in a simulated world: one seed decides what clients do, when the disk fails, what time it is, and when the
//! machine dies.
//!
//! Each run is several lives of one volume. In a life, clients work side by side, each in a folder of its own, through the
//! doors of files and of objects alike; a keeper collects garbage, merges layers, takes and removes snapshots, restores
//! them, writes checkpoints, scrubs, replaces keys and narrows quotas; the weather breaks the disk at named points, for
//! good or for a moment; the clock jumps. Then, in the middle of it, the process is killed or the power goes, and the next
//! life begins with what is left. [`judge`] holds that to the promises:
//!
//! * what was synced is there; after a kill, all that was answered;
//! * each client finds its folder as it was after one of its operations, whole, and all clients at one moment: of what
//!   happened one after the other nothing is there without what came before it;
//! * snapshots are what they were; the checker finds nothing;
//! * what failed has happened or has not, and nothing in between.
//!
//! `MOORING_SEED=<n>` replays a run, `MOORING_SEEDS=<n>` makes so many. All choices follow from the seed, and all tasks
//! are on one thread; the engine's own threads and the disk's speed are real, so a replay makes the same choices at moments
//! that may differ. A run that fails prints its seed and the last operations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod judge;
mod keeper;
mod look;
mod ops;
#[path = "../volumes/mod.rs"]
mod volumes;
mod world;

use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use std::time::Duration;
use world::World;

/// Seeds that are always run.
const FIXED: [u64; 1] = [2];
/// Seeds that nobody has run before.
const FRESH: u64 = 2;
/// Lives of one volume.
const LIVES: u64 = 3;
/// A run that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(120);

fn below(random: &SeededRandom, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound
}

async fn run(seed: u64) {
    let mut world = World::new(seed).await;
    for life in 0..LIVES {
        world.live(life).await;
    }
    world.end().await;
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_simulated_world_breaks_no_promise() {
    let fresh = || {
        let mut bytes = [0; 4];
        SystemRandom.fill(&mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    };
    let seeds: Vec<u64> = match (number("MOORING_SEED"), number("MOORING_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).map(|_| fresh()).collect(),
        (None, None) => FIXED.into_iter().chain((0..FRESH).map(|_| fresh())).collect(),
    };
    for (at, seed) in seeds.iter().enumerate() {
        println!(
            "run {} of {}: MOORING_SEED={seed} cargo test -p mooring-store --test sim",
            at + 1,
            seeds.len()
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(STUCK, run(*seed)).await.unwrap_or_else(|_| panic!("seed {seed} is stuck"));
        });
    }
}
