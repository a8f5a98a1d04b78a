//! The store alone, beside the raw disk and what one core can hash and seal, in one run. Prints ratios and a table;
//! nothing is asserted about time.
//!
//! `cargo xtask bench store` runs it. `MOORING_BENCH_DIR` chooses the disk (default: the system's temporary directory),
//! `--quick` small sizes, `--names` the part about names alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench measures time"
)]

mod data;
mod growth;
mod sheet;
mod system;
#[path = "../../tests/volumes/mod.rs"]
mod volumes;

use bytes::Bytes;
use mooring_store::volume::{LocalOptions, Volume};
use sheet::Sheet;
use std::path::Path;
use std::time::Instant;

const SMALL: usize = 4096;
const MIB: usize = 1 << 20;

/// How much of everything.
pub struct Sizes {
    stream_mib: usize,
    random: usize,
    commits: usize,
    names: u64,
}

const FULL: Sizes = Sizes { stream_mib: 2048, random: 5000, commits: 4000, names: 1_000_000 };
const QUICK: Sizes = Sizes { stream_mib: 128, random: 500, commits: 400, names: 10_000 };

/// Bytes that do not compress and do not repeat, as a stream cipher makes them.
fn noise(len: usize, seed: u64) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    Bytes::from(out)
}

/// `count` places below `among`, spread by multiplication.
fn places(count: usize, among: usize) -> Vec<u64> {
    (0..count as u64).map(|n| n.wrapping_mul(2_654_435_761) % among as u64).collect()
}

/// The memory that a gateway has unless it is told otherwise.
static MEMORY: std::sync::LazyLock<std::sync::Arc<mooring_store::memory::Memory>> =
    std::sync::LazyLock::new(|| mooring_store::memory::Memory::new(512 << 20));

/// The volume in `home`.
async fn open(home: &Path) -> std::sync::Arc<Volume> {
    open_with(home, MEMORY.clone()).await
}

/// The volume in `home`, with caches of its own.
async fn open_with(
    home: &Path,
    memory: std::sync::Arc<mooring_store::memory::Memory>,
) -> std::sync::Arc<Volume> {
    let options = LocalOptions { memory, ..volumes::options(home) };
    // On a busy machine a close may leave the rest to the engine's own tasks, which hold the lock a little longer.
    let begun = Instant::now();
    loop {
        match Volume::open_local(options.clone()).await {
            Ok(volume) => return volume,
            Err(error) if begun.elapsed().as_secs() > 60 => panic!("cannot open the volume: {error}"),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let begun = Instant::now();
    let done = work.await;
    (begun.elapsed().as_secs_f64(), done)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, home] = &words[..]
        && word == "churn"
    {
        return runtime.block_on(growth::churn(Path::new(home)));
    }
    let sizes = if words.iter().any(|word| word == "--quick") { QUICK } else { FULL };
    let base = std::env::var_os("MOORING_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let home = || tempfile::tempdir_in(&base).unwrap();
    let mut sheet = Sheet::default();
    let names_only = words.iter().any(|word| word == "--names");
    runtime.block_on(async {
        if names_only {
            return growth::names(&mut sheet, home().path(), &sizes).await;
        }
        let ceiling = data::ceiling(&mut sheet);
        data::stream(&mut sheet, home().path(), &sizes, ceiling).await;
        let commits = home();
        for tasks in [1, 16, 64] {
            data::commits(&mut sheet, commits.path(), &sizes, tasks).await;
        }
        growth::names(&mut sheet, home().path(), &sizes).await;
    });
    println!();
    sheet.print();
}
