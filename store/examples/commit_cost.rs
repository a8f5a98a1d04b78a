//! What a commit and a durable commit cost, against the disk and against the engine's own write-ahead log.
//!
//! `cargo run --release -p mooring-store --example commit_cost [directory]`: three rounds, everything in one run,
//! so that ratios mean something on a shared machine. Figures: docs/adr/0001-metadata-journal.md.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures"
)]

use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::SystemRandom;
use mooring_policy::time::SystemClock;
use mooring_store::backend::VolumeDir;
use mooring_store::journal::FILE_BYTES;
use mooring_store::meta::{Batch, BlockCache, Meta, SlateMeta, SlateOptions};
use mooring_store::seal::TenantKey;
use slatedb::config::Settings;
use slatedb::{Db, WriteBatch};
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

/// Runs `op(task, index)` on `tasks` tasks for one round: operations per second and the median latency.
async fn round<F, Fut>(tasks: u32, op: F) -> (f64, Duration)
where
    F: Fn(u32, u32) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let begin = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let op = op.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begin.elapsed() < ROUND {
                    let one = Instant::now();
                    op(task, took.len() as u32).await;
                    took.push(one.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in running {
        took.extend(task.await.unwrap());
    }
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    took.sort_unstable();
    (rate, took[took.len() / 2])
}

/// The rows of a create: directory entry, inode, parent's inode.
fn rows(task: u32, index: u32) -> [(Bytes, Bytes); 3] {
    let key = |family: u8, index: u32| {
        Bytes::from([&[family][..], &task.to_be_bytes(), &index.to_be_bytes(), b"file-name"].concat())
    };
    let value = |len: usize| Bytes::from(vec![7; len]);
    [(key(b'd', index), value(16)), (key(b'i', index), value(100)), (key(b'i', u32::MAX), value(100))]
}

fn print(what: &str, results: &mut [(f64, Duration)]) {
    results.sort_by(|left, right| left.0.total_cmp(&right.0));
    let rates: Vec<_> = results.iter().map(|(rate, _)| format!("{rate:>7.0}")).collect();
    println!("{what:<52} {} /s   p50 {:>9.1?}", rates.join(" / "), results[results.len() / 2].1);
}

async fn open(dir: &Path) -> Arc<SlateMeta> {
    let dir = VolumeDir::at(dir);
    dir.prepare().unwrap();
    let lock = Arc::new(dir.lock().unwrap());
    let options = SlateOptions {
        dir,
        lock,
        keys: TenantKey::generate(&SystemRandom).volume(VolumeId(1)),
        cache: Arc::new(BlockCache::new(64 << 20, 64 << 20)),
        data: None,
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock::new()),
        space_reserve: 0,
        journal_file_bytes: FILE_BYTES,
    };
    SlateMeta::open(options).await.unwrap()
}

async fn ours(dir: &Path, tasks: u32, durable: bool) -> (f64, Duration) {
    let place = tempfile::tempdir_in(dir).unwrap();
    let meta = open(&place.path().join("volume")).await;
    let running = Arc::clone(&meta);
    let result = round(tasks, move |task, index| {
        let meta = Arc::clone(&running);
        async move {
            let mut batch = Batch::new();
            for (key, value) in rows(task, index) {
                batch.put(key, value);
            }
            meta.commit(batch).await.unwrap();
            if durable {
                meta.sync().await.unwrap();
            }
        }
    })
    .await;
    let _ = meta.close().await;
    result
}

/// The engine with its own log, flushed every millisecond, fsync on.
async fn theirs(dir: &Path, tasks: u32) -> (f64, Duration) {
    let place = tempfile::tempdir_in(dir).unwrap();
    let store = object_store::local::LocalFileSystem::new_with_prefix(place.path()).unwrap().with_fsync(true);
    let settings = Settings { flush_interval: Some(Duration::from_millis(1)), ..Settings::default() };
    let db = Db::builder("db", Arc::new(store)).with_settings(settings).build().await.unwrap();
    let running = db.clone();
    let result = round(tasks, move |task, index| {
        let db = running.clone();
        async move {
            let mut batch = WriteBatch::new();
            for (key, value) in rows(task, index) {
                batch.put_bytes(key, value);
            }
            db.write(batch).await.unwrap().await_durable().await.unwrap();
        }
    })
    .await;
    let _ = tokio::time::timeout(Duration::from_secs(5), db.close()).await;
    result
}

/// A 400-byte write and fdatasync of a file that is already allocated: the floor of one durable commit.
fn disk(dir: &Path) -> (f64, Duration) {
    let file = tempfile::tempfile_in(dir).unwrap();
    file.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < ROUND {
        let one = Instant::now();
        file.write_all_at(&[7; 400], (took.len() as u64 * 400) % (15 << 20)).unwrap();
        file.sync_data().unwrap();
        took.push(one.elapsed());
    }
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    took.sort_unstable();
    (rate, took[took.len() / 2])
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let mut floor = Vec::new();
    let mut all: Vec<(String, Vec<(f64, Duration)>)> = Vec::new();
    for tasks in [1, 16, 64] {
        for name in ["commit", "commit + sync", "engine's own log, 1 ms, fsync"] {
            all.push((format!("{name}, {tasks} tasks"), Vec::new()));
        }
    }
    for _ in 0..ROUNDS {
        floor.push(disk(&dir));
        let mut row = all.iter_mut();
        for tasks in [1, 16, 64] {
            for kind in 0..3 {
                let Some((_, results)) = row.next() else { return };
                results.push(match kind {
                    0 => ours(&dir, tasks, false).await,
                    1 => ours(&dir, tasks, true).await,
                    _ => theirs(&dir, tasks).await,
                });
            }
        }
    }
    println!("create (three rows, 260 bytes): min / median / max of {ROUNDS} rounds of {ROUND:?}");
    print("disk: write 400 bytes + fdatasync, 1 thread", &mut floor);
    for (name, results) in &mut all {
        print(name, results);
    }
}
