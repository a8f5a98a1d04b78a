//! What a volume leaves on the disk, read by code that shares nothing with the store's but the page it is written from:
//! `docs/disk-format.md`. A change here is a change of the format.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "layout/read.rs"]
mod read;
mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::VolumeDir;
use mooring_store::realm::Durability;
use mooring_store::volume::{LocalOptions, Progress, ScrubOptions, StoreOptions, Volume};
use read::*;
use std::path::Path;
use std::sync::Arc;
use volumes::faulty::Faulty;
use volumes::{directory, name, options, owner};

const VOLUME: u64 = 7;

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

fn text(len: usize) -> Bytes {
    (0..).flat_map(|n| format!("line {n}\n").into_bytes()).take(len).collect::<Vec<_>>().into()
}

async fn write(volume: &Volume, called: &str, data: Bytes) {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &node).await.unwrap();
    volume.write(&owner(), made.ino, WriteAt::Offset(0), data, None, false).await.unwrap();
    volume.fsync(&owner(), made.ino).await.unwrap();
}

fn contents() -> [Bytes; 4] {
    [noise(1, 20_000), text(20_000), noise(2, 100_000), text(100_000)]
}

async fn fill(volume: &Arc<Volume>) {
    for (number, data) in contents().into_iter().enumerate() {
        write(volume, &format!("laid-out-{number}"), data).await;
    }
    write(volume, "laid-out-small", Bytes::from_static(b"in a row")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_lies_on_the_disk_as_documented() {
    let dir = directory();
    let volume = Volume::open_local(options(dir.path())).await.unwrap();
    fill(&volume).await;
    volume.checkpoint().await.unwrap();
    volume.scrub(&ScrubOptions::default(), &Progress::default()).await.unwrap();
    let at = dir.path().join("volume");
    // Its records go to tables when the volume is closed.
    let journals = files(&at.join("journal"), "journal");
    let written: Vec<_> = journals.iter().filter(|(_, bytes)| bytes[..8] == *b"MOORJRNL").collect();
    assert!(!written.is_empty());
    let rows: Vec<Row> = written.iter().flat_map(|(name, bytes)| journal(name, bytes, VOLUME)).collect();
    for called in ["laid-out-0", "laid-out-small"] {
        let key = [b"d\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01".as_slice(), called.as_bytes()].concat();
        assert!(rows.iter().any(|row| row.0 == key), "no row of {called}");
    }
    assert!(rows.iter().any(|row| contains(&row.1, b"in a row")));
    let lock = std::fs::read_to_string(at.join("LOCK")).unwrap();
    assert_eq!(lock.trim(), std::process::id().to_string());
    let scrub = std::fs::read_to_string(at.join("scrub")).unwrap();
    let (head, json) = scrub.split_once('\n').unwrap();
    assert_eq!(head, format!("mooring scrub 1 {:08x}", crc32c::crc32c(json.trim_end().as_bytes())));
    volume.close().await.unwrap();
    drop(volume);

    let mut extents = Vec::new();
    for (name, bytes) in files(&at.join("packs"), "pack") {
        extents.extend(pack(&name, &bytes, VOLUME));
    }
    for data in contents() {
        assert!(extents.iter().any(|extent| *extent == data), "{} bytes are in no pack", data.len());
    }
    let checkpoints = files(&at.join("checkpoints"), "checkpoint");
    let [(_, whole)] = &checkpoints[..] else { panic!("{} checkpoints", checkpoints.len()) };
    let rows = checkpoint(whole, VOLUME);
    assert!(rows.iter().any(|row| row.0.starts_with(b"d") && row.0.ends_with(b"laid-out-3")));
    let manifests = files(&at.join("meta/db/manifest"), "manifest");
    assert!(!manifests.is_empty());
    for (name, bytes) in &manifests {
        assert!(!small_file(&format!("db/manifest/{name}.manifest"), bytes, VOLUME).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_on_a_store_is_as_documented() {
    let dir = directory();
    let (_, backing) = Faulty::open(dir.path());
    let local = options(dir.path());
    let place = backing.volume(&"acme".parse().unwrap(), local.keys.volume());
    let local = LocalOptions { dir: VolumeDir::at(dir.path().join("host")), ..local };
    let class = Durability::Store;
    let options = StoreOptions { place, local, class, accept_loss: false, owner: "one".to_owned() };
    let volume = Volume::open_on(options).await.unwrap();
    write(&volume, "laid-out", Bytes::from_static(b"in a record")).await;
    write(&volume, "piece", noise(3, 20_000)).await;
    let log = dir.path().join("store/tenants/acme").join(format!("{VOLUME:016x}")).join("log");
    let objects = numbered(&log);
    assert_eq!(objects[0].1[10], 2, "somebody opened it");
    let (mut records, mut pieces) = (Vec::new(), Vec::new());
    for (name, bytes) in &objects {
        let object = log_object(name, bytes, VOLUME);
        assert_eq!(object.owner, "one");
        records.extend(object.records);
        pieces.extend(object.pieces);
    }
    assert!(records.iter().flatten().any(|row: &Row| contains(&row.1, b"in a record")));
    assert!(
        pieces.iter().any(|piece| piece.len() > 20_000),
        "bytes that are in no pack of the store ride along"
    );
    volume.close().await.unwrap();
}

/// Files with this ending: the rest of their names, and their bytes.
fn files(dir: &Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            (stem, std::fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Files without an ending.
fn numbered(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    found.sort();
    found
}
