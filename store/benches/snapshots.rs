//! What a clone of a file, and a snapshot and a clone of a bucket cost, small and large. Prints a table; nothing is asserted.
//!
//! `cargo bench -p mooring-store --bench snapshots -- [GiB of the large file] [files of the large bucket]`, by default 100
//! and 100,000. The large file is written row by row: 128 KiB of it are one row and one reference, as if its bytes had
//! been written, but they repeat every 64 MiB. `MOORING_BENCH_DIR` chooses the disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench measures time"
)]

#[path = "../tests/volumes/mod.rs"]
mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Caller, Snapshots, Tree, WriteAt};
use mooring_store::keys::HeadId;
use mooring_store::volume::{Config, Quota, Volume};
use std::sync::Arc;
use std::time::Instant;
use volumes::{name, options, owner};

const MIB: u64 = 1 << 20;
/// The large file repeats after this many bytes.
const REPEAT: u64 = 64 * MIB;
/// How often each cost is measured.
const TIMES: usize = 5;

/// What it stores it may share, extent by extent: copies of its own are rows of their own.
fn grantee() -> Caller {
    Caller { confined: true, ..owner() }
}

async fn make(volume: &Volume, called: &str) -> Ino {
    let node = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &node).await.unwrap().ino
}

/// A file of so many bytes, each 128 KiB a row.
async fn file(volume: &Volume, called: &str, size: u64) -> Ino {
    let ino = make(volume, called).await;
    let random = SeededRandom::new(size);
    let mut at = 0;
    while at < size.min(REPEAT) {
        let mut bytes = vec![0; MIB.min(size - at) as usize / 8];
        for _ in 0..8 {
            random.fill(&mut bytes);
            let data = Bytes::copy_from_slice(&bytes);
            volume.write(&grantee(), ino, WriteAt::Offset(at), data, None, false).await.unwrap();
            at += bytes.len() as u64;
        }
    }
    while at < size {
        let step = at.min(size - at);
        at += volume.copy_range(&grantee(), (ino, 0), (ino, at), step).await.unwrap().0;
    }
    ino
}

fn show(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let (middle, worst) = (times[times.len() / 2] * 1e3, times[times.len() - 1] * 1e3);
    println!("{what:<44} {middle:>9.2} ms {worst:>9.2} ms");
}

async fn clones(volume: &Volume, what: &str, size: u64) {
    let ino = file(volume, what, size).await;
    volume.sync().await.unwrap();
    let mut times = Vec::new();
    for n in 0..TIMES {
        let clone = make(volume, &format!("{what} {n}")).await;
        let begun = Instant::now();
        volume.copy_range(&owner(), (ino, 0), (clone, 0), size).await.unwrap();
        volume.sync().await.unwrap();
        times.push(begun.elapsed().as_secs_f64());
    }
    show(&format!("clone of a file of {what}, durable"), times);
    volume.snapshot_create(&owner(), what).await.unwrap();
    let begun = Instant::now();
    let data = Bytes::from(vec![1; 4096]);
    volume.write(&owner(), ino, WriteAt::Offset(size / 2), data, None, false).await.unwrap();
    show(&format!("first write after a snapshot, {what}"), vec![begun.elapsed().as_secs_f64()]);
    let begun = Instant::now();
    volume.unlink(&owner(), Ino::ROOT, &name(what)).await.unwrap();
    show(&format!("unlink, {what}"), vec![begun.elapsed().as_secs_f64()]);
}

async fn snapshots(volume: &Volume, files: u64) {
    let mut times = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TIMES {
        let called = format!("of {files}, {n}");
        let begun = Instant::now();
        volume.snapshot_create(&owner(), &called).await.unwrap();
        times.0.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        volume.snapshot_restore(&owner(), &called).await.unwrap();
        times.1.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        volume.snapshot_remove(&owner(), &called).await.unwrap();
        times.2.push(begun.elapsed().as_secs_f64());
    }
    show(&format!("snapshot of {files} files"), times.0);
    show(&format!("restore of {files} files"), times.1);
    show(&format!("removal of a snapshot of {files} files"), times.2);
    heads(volume, files).await;
}

async fn heads(volume: &Volume, files: u64) {
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for n in 0..TIMES {
        let (head, mut begun) = (HeadId(files + n as u64), Instant::now());
        let mut took = |what: usize| {
            times[what].push(begun.elapsed().as_secs_f64());
            begun = Instant::now();
        };
        volume.clone_head(&owner(), None, head, Quota::default()).await.unwrap();
        took(0);
        let clone = volume.open_head(Config { head, ..Config::default() }).await.unwrap();
        took(1);
        let dir = clone.readdir(&owner(), Ino::ROOT, b"", 1, false).await.unwrap().0.remove(0);
        let node = NewNode::File { open: None };
        clone.create(&owner(), dir.ino, &name("new"), 0o644, (0, 0), &node).await.unwrap();
        took(2);
        clone.close().await.unwrap();
        took(3);
        volume.remove_head(head).await.unwrap();
        took(3);
    }
    let what = [
        "clone of a bucket of",
        "opening a clone of",
        "first listing and create in one of",
        "closing or removing one of",
    ];
    for (what, times) in what.into_iter().zip(times) {
        show(&format!("{what} {files} files"), times);
    }
}

async fn fill(volume: &Arc<Volume>, files: std::ops::Range<u64>) {
    const TASKS: u64 = 16;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (volume, files) = (volume.clone(), files.clone());
        tasks.push(tokio::spawn(async move {
            let called = format!("dir {task} from {}", files.start);
            let dir = volume.create(&owner(), Ino::ROOT, &name(&called), 0o755, (0, 0), &NewNode::Dir).await;
            let dir = dir.unwrap().ino;
            for n in files.filter(|n| n % TASKS == task) {
                let (called, node) = (name(&n.to_string()), NewNode::File { open: None });
                volume.create(&owner(), dir, &called, 0o644, (0, 0), &node).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Seconds that one look-up and one read of 4 KiB take, in a volume that was just opened.
async fn looks(home: &std::path::Path, files: u64) -> (f64, f64) {
    let volume = Volume::open_local(options(home)).await.unwrap();
    let dir = volume.lookup(&owner(), Ino::ROOT, &name("dir")).await.unwrap().ino;
    let begun = Instant::now();
    let mut inos = Vec::new();
    for n in 0..files {
        inos.push(volume.lookup(&owner(), dir, &name(&n.to_string())).await.unwrap().ino);
    }
    let looked = begun.elapsed().as_secs_f64() / files as f64;
    let begun = Instant::now();
    for ino in inos {
        volume.read(&owner(), ino, 0, 4096).await.unwrap();
    }
    let read = begun.elapsed().as_secs_f64() / files as f64;
    volume.close().await.unwrap();
    (looked, read)
}

/// What a hundred snapshots, with changes between them, make of a look-up.
async fn many(home: &std::path::Path) {
    const FILES: u64 = 5000;
    let volume = Volume::open_local(options(home)).await.unwrap();
    let cx = owner();
    let dir = volume.create(&cx, Ino::ROOT, &name("dir"), 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
    let node = NewNode::File { open: None };
    let mut inos = Vec::new();
    for n in 0..FILES {
        let ino = volume.create(&cx, dir, &name(&n.to_string()), 0o644, (0, 0), &node).await.unwrap().ino;
        volume.write(&cx, ino, WriteAt::End, Bytes::from(vec![n as u8; 8192]), None, false).await.unwrap();
        inos.push(ino);
    }
    volume.close().await.unwrap();
    let before = looks(home, FILES).await;
    let volume = Volume::open_local(options(home)).await.unwrap();
    for round in 0..100_u64 {
        for n in 0..10 {
            let ino = inos[((round * 10 + n) * 7 % FILES) as usize];
            let data = Bytes::from(vec![round as u8; 4096]);
            volume.write(&cx, ino, WriteAt::Offset(0), data, None, false).await.unwrap();
        }
        volume.snapshot_create(&cx, &format!("s{round}")).await.unwrap();
    }
    let begun = Instant::now();
    volume.settle_layers().await.unwrap();
    let settled = begun.elapsed().as_secs_f64() * 1e3;
    let deep = volume.layers_deep().await.unwrap();
    volume.close().await.unwrap();
    let after = looks(home, FILES).await;
    println!("after 100 snapshots: {deep} layers deep, settled within {settled:.0} ms");
    for (what, before, after) in [("look-up", before.0, after.0), ("read of 4 KiB", before.1, after.1)] {
        let ratio = after / before;
        println!("{what}: {:.1} us before, {:.1} us after, ratio {ratio:.2}", before * 1e6, after * 1e6);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let gib = numbers.first().copied().unwrap_or(100);
    let files = numbers.get(1).copied().unwrap_or(100_000);
    let base = std::env::var_os("MOORING_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let home = tempfile::tempdir_in(&base).unwrap();
    runtime.block_on(many(home.path()));
    let home = tempfile::tempdir_in(&base).unwrap();
    println!("{:<44} {:>12} {:>12}", "", "median", "worst");
    runtime.block_on(async {
        let volume = Volume::open_local(options(home.path())).await.unwrap();
        clones(&volume, "1 MiB", MIB).await;
        clones(&volume, &format!("{gib} GiB"), gib << 30).await;
        volume.close().await.unwrap();
    });
    let home = tempfile::tempdir_in(&base).unwrap();
    runtime.block_on(async {
        let volume = Volume::open_local(options(home.path())).await.unwrap();
        fill(&volume, 0..1000).await;
        snapshots(&volume, 1000).await;
        fill(&volume, 1000..files).await;
        snapshots(&volume, files).await;
        volume.close().await.unwrap();
    });
}
