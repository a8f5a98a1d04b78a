//! Volumes in an object store: what is there when the host is not, who may write, and what a store that fails does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::{Backing, VolumeDir};
use mooring_store::error::StoreError;
use mooring_store::realm::{Durability, Realm, RealmOptions};
use mooring_store::volume::{Config, LocalOptions, StoreOptions, Volume};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use volumes::faulty::Faulty;
use volumes::{directory, name, options, owner};

/// How long something may take that is to happen by itself.
const SOON: Duration = Duration::from_secs(20);

/// How a volume is opened on host `host`: each has a directory of its own.
fn on(dir: &Path, backing: &Backing, host: &str, class: Durability) -> StoreOptions {
    let local = options(dir);
    let place = backing.volume(&"acme".parse().unwrap(), local.keys.volume());
    let local = LocalOptions { dir: VolumeDir::at(dir.join(host)), config: Config::default(), ..local };
    StoreOptions { place, local, class, accept_loss: false, owner: host.to_owned() }
}

async fn open(dir: &Path, backing: &Backing, host: &str) -> Arc<Volume> {
    Volume::open_on(on(dir, backing, host, Durability::Store)).await.unwrap()
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

async fn write(volume: &Volume, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &node).await.unwrap();
    volume.write(&owner(), made.ino, WriteAt::Offset(0), data, None, false).await.unwrap();
    made.ino
}

async fn read(volume: &Volume, called: &str) -> Result<Bytes, StoreError> {
    let found = volume.lookup(&owner(), Ino::ROOT, &name(called)).await?;
    let mut all = Vec::new();
    while (all.len() as u64) < found.size {
        let (parts, _) = volume.read(&owner(), found.ino, all.len() as u64, 1 << 20).await?;
        parts.iter().for_each(|part| all.extend_from_slice(part));
    }
    Ok(all.into())
}

/// What the disk holds now, as after SIGKILL, under another name.
fn copy(dir: &Path, from: &str, to: &str) {
    let copied = std::process::Command::new("cp").arg("-a").arg(dir.join(from)).arg(dir.join(to)).status();
    assert!(copied.unwrap().success());
}

/// Waits until `what` holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < SOON, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Gateways open volumes and registries from tasks that move between threads.
#[test]
fn opening_may_move_between_threads() {
    fn movable<T: Send>(_: T) {}
    let _volume = |options: StoreOptions| movable(Volume::open_on(options));
    let _realm = |options: RealmOptions, store: &Backing| movable(Realm::open_on(options, store, "host"));
    let _remove = |store: &Backing| movable(async { store.realm().remove().await });
}

const SIZES: [usize; 5] = [100, 5_000, 200_000, 3 << 20, 40 << 20];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_synced_is_in_the_store_and_another_host_reads_it() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let first = open(dir.path(), &backing, "a").await;
    for (seed, len) in SIZES.into_iter().enumerate() {
        let ino = write(&first, &format!("file-{len}"), noise(seed as u64, len)).await;
        first.fsync(&owner(), ino).await.unwrap();
    }
    let marks = first.watermarks();
    assert_eq!(marks.stored, marks.received);
    // One object for a small file's sync: bytes and records together.
    let before = faulty.puts.load(Ordering::Acquire);
    let ino = write(&first, "one-put", noise(9, 60_000)).await;
    first.fsync(&owner(), ino).await.unwrap();
    assert_eq!(faulty.puts.load(Ordering::Acquire) - before, 1);
    // The first host is never heard of again.
    let second = open(dir.path(), &backing, "b").await;
    for (seed, len) in SIZES.into_iter().enumerate() {
        assert!(read(&second, &format!("file-{len}")).await.unwrap() == noise(seed as u64, len), "{len}");
    }
    assert!(read(&second, "one-put").await.unwrap() == noise(9, 60_000));
    let report = second.check().await.unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    second.close().await.unwrap();
    let third = open(dir.path(), &backing, "c").await;
    assert!(read(&third, "one-put").await.unwrap() == noise(9, 60_000));
    third.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_comes_back_with_what_the_store_never_got() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let first = open(dir.path(), &backing, "a").await;
    let ino = write(&first, "synced", noise(1, 300_000)).await;
    first.fsync(&owner(), ino).await.unwrap();
    faulty.out.store(true, Ordering::Release);
    write(&first, "small", noise(2, 50)).await;
    write(&first, "large", noise(3, 5 << 20)).await;
    // As the disk is when the process gets SIGKILL now.
    copy(dir.path(), "a", "b");
    drop(first);
    faulty.out.store(false, Ordering::Release);
    let second = open(dir.path(), &backing, "b").await;
    assert!(read(&second, "synced").await.unwrap() == noise(1, 300_000));
    assert!(read(&second, "small").await.unwrap() == noise(2, 50));
    assert!(read(&second, "large").await.unwrap() == noise(3, 5 << 20));
    second.sync().await.unwrap();
    // And from there into the store.
    let third = open(dir.path(), &backing, "c").await;
    assert!(read(&third, "large").await.unwrap() == noise(3, 5 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_lost_the_volume_neither_writes_nor_reads_it() {
    let dir = directory();
    let (_, backing) = Faulty::open(dir.path());
    let first = open(dir.path(), &backing, "a").await;
    let ino = write(&first, "before", noise(1, 9_000)).await;
    first.fsync(&owner(), ino).await.unwrap();
    let second = open(dir.path(), &backing, "b").await;
    write(&first, "late", noise(2, 9_000)).await;
    let refused = first.sync().await.unwrap_err();
    assert!(matches!(refused, StoreError::Fenced), "{refused:?}");
    until("the end of reads", async || read(&first, "before").await.is_err()).await;
    assert!(read(&second, "before").await.unwrap() == noise(1, 9_000));
    assert!(matches!(read(&second, "late").await, Err(StoreError::NotFound)));
    write(&second, "after", noise(3, 9_000)).await;
    second.sync().await.unwrap();
    // The first host comes back: what it could not get into the store is gone, what the second wrote is there.
    drop(first);
    second.close().await.unwrap();
    let again = async || Volume::open_on(on(dir.path(), &backing, "a", Durability::Store)).await;
    let mut back = None;
    until("the first host's lock", async || {
        back = again().await.ok();
        back.is_some()
    })
    .await;
    let back = back.unwrap();
    assert!(read(&back, "after").await.unwrap() == noise(3, 9_000));
    assert!(matches!(read(&back, "late").await, Err(StoreError::NotFound)));
    back.close().await.unwrap();
}

/// A host is suspended, and wakes when those who followed it have long cleared the log away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_volume_long_ago_writes_no_more() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let first = open(dir.path(), &backing, "a").await;
    let ino = write(&first, "before", noise(1, 9_000)).await;
    first.fsync(&owner(), ino).await.unwrap();
    let before = faulty.names("/log/").await;
    let cleared = async || {
        let names = faulty.names("/log/").await;
        !before.iter().any(|name| names.contains(name))
    };
    for round in 0..20 {
        let second = open(dir.path(), &backing, "b").await;
        write(&second, &format!("after-{round}"), noise(3, 9_000)).await;
        second.close().await.unwrap();
        drop(second);
        if round > 3 && cleared().await {
            break;
        }
    }
    assert!(cleared().await, "the log was not cleared: {:?}", faulty.names("/log/").await);
    write(&first, "late", noise(2, 9_000)).await;
    let refused = first.sync().await.unwrap_err();
    assert!(matches!(refused, StoreError::Fenced), "{refused:?}");
    let third = open(dir.path(), &backing, "c").await;
    assert!(matches!(read(&third, "late").await, Err(StoreError::NotFound)));
    for (called, noise) in [("before", noise(1, 9_000)), ("after-0", noise(3, 9_000))] {
        assert!(read(&third, called).await.unwrap() == noise);
    }
    third.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_host_needs_no_store_to_acknowledge_and_leave_to_be_lost() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let first = Volume::open_on(on(dir.path(), &backing, "a", Durability::Host)).await.unwrap();
    write(&first, "stored", noise(1, 200_000)).await;
    until("the store's mark", async || {
        first.sync().await.unwrap();
        let marks = first.watermarks();
        marks.stored == marks.received
    })
    .await;
    faulty.out.store(true, Ordering::Release);
    write(&first, "kept here", noise(2, 200_000)).await;
    tokio::time::timeout(SOON, first.sync()).await.unwrap().unwrap();
    let marks = first.watermarks();
    assert!(marks.stored < marks.received, "{marks:?}: the difference is what the loss of this host costs");
    copy(dir.path(), "a", "back");
    drop(first);
    faulty.out.store(false, Ordering::Release);
    // Another host may not take it, and is told whose it is; with leave it may, and has what the store has.
    let other = on(dir.path(), &backing, "b", Durability::Host);
    let StoreError::Store(refused) = Volume::open_on(other.clone()).await.unwrap_err() else { panic!() };
    let refused = refused.to_string();
    assert!(refused.contains("and a wrote it last") && refused.contains("--accept-loss"), "{refused}");
    let taken = Volume::open_on(StoreOptions { accept_loss: true, ..other }).await.unwrap();
    assert!(read(&taken, "stored").await.unwrap() == noise(1, 200_000));
    assert!(matches!(read(&taken, "kept here").await, Err(StoreError::NotFound)));
    taken.close().await.unwrap();
    // The first host, back again, goes on from there, and keeps aside what it had.
    let back = Volume::open_on(on(dir.path(), &backing, "back", Durability::Host)).await.unwrap();
    assert!(matches!(read(&back, "kept here").await, Err(StoreError::NotFound)));
    let aside = std::fs::read_dir(dir.path().join("back")).unwrap();
    let aside =
        aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("lost-"));
    assert_eq!(aside.count(), 2, "journal and packs");
    back.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_delays_syncs_and_nothing_else() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    let ino = write(&volume, "known", noise(1, 100_000)).await;
    volume.fsync(&owner(), ino).await.unwrap();
    faulty.out.store(true, Ordering::Release);
    assert!(read(&volume, "known").await.unwrap() == noise(1, 100_000), "reads go on");
    write(&volume, "new", noise(2, 2 << 20)).await;
    assert!(read(&volume, "new").await.unwrap() == noise(2, 2 << 20));
    let waiting = tokio::spawn({
        let volume = volume.clone();
        async move { volume.sync().await }
    });
    let second = tokio::time::timeout(Duration::from_millis(1500), volume.sync()).await;
    assert!(second.is_err(), "a sync that is given up leaves nothing behind");
    assert!(backing.failing() > 0);
    faulty.out.store(false, Ordering::Release);
    let back = Instant::now();
    waiting.await.unwrap().unwrap();
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(backing.failing(), 0);
    let marks = volume.watermarks();
    assert_eq!(marks.stored, marks.received);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_and_wrong_bytes_are_found_out() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    for round in 0..5 {
        faulty.lose_answers.store(true, Ordering::Release);
        write(&volume, &format!("file-{round}"), noise(round, 10_000)).await;
        volume.sync().await.unwrap();
    }
    write(&volume, "large", noise(77, 3 << 20)).await;
    volume.sync().await.unwrap();
    volume.close().await.unwrap();
    let other = open(dir.path(), &backing, "b").await;
    faulty.wrong.store(2, Ordering::Release);
    assert!(read(&other, "large").await.unwrap() == noise(77, 3 << 20), "read again");
    for round in 0..5 {
        assert!(read(&other, &format!("file-{round}")).await.unwrap() == noise(round, 10_000));
    }
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_lost_its_journal_gets_it_from_the_store() {
    let dir = directory();
    let (_, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    write(&volume, "file", noise(1, 30_000)).await;
    volume.sync().await.unwrap();
    drop(volume);
    copy(dir.path(), "a", "b");
    for part in ["journal", "packs"] {
        for entry in std::fs::read_dir(dir.path().join("b").join(part)).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let again = open(dir.path(), &backing, "b").await;
    assert!(read(&again, "file").await.unwrap() == noise(1, 30_000));
    again.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_does_not_grow_for_ever() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    for round in 0..300 {
        write(&volume, &format!("file-{round}"), noise(round, 20_000)).await;
        volume.sync().await.unwrap();
    }
    let tables = async || faulty.names("/compacted/").await.len();
    until("a table made because the log is long", async || tables().await > 0).await;
    assert!(faulty.names("/log/").await.len() > 300);
    volume.close().await.unwrap();
    let again = open(dir.path(), &backing, "b").await;
    until("the end of old objects", async || faulty.names("/log/").await.len() < 10).await;
    let last = open(dir.path(), &backing, "c").await;
    for round in 0..300 {
        assert!(read(&last, &format!("file-{round}")).await.unwrap() == noise(round, 20_000), "{round}");
    }
    drop(again);
    last.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_gives_its_room_in_the_store_back() {
    const LENGTH: usize = 3 << 20;
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    for number in 0..12 {
        write(&volume, &number.to_string(), noise(number, LENGTH)).await;
        volume.sync().await.unwrap();
    }
    for number in 2..12 {
        volume.unlink(&owner(), Ino::ROOT, &name(&number.to_string())).await.unwrap();
    }
    // By itself: nobody asks, and nobody writes any more.
    let bound = (2 * LENGTH) as u64 * 13 / 10 + (64 << 10);
    until("room in the store", async || faulty.bytes("/packs/").await <= bound).await;
    let again = open(dir.path(), &backing, "b").await;
    for number in 0..2 {
        assert!(read(&again, &number.to_string()).await.unwrap() == noise(number, LENGTH));
    }
    assert!(again.check().await.unwrap().findings.is_empty());
    again.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_vanished_is_not_begun_anew() {
    let dir = directory();
    let (_, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    write(&volume, "file", noise(1, 300)).await;
    volume.close().await.unwrap();
    drop(volume);
    backing.volume(&"acme".parse().unwrap(), volumes::keys().volume()).remove().await.unwrap();
    let mut refused = String::new();
    until("the lock", async || {
        let Err(StoreError::Store(error)) =
            Volume::open_on(on(dir.path(), &backing, "a", Durability::Store)).await
        else {
            panic!("a volume that is gone must not be opened empty");
        };
        refused = error.to_string();
        !refused.contains("in use")
    })
    .await;
    assert!(refused.contains("check the store's url"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_whose_tables_are_gone_from_the_store_is_refused_and_keeps_its_packs() {
    let dir = directory();
    let (faulty, backing) = Faulty::open(dir.path());
    let volume = open(dir.path(), &backing, "a").await;
    write(&volume, "large", noise(1, 5 << 20)).await;
    volume.sync().await.unwrap();
    volume.close().await.unwrap();
    let packs = faulty.names("/packs/").await;
    assert!(!packs.is_empty());
    let meta = dir.path().join("store/tenants/acme").join(volumes::keys().volume().to_string()).join("meta");
    let aside = dir.path().join("aside");
    std::fs::rename(&meta, &aside).unwrap();
    for host in ["a", "b"] {
        let refused = Volume::open_on(on(dir.path(), &backing, host, Durability::Store)).await.unwrap_err();
        let StoreError::Store(why) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains("is gone from the store"), "{why}");
    }
    assert_eq!(faulty.names("/packs/").await, packs);
    // Brought back, it is as it was.
    let _ = std::fs::remove_dir_all(&meta);
    std::fs::rename(&aside, &meta).unwrap();
    let volume = open(dir.path(), &backing, "c").await;
    assert!(read(&volume, "large").await.unwrap() == noise(1, 5 << 20));
    volume.close().await.unwrap();
}
