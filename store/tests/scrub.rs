//! Scrubbing reads everything that files use, at a rate, goes on where it stopped, and tells what it found.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_policy::time::Timestamp;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::VolumeDir;
use mooring_store::error::StoreError;
use mooring_store::volume::{Progress, ScrubOptions, ScrubReport, ScrubState, Volume};
use std::path::{Path, PathBuf};
use std::time::Duration;
use volumes::{directory, name, open, owner};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

/// A closed volume with three sealed packs of one file each.
async fn three_packs(dir: &Path) {
    for number in 0..3 {
        let volume = open(dir).await;
        write(&volume, number, 200_000).await;
        volume.close().await.unwrap();
    }
}

async fn write(volume: &Volume, number: u64, len: usize) -> Ino {
    let node = NewNode::File { open: None };
    let called = name(&format!("f{number}"));
    let file = volume.create(&owner(), Ino::ROOT, &called, 0o644, (0, 0), &node).await.unwrap().ino;
    volume.write(&owner(), file, WriteAt::End, noise(number, len), None, false).await.unwrap();
    file
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("volume/packs")).unwrap();
    let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    packs
}

fn flip(pack: &Path, at: usize) {
    let mut bytes = std::fs::read(pack).unwrap();
    bytes[at] ^= 1;
    std::fs::write(pack, bytes).unwrap();
}

async fn scrub(volume: &Volume, rate: Option<u64>) -> ScrubReport {
    volume.scrub(&ScrubOptions { rate, anew: false }, &Progress::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_named_and_forgotten_when_nobody_uses_it() {
    let dir = directory();
    three_packs(dir.path()).await;
    let volume = open(dir.path()).await;
    assert_eq!(scrub(&volume, None).await.damaged, 0);
    volume.close().await.unwrap();
    flip(&packs(dir.path())[1], 100_000);
    let volume = open(dir.path()).await;
    let report = scrub(&volume, None).await;
    assert_eq!((report.packs, report.damaged), (3, 1));
    assert!(report.bytes > 600_000);
    let known = volume.damages().await.unwrap();
    assert_eq!(known.iter().map(|damage| &damage.paths[..]).collect::<Vec<_>>(), [["/f1"]]);
    // Reading says so as well, and does not count it twice.
    let file = volume.lookup(&owner(), Ino::ROOT, &name("f1")).await.unwrap().ino;
    let read = volume.read(&owner(), file, 0, 200_000).await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })));
    assert_eq!(volume.damage_counts(), (1, 1));
    // Mended on the disk, it is over when somebody reads it.
    flip(&packs(dir.path())[1], 100_000);
    assert_eq!(scrub(&volume, None).await.damaged, 0);
    assert_eq!(volume.damages().await.unwrap(), []);
    // Damaged again, it is over when nobody uses it.
    flip(&packs(dir.path())[1], 100_000);
    assert_eq!(scrub(&volume, None).await.damaged, 1);
    volume.unlink(&owner(), Ino::ROOT, &name("f1")).await.unwrap();
    assert_eq!(volume.damages().await.unwrap(), []);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_reverse_map_hides_nothing() {
    let dir = directory();
    three_packs(dir.path()).await;
    let pack = packs(dir.path()).remove(2);
    let end = std::fs::metadata(&pack).unwrap().len() as usize;
    flip(&pack, end - 40);
    flip(&pack, 100_000);
    let volume = open(dir.path()).await;
    let report = scrub(&volume, None).await;
    assert_eq!((report.packs, report.damaged), (3, 2), "the map, and an extent that it would have told of");
    let known = volume.damages().await.unwrap();
    assert!(known.iter().any(|damage| damage.paths == ["/f2"]), "{known:#?}");
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_was_stopped_goes_on_and_one_that_ended_waits_its_time() {
    let dir = directory();
    three_packs(dir.path()).await;
    let home = VolumeDir::at(dir.path().join("volume"));
    let now = Timestamp::from_millis(1 << 42);
    assert!(ScrubState::read(&home).is_due(now, 30 * DAY), "never scrubbed");
    let volume = open(dir.path()).await;
    // 200 KB at 1 MB/s: the first pack takes a fifth of a second, and is noted then.
    let noted = async {
        while ScrubState::read(&home).begun.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        report = scrub(&volume, Some(1_000_000)) => panic!("600 KB in no time: {report:?}"),
        () = noted => {}
    }
    let report = scrub(&volume, None).await;
    assert_eq!(report.packs, 2, "the first was read before");
    let state = ScrubState::read(&home);
    let ended = Timestamp::from_millis(state.completed.unwrap());
    assert!(state.begun.is_none() && !state.is_due(ended, 30 * DAY));
    assert!(state.is_due(Timestamp::from_millis(ended.as_millis() + 31 * 24 * 3_600_000), 30 * DAY));
    // A note that was damaged is none.
    flip(&dir.path().join("volume/scrub"), 30);
    assert!(ScrubState::read(&home).is_due(ended, 30 * DAY));
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_in_a_second_than_was_said() {
    let dir = directory();
    three_packs(dir.path()).await;
    let volume = open(dir.path()).await;
    let begun = tokio::time::Instant::now();
    let report = scrub(&volume, Some(2_000_000)).await;
    let least = Duration::from_secs_f64(report.bytes as f64 / 2_000_000.0 * 0.9);
    assert!(begun.elapsed() >= least, "{report:?} in {:?}", begun.elapsed());
    volume.close().await.unwrap();
}
