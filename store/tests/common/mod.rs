//! What the tests of the lower half share.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_policy::time::{Clock, SystemClock};
use mooring_store::backend::VolumeDir;
use mooring_store::meta::{BlockCache, MetaError, SlateMeta, SlateOptions};
use mooring_store::pack::{ExtentCache, PackOptions, PackStore};
use mooring_store::seal::{TenantKey, VolumeKeys};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

pub const JOURNAL_FILE: u64 = 1 << 20;

pub fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom)
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// The same key each time, so that a child process and its parent can open one volume.
pub fn keys() -> VolumeKeys {
    TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(7))
}

pub fn slate_options(dir: &Path) -> Result<SlateOptions, MetaError> {
    let dir = VolumeDir::at(dir.join("volume"));
    dir.prepare()?;
    let lock = Arc::new(dir.lock()?);
    Ok(SlateOptions {
        dir,
        lock,
        keys: keys(),
        cache: Arc::new(BlockCache::new(8 << 20, 8 << 20)),
        data: None,
        random: random(),
        clock: clock(),
        space_reserve: 0,
        journal_file_bytes: JOURNAL_FILE,
    })
}

pub async fn open(dir: &Path) -> Result<Arc<SlateMeta>, MetaError> {
    SlateMeta::open(slate_options(dir)?).await
}

pub async fn open_packs(dir: &Path, epoch: u64) -> Arc<PackStore> {
    let volume = VolumeDir::at(dir.join("volume"));
    volume.prepare().unwrap();
    let options = PackOptions {
        dir: volume.packs(),
        keys: keys(),
        epoch,
        random: random(),
        cache: ExtentCache::new(1 << 20),
        pack_bytes: 512 << 10,
    };
    PackStore::open(options).await.unwrap()
}

/// Runs an ignored test of this binary in a process of its own, through `wrap` if given.
pub fn child(test: &str, wrap: Option<&str>) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrap {
        None => Command::new(exe),
        Some(script) => {
            let mut command = Command::new("unshare");
            command.args(["-rm", "sh", "-c", script, "sh"]).arg(exe);
            command
        }
    };
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]);
    command
}
