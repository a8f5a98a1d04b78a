//! Killed again and again, a volume opens with no more work than the first time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use mooring_store::journal::RecoveryWork;
use mooring_store::meta::{Batch, Meta};

const LIVES: u32 = 20;
const COMMITS: u32 = 50;

fn key(life: u32, commit: u32) -> Vec<u8> {
    [&b"k"[..], &life.to_be_bytes(), &commit.to_be_bytes()].concat()
}

/// Each life opens what the one before left behind when it was killed, which is a copy of its directory while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_twenty_times_opening_does_no_more_work() {
    let dir = tempfile::tempdir().unwrap();
    let home = |life: u32| dir.path().join(life.to_string());
    std::fs::create_dir(home(0)).unwrap();
    let mut works: Vec<RecoveryWork> = Vec::new();
    for life in 0..LIVES {
        let meta = common::open(&home(life)).await.unwrap();
        works.push(meta.recovered());
        for commit in 0..COMMITS {
            let mut batch = Batch::new();
            batch.put(key(life, commit), vec![7; 400]);
            meta.commit(batch).await.unwrap();
        }
        let copied = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .args([home(life), home(life + 1)])
            .status();
        assert!(copied.unwrap().success());
        meta.close().await.unwrap();
        std::fs::remove_dir_all(home(life)).unwrap();
    }
    eprintln!("{works:#?}");
    let meta = common::open(&home(LIVES)).await.unwrap();
    for (life, commit) in (0..LIVES).flat_map(|life| (0..COMMITS).map(move |commit| (life, commit))) {
        assert!(meta.get(&key(life, commit)).await.unwrap().is_some(), "life {life}, commit {commit}");
    }
    meta.close().await.unwrap();
    for (life, work) in works.iter().enumerate() {
        // Five lives at most, and the file that the last of them had at its full size.
        assert!(work.files <= 7, "life {life}: {work:?}");
        assert!(work.records <= 5 * u64::from(COMMITS), "life {life}: {work:?}");
        assert!(work.read_bytes <= common::JOURNAL_FILE + 5 * 50_000, "life {life}: {work:?}");
    }
    assert!(works.iter().any(|work| work.read_files > 4), "the lives left too little to prove anything");
}

/// A host has thousands of buckets that nobody uses now: what was allocated ahead for their journals is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_volume_keeps_no_room_for_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    let room = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("volume/journal")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    for life in 0..3 {
        let meta = common::open(dir.path()).await.unwrap();
        let mut batch = Batch::new();
        batch.put(key(life, 0), vec![7; 400]);
        meta.commit(batch).await.unwrap();
        assert!(room() >= common::JOURNAL_FILE, "nothing is allocated ahead");
        meta.close().await.unwrap();
        assert!(room() < 10_000, "life {life}: {} bytes", room());
    }
    let meta = common::open(dir.path()).await.unwrap();
    for life in 0..3 {
        assert!(meta.get(&key(life, 0)).await.unwrap().is_some());
    }
    meta.close().await.unwrap();
}
