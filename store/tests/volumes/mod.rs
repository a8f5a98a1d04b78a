//! What the tests of volumes share.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

pub mod counting;
pub mod dump;
pub mod faulty;
pub mod medium;

use mooring_policy::action::Action;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{SeededRandom, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, Name, Time};
use mooring_store::api::{Authority, Caller, Result};
use mooring_store::backend::VolumeDir;
use mooring_store::memory::Memory;
use mooring_store::seal::{TenantKey, VolumeKeys};
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::path::Path;
use std::sync::Arc;

/// The same key each time, so that a child process and its parent can open one volume.
pub fn keys() -> VolumeKeys {
    TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(7))
}

pub fn options(dir: &Path) -> LocalOptions {
    LocalOptions {
        dir: VolumeDir::at(dir.join("volume")),
        keys: keys(),
        memory: Memory::new(64 << 20),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock::new()),
        config: Config::default(),
    }
}

/// A directory that only its owner can enter, as the store asks for.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub async fn open(dir: &Path) -> Arc<Volume> {
    Volume::open_local(options(dir)).await.unwrap()
}

/// Lets everything happen.
pub struct Anyone;

impl Authority for Anyone {
    fn check(&self, _: Action, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }
}

pub fn owner() -> Caller {
    at(1_000)
}

pub fn at(secs: i64) -> Caller {
    let now = Time { secs, nanos: 0 };
    Caller { authority: Arc::new(Anyone), root: Ino::ROOT, confined: false, now, trace: 0 }
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}
