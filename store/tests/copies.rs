//! Copies on the local disk of packs that an object store has: under one bound for all volumes, fetched when they are
//! read again and again, and never in the way of anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
mod volumes;

use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::{Backing, VolumeDir};
use mooring_store::memory::Memory;
use mooring_store::realm::Durability;
use mooring_store::seal::TenantKey;
use mooring_store::volume::{Config, LocalOptions, StoreOptions, Volume};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use volumes::faulty::Faulty;
use volumes::{directory, name, options, owner};

const MIB: usize = 1 << 20;

/// How long something may take that is to happen by itself.
const SOON: Duration = Duration::from_secs(30);

const DIR: &str = "MOORING_TEST_DIR";

/// A volume whose directory is `home`; next to nothing is kept in memory.
async fn open(home: &Path, backing: &Backing, number: u64, memory: &Arc<Memory>) -> Arc<Volume> {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(number));
    let place = backing.volume(&"acme".parse().unwrap(), keys.volume());
    let config = Config { pack_bytes: MIB as u32, ..Config::default() };
    let dir = VolumeDir::at(home);
    let local = LocalOptions { dir, keys, config, memory: memory.clone(), ..options(home) };
    let options =
        StoreOptions { place, local, class: Durability::Store, accept_loss: false, owner: "host".to_owned() };
    Volume::open_on(options).await.unwrap()
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

async fn write(volume: &Volume, called: &str, data: &Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &node).await.unwrap();
    for (n, part) in data.chunks(MIB).enumerate() {
        let at = WriteAt::Offset((n * MIB) as u64);
        volume.write(&owner(), made.ino, at, data.slice_ref(part), None, false).await.unwrap();
    }
    volume.fsync(&owner(), made.ino).await.unwrap();
    made.ino
}

async fn reads(volume: &Volume, file: Ino, data: &Bytes) {
    for (n, part) in data.chunks(MIB).enumerate() {
        let (read, _) = volume.read(&owner(), file, (n * MIB) as u64, part.len() as u32).await.unwrap();
        assert!(read.concat() == part, "MiB {n}");
    }
}

/// Files of packs in a volume's directory whose names end so, and their bytes.
fn packs(home: &Path, end: &str) -> (Vec<PathBuf>, u64) {
    let entries = std::fs::read_dir(home.join("packs")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let packs: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == end)).collect();
    // One may go meanwhile.
    let bytes = packs.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    (packs, bytes)
}

/// Waits until `what` holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < SOON, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_all_volumes_have_one_bound_and_all_is_read() {
    const BOUND: u64 = 5 << 20;
    let dir = directory();
    let (_faulty, backing) = Faulty::open(dir.path());
    let memory = Memory::with_disk(256 << 10, BOUND);
    let mut open_ones = Vec::new();
    for number in 1..=3 {
        let home = dir.path().join(format!("tenants/acme/{number}"));
        let volume = open(&home, &backing, number, &memory).await;
        let data = noise(number, 6 * MIB);
        let file = write(&volume, "file", &data).await;
        open_ones.push((home, volume, file, data));
    }
    let on_disk = |open_ones: &[(PathBuf, Arc<Volume>, Ino, Bytes)]| -> u64 {
        open_ones.iter().map(|(home, ..)| packs(home, "pack").1).sum()
    };
    // What is still on its way to the store is not counted, and not removed.
    until("a bound that holds", async || on_disk(&open_ones) <= BOUND).await;
    for _ in 0..3 {
        for (_, volume, file, data) in &open_ones {
            reads(volume, *file, data).await;
            assert!(memory.copies().bytes() <= BOUND);
        }
    }
    until("a bound that holds", async || on_disk(&open_ones) <= BOUND).await;
    assert!(memory.copies().bytes() > BOUND / 2, "hardly anything is kept");
    for (_, volume, ..) in &open_ones {
        volume.close().await.unwrap();
    }
    // Another life of the process: what is there counts before anything is opened, and the bound holds then too.
    let memory = Memory::with_disk(256 << 10, BOUND);
    memory.copies().survey(dir.path());
    assert_eq!(memory.copies().bytes(), on_disk(&open_ones));
    for (number, (home, _, file, data)) in (1..).zip(&open_ones) {
        let volume = open(home, &backing, number, &memory).await;
        reads(&volume, *file, data).await;
        volume.close().await.unwrap();
    }
    until("a bound that holds", async || on_disk(&open_ones) <= BOUND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_is_read_again_and_again_comes_back() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let memory = || Memory::with_disk(64 << 10, 64 << 20);
    let data = noise(1, 900 << 10);
    let first = open(&dir.path().join("a"), &backing, 1, &memory()).await;
    let file = write(&first, "file", &data).await;
    first.close().await.unwrap();
    until("packs in the store", async || faulty.bytes("/packs/").await > 900 << 10).await;
    // Another host has nothing of it, and reads a little here and there.
    let home = dir.path().join("b");
    let second = open(&home, &backing, 1, &memory()).await;
    assert_eq!(packs(&home, "pack").0.len(), 0);
    let place = |n: usize| n * 37 % 220 * 4096;
    let look = async |n: usize| {
        let (read, _) = second.read(&owner(), file, place(n) as u64, 4096).await.unwrap();
        assert!(read.concat() == data[place(n)..place(n) + 4096], "look {n}");
    };
    // What comes back wrong now and then is neither believed nor kept.
    faulty.wrong.store(1, Ordering::Release);
    let mut n = 0;
    until("a copy", async || {
        look(n).await;
        n += 1;
        packs(&home, "pack").0.len() == 1
    })
    .await;
    assert!(n >= 3, "the pack came for {n} reads");
    // From here on the store is not asked.
    faulty.out.store(true, Ordering::Release);
    for n in 0..220 {
        look(n).await;
    }
    faulty.out.store(false, Ordering::Release);
    second.close().await.unwrap();
}

/// A disk that turns bits costs nothing while the store has the same bytes: neither a copy that was kept, nor one that
/// was fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_damaged_is_given_up_and_the_store_is_asked() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let (home, memory) = (dir.path().join("home"), Memory::with_disk(64 << 10, 64 << 20));
    let volume = open(&home, &backing, 1, &memory).await;
    let data = noise(1, 3 * MIB);
    let file = write(&volume, "file", &data).await;
    until("packs in the store", async || faulty.bytes("/packs/").await > data.len() as u64).await;
    // Closed and opened: now the store has been asked what it has.
    volume.close().await.unwrap();
    let volume = open(&home, &backing, 1, &memory).await;
    let (copies, _) = packs(&home, "pack");
    assert!(!copies.is_empty(), "nothing is kept here");
    let damaged = copies.iter().map(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes.iter_mut().step_by(4096).for_each(|byte| *byte ^= 1);
        // In place: whoever has the file open reads it.
        let file = std::fs::File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        bytes
    });
    let damaged: Vec<Vec<u8>> = damaged.collect();
    let readers = (0..4).map(|_| reads(&volume, file, &data));
    futures::future::join_all(readers).await;
    for (path, damaged) in copies.iter().zip(&damaged) {
        // It is gone, or was fetched anew.
        assert!(std::fs::read(path).map_or(true, |now| now != *damaged), "a damaged copy is kept");
    }
    assert!(volume.damages().await.unwrap().is_empty(), "damage is told of that is none");
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn child_has_a_full_cache_disk() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let (home, memory) = (dir.join("small"), Memory::with_disk(64 << 10, 1 << 30));
    let (faulty, backing) = Faulty::open(&dir);
    let volume = open(&home, &backing, 1, &memory).await;
    // More than the disk holds: copies of what the store has give way to what it has not.
    let data: Vec<Bytes> = (0..24).map(|seed| noise(seed, 8 * MIB)).collect();
    let mut files = Vec::new();
    for (n, data) in data.iter().enumerate() {
        files.push(write(&volume, &format!("file-{n}"), data).await);
    }
    assert!(faulty.bytes("/packs/").await > 128 << 20, "the disk was not too small");
    // Now copies have no room at all, and reads go on.
    let ballast = home.join("ballast");
    while memory.copies().bytes() > 0 {
        let before = std::fs::metadata(&ballast).map_or(0, |data| data.len());
        let file = std::fs::File::options().append(true).create(true).open(&ballast).unwrap();
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), before, 8 << 20).is_err() {
            break;
        }
    }
    for (file, data) in files.iter().zip(&data) {
        reads(&volume, *file, data).await;
    }
    assert!(packs(&home, "fetch").0.is_empty());
    std::fs::remove_file(ballast).unwrap();
    volume.close().await.unwrap();
}

#[test]
fn a_full_cache_disk_stops_neither_reads_nor_writes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=256m,mode=0700 tmpfs \"$MOORING_TEST_DIR/small\" && exec \"$@\"";
    let status =
        common::child("child_has_a_full_cache_disk", Some(script)).env(DIR, dir.path()).status().unwrap();
    assert!(status.success(), "needs unshare(1) and the right to make a mount namespace: {status}");
}
