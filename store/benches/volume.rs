//! A volume beside plain files on the same disk, in the same run. Prints ratios; nothing is asserted.
//!
//! `MOORING_BENCH_DIR` chooses the disk (default: the system's temporary directory).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench measures time"
)]

#[path = "../tests/volumes/mod.rs"]
mod volumes;

use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::volume::Volume;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use volumes::{name, open, owner};

const FILES: u64 = 5000;
const SMALL: usize = 4096;
const MIB: usize = 1 << 20;
const LARGE: usize = 512;

/// Bytes that do not compress and do not repeat, as a stream cipher makes them.
fn noise(len: usize, seed: u64) -> Bytes {
    let mut out = vec![0; len];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut out);
    Bytes::from(out)
}

fn report(what: &str, unit: &str, amount: f64, ours: f64, plain: f64) {
    let (ours, plain) = (amount / ours, amount / plain);
    println!(
        "{what:<28} {ours:>10.0} {unit:<6} plain files {plain:>10.0} {unit:<6} ratio {:>5.2}",
        ours / plain
    );
}

async fn timed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let begun = Instant::now();
    let done = work.await;
    (begun.elapsed().as_secs_f64(), done)
}

async fn creates(volume: &Arc<Volume>, dir: &Path, tasks: u64) {
    let node = NewNode::Dir;
    let parent = volume
        .create(&owner(), Ino::ROOT, &name(&format!("d{tasks}")), 0o755, (0, 0), &node)
        .await
        .unwrap()
        .ino;
    let (ours, ()) = timed(async {
        let each = |task: u64| {
            let volume = volume.clone();
            tokio::spawn(async move {
                let cx = owner();
                for number in 0..FILES / tasks {
                    let called = name(&format!("{task}-{number}"));
                    let file = NewNode::File { open: None };
                    let made = volume.create(&cx, parent, &called, 0o644, (0, 0), &file).await.unwrap();
                    let data = noise(SMALL, task * FILES + number);
                    volume.write(&cx, made.ino, WriteAt::Offset(0), data, None, false).await.unwrap();
                }
            })
        };
        for task in (0..tasks).map(each).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        volume.sync().await.unwrap();
    })
    .await;
    let plain = dir.join(format!("plain{tasks}"));
    std::fs::create_dir(&plain).unwrap();
    let (theirs, ()) = timed(async {
        for number in 0..FILES {
            File::create(plain.join(number.to_string())).unwrap().write_all(&noise(SMALL, number)).unwrap();
        }
        rustix::fs::syncfs(File::open(&plain).unwrap()).unwrap();
    })
    .await;
    report(&format!("create 4 KiB, {tasks} at once"), "/s", FILES as f64, ours, theirs);
}

async fn stream(volume: &Arc<Volume>, dir: &Path) {
    let cx = owner();
    let file = NewNode::File { open: None };
    let made = volume.create(&cx, Ino::ROOT, &name("large"), 0o644, (0, 0), &file).await.unwrap().ino;
    let chunks: Vec<Bytes> = (0..LARGE as u64).map(|n| noise(MIB, n)).collect();
    let (ours, ()) = timed(async {
        for (at, chunk) in chunks.iter().enumerate() {
            let at = WriteAt::Offset((at * MIB) as u64);
            volume.write(&cx, made, at, chunk.clone(), None, false).await.unwrap();
        }
        volume.sync().await.unwrap();
    })
    .await;
    let path = dir.join("large");
    let (theirs, ()) = timed(async {
        let mut file = File::create(&path).unwrap();
        chunks.iter().for_each(|chunk| file.write_all(chunk).unwrap());
        file.sync_all().unwrap();
    })
    .await;
    report("write 1 MiB in order", "MiB/s", LARGE as f64, ours, theirs);
    let (ours, ()) = timed(async {
        for at in 0..LARGE {
            let (parts, _) = volume.read(&cx, made, (at * MIB) as u64, MIB as u32).await.unwrap();
            assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), MIB);
        }
    })
    .await;
    let (theirs, ()) = timed(async {
        let (mut file, mut buffer) = (File::open(&path).unwrap(), vec![0; MIB]);
        (0..LARGE).for_each(|_| file.read_exact(&mut buffer).unwrap());
    })
    .await;
    report("read 1 MiB in order", "MiB/s", LARGE as f64, ours, theirs);
    small(volume, &path, made).await;
}

async fn small(volume: &Arc<Volume>, path: &Path, made: Ino) {
    let cx = owner();
    let places: Vec<u64> =
        (0..FILES).map(|n| n.wrapping_mul(2_654_435_761) % (LARGE * MIB / SMALL) as u64).collect();
    let data: Vec<Bytes> = places.iter().map(|&n| noise(SMALL, n + (1 << 40))).collect();
    let plain = File::options().read(true).write(true).open(path).unwrap();
    for sync in [false, true] {
        let count = if sync { 500 } else { places.len() };
        let (ours, ()) = timed(async {
            for (place, data) in places.iter().zip(&data).take(count) {
                let at = WriteAt::Offset(place * SMALL as u64);
                volume.write(&cx, made, at, data.clone(), None, false).await.unwrap();
                if sync {
                    volume.fsync(&cx, made).await.unwrap();
                }
            }
        })
        .await;
        let (theirs, ()) = timed(async {
            for (place, data) in places.iter().zip(&data).take(count) {
                plain.write_all_at(data, place * SMALL as u64).unwrap();
                if sync {
                    plain.sync_data().unwrap();
                }
            }
        })
        .await;
        let what = if sync { "write 4 KiB at random, fsync" } else { "write 4 KiB at random" };
        report(what, "/s", count as f64, ours, theirs);
    }
    let (ours, ()) = timed(async {
        for place in &places {
            volume.read(&cx, made, place * SMALL as u64, SMALL as u32).await.unwrap();
        }
    })
    .await;
    let (theirs, ()) = timed(async {
        let mut buffer = vec![0; SMALL];
        places.iter().for_each(|place| plain.read_exact_at(&mut buffer, place * SMALL as u64).unwrap());
    })
    .await;
    report("read 4 KiB at random", "/s", FILES as f64, ours, theirs);
    // A part that every cache holds: what a read costs beside fetching bytes.
    const WARM: u64 = 8 * (MIB / SMALL) as u64;
    const ROUNDS: u64 = 20;
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let (round, ()) = timed(async {
            for place in places.iter().cycle().take((FILES * ROUNDS) as usize) {
                volume.read(&cx, made, place % WARM * SMALL as u64, SMALL as u32).await.unwrap();
            }
        })
        .await;
        ours = ours.min(round);
        let (round, ()) = timed(async {
            let mut buffer = vec![0; SMALL];
            for place in places.iter().cycle().take((FILES * ROUNDS) as usize) {
                plain.read_exact_at(&mut buffer, place % WARM * SMALL as u64).unwrap();
            }
        })
        .await;
        theirs = theirs.min(round);
    }
    report("read 4 KiB of 8 MiB, warm", "/s", (FILES * ROUNDS) as f64, ours, theirs);
}

fn main() {
    let base = std::env::var_os("MOORING_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let volume = open(dir.path()).await;
        creates(&volume, dir.path(), 1).await;
        creates(&volume, dir.path(), 16).await;
        stream(&volume, dir.path()).await;
        volume.close().await.unwrap();
    });
}
