//! Host and metadata are lost: what the store has besides brings a volume back, on any host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::{Backing, VolumeDir};
use mooring_store::error::StoreError;
use mooring_store::realm::Durability;
use mooring_store::volume::{CheckOptions, Config, LocalOptions, Progress, Rebuilt, StoreOptions, Volume};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use volumes::dump::{Known, content, dump};
use volumes::faulty::Faulty;
use volumes::{directory, keys, name, options, owner};

fn on(dir: &Path, backing: &Backing, host: &str) -> StoreOptions {
    let local = options(dir);
    let place = backing.volume(&"acme".parse().unwrap(), local.keys.volume());
    let local = LocalOptions { dir: VolumeDir::at(dir.join(host)), config: Config::default(), ..local };
    StoreOptions { place, local, class: Durability::Store, accept_loss: false, owner: host.to_owned() }
}

async fn open(dir: &Path, backing: &Backing, host: &str) -> Arc<Volume> {
    Volume::open_on(on(dir, backing, host)).await.unwrap()
}

async fn rebuild(dir: &Path, backing: &Backing, host: &str) -> Rebuilt {
    Volume::rebuild_on(on(dir, backing, host)).await.unwrap()
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

async fn make(volume: &Volume, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), Ino::ROOT, &name(called), 0o640, (7, 8), &node).await.unwrap().ino;
    volume.write(&owner(), made, WriteAt::End, data, None, false).await.unwrap();
    made
}

/// Files of every kind of size, a folder and a link.
async fn tree(volume: &Volume, round: u64) {
    for (index, len) in [0, 100, 5_000, 300_000, 2 << 20].into_iter().enumerate() {
        make(volume, &format!("f{round}-{index}"), noise(round * 100 + index as u64, len)).await;
    }
    let cx = owner();
    let called = name(&format!("dir{round}"));
    let dir = volume.create(&cx, Ino::ROOT, &called, 0o755, (1, 2), &NewNode::Dir).await.unwrap().ino;
    let target = NewNode::Symlink { target: b"x".to_vec() };
    volume.create(&cx, dir, &name("link"), 0o777, (0, 0), &target).await.unwrap();
    volume.unlink(&cx, Ino::ROOT, &name(&format!("f{round}-1"))).await.unwrap();
}

/// The volume's part of the store.
fn part(dir: &Path, below: &str) -> PathBuf {
    dir.join("store/tenants/acme").join(keys().volume().to_string()).join(below)
}

/// In one step, because whoever had the volume may still write there.
fn lose(dir: &Path, parts: &[&str]) {
    parts.iter().for_each(|below| std::fs::rename(part(dir, below), dir.join(below)).unwrap());
}

async fn shown(volume: &Volume) -> Vec<String> {
    dump(volume, &Known::new()).await
}

async fn sound(volume: &Volume) {
    let report = volume.check_with(&CheckOptions { data: true }, &Progress::default()).await.unwrap();
    assert_eq!(report.findings, []);
}

/// A change by who has lost the volume.
async fn late(volume: &Volume) -> Result<(), StoreError> {
    let node = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name("late"), 0o640, (7, 8), &node).await?;
    volume.sync().await
}

fn refusal(opened: Result<Arc<Volume>, StoreError>) -> String {
    match opened {
        Err(StoreError::Store(why)) => why.to_string(),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_checkpoint_and_log_nothing_is_missing_and_no_host_is_needed() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    tree(&volume, 1).await;
    volume.checkpoint().await.unwrap();
    assert_eq!(faulty.names(".checkpoint").await.len(), 1);
    tree(&volume, 2).await;
    volume.sync().await.unwrap();
    let wanted = shown(&volume).await;
    lose(dir.path(), &["meta"]);
    let report = rebuild(dir.path(), &backing, "b").await;
    assert!(report.checkpoint.is_some() && report.journal, "{report:?}");
    assert_eq!((report.findings, report.lost, report.found), (0, 0, 0), "{report:?}");
    // Who had it writes no more.
    assert!(matches!(late(&volume).await, Err(StoreError::Fenced)));
    drop(volume);
    let volume = open(dir.path(), &backing, "c").await;
    volume.purge_orphans().await.unwrap();
    assert_eq!(shown(&volume).await, wanted);
    sound(&volume).await;
    // And it is a volume like any other.
    tree(&volume, 9).await;
    volume.sync().await.unwrap();
    let wanted = shown(&volume).await;
    let volume = open(dir.path(), &backing, "d").await;
    assert_eq!(shown(&volume).await, wanted);
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_log_newer_bytes_go_to_their_files_and_new_files_are_found() {
    let dir = directory();
    let (_, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    tree(&volume, 1).await;
    let log = make(&volume, "log", noise(50, 262_144)).await;
    volume.checkpoint().await.unwrap();
    volume.close().await.unwrap();
    drop(volume);
    let volume = open(dir.path(), &backing, "a").await;
    volume.write(&owner(), log, WriteAt::End, noise(51, 131_072), None, false).await.unwrap();
    let fresh = make(&volume, "fresh", noise(53, 400_000)).await;
    volume.close().await.unwrap();
    drop(volume);
    lose(dir.path(), &["meta", "log"]);
    let report = rebuild(dir.path(), &backing, "b").await;
    assert!(!report.journal && (report.extended, report.found, report.findings) == (1, 1, 0), "{report:?}");
    let volume = open(dir.path(), &backing, "c").await;
    let found = volume.lookup(&owner(), Ino::ROOT, &name("log")).await.unwrap().ino;
    assert!(content(&*volume, found).await == [noise(50, 262_144), noise(51, 131_072)].concat());
    let beside = volume.resolve(b"lost+found").await.unwrap().ino;
    let found = volume.lookup(&owner(), beside, &name(&format!("map-{}", fresh.get()))).await.unwrap().ino;
    assert!(content(&*volume, found).await == noise(53, 400_000));
    sound(&volume).await;
    volume.close().await.unwrap();
}

/// The rebuild's process stops at any of its requests to the store; another host does it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_was_stopped_anywhere_begins_again_on_another_host() {
    let random = SeededRandom::new(11);
    for round in 0..STOPS {
        let dir = directory();
        let (faulty, backing) = Faulty::open(dir.path());
        let volume = open(dir.path(), &backing, "a").await;
        tree(&volume, 1).await;
        volume.checkpoint().await.unwrap();
        tree(&volume, 2).await;
        volume.sync().await.unwrap();
        let wanted = shown(&volume).await;
        lose(dir.path(), &["meta"]);
        let mut at = [0; 8];
        random.fill(&mut at);
        let stop = u64::from_le_bytes(at) % REQUESTS;
        faulty.last_request.store(stop, Ordering::Release);
        let options = on(dir.path(), &backing, "b");
        let rebuilding = tokio::spawn(async move { Volume::rebuild_on(options).await });
        let ended = async {
            while !faulty.silent.load(Ordering::Acquire) && !rebuilding.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it neither stops nor ends");
        let done = rebuilding.is_finished();
        rebuilding.abort();
        faulty.last_request.store(u64::MAX, Ordering::Release);
        println!("round {round}: stopped after {stop} requests, done: {done}");
        if !done {
            let marked = part(dir.path(), "rebuilding").exists();
            let refused = refusal(Volume::open_on(on(dir.path(), &backing, "c")).await);
            assert_eq!(marked, refused.contains("is being rebuilt"), "{refused}");
            let report = rebuild(dir.path(), &backing, "c").await;
            assert_eq!((report.findings, report.lost), (0, 0), "{report:?}");
        }
        let first = volume;
        let volume = open(dir.path(), &backing, "d").await;
        assert!(matches!(late(&first).await, Err(StoreError::Fenced)), "two write one volume");
        volume.purge_orphans().await.unwrap();
        assert_eq!(shown(&volume).await, wanted, "stopped after {stop} requests");
        sound(&volume).await;
        volume.close().await.unwrap();
    }
}

/// Stops that are tried, and about as many requests as a rebuild makes.
const STOPS: u64 = 8;
const REQUESTS: u64 = 70;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_checkpoints_go_and_a_damaged_one_is_passed_over() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    for round in 1..=3 {
        tree(&volume, round).await;
        volume.checkpoint().await.unwrap();
    }
    let mut kept = faulty.names(".checkpoint").await;
    kept.sort();
    assert_eq!(kept.len(), 2, "{kept:?}");
    volume.sync().await.unwrap();
    let wanted = shown(&volume).await;
    let newest = dir.path().join("store").join(kept.last().unwrap());
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    lose(dir.path(), &["meta"]);
    let report = rebuild(dir.path(), &backing, "b").await;
    assert!(report.unreadable.len() == 1 && report.journal, "{report:?}");
    let volume = open(dir.path(), &backing, "b").await;
    volume.purge_orphans().await.unwrap();
    assert_eq!(shown(&volume).await, wanted);
    volume.close().await.unwrap();
}
