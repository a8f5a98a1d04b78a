//! kill -9 at random and at named moments: everything acknowledged is there, whole, and nothing torn shows.
//!
//! The child is this binary, started again. Its writers append an extent to a pack, commit two rows that name it in
//! one batch, and only then print an acknowledgement. The parent kills it, opens the volume, and compares.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_store::failpoints::{Point, Strike, arm};
use mooring_store::journal::{JournalOptions, JournalWriter, recover};
use mooring_store::meta::{Batch, Meta, after};
use mooring_store::pack::{Domain, ExtentIn, ExtentRef, PackStore};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DIR: &str = "MOORING_TEST_DIR";
const POINT: &str = "MOORING_TEST_POINT";
const WRITERS: u32 = 4;

fn data(writer: u32, index: u32) -> Bytes {
    let mut data = vec![0; 200 + (index as usize * 7919) % 20_000];
    SeededRandom::new(u64::from(writer) << 32 | u64::from(index)).fill(&mut data);
    data.into()
}

fn key(family: u8, writer: u32, index: u32) -> Vec<u8> {
    [&[family][..], &writer.to_be_bytes(), &index.to_be_bytes()].concat()
}

async fn write_one(meta: &dyn Meta, packs: &Arc<PackStore>, writer: u32, index: u32) {
    let data = data(writer, index);
    let (hash, owner) = (packs.hash(&data), (u64::from(writer), u64::from(index)));
    let extents = packs.append(vec![ExtentIn { domain: Domain(0), owner, data, hash }]).await.unwrap();
    let mut batch = Batch::new();
    batch.put(key(b'a', writer, index), extents[0].encode().to_vec()).put(key(b'b', writer, index), "pair");
    meta.commit(batch).await.unwrap();
    if index.is_multiple_of(7) {
        packs.sync().await.unwrap();
        meta.sync().await.unwrap();
    }
}

/// Where each writer goes on: behind its last row.
async fn next_indexes(meta: &dyn Meta) -> BTreeMap<u32, u32> {
    let mut next: BTreeMap<u32, u32> = (0..WRITERS).map(|writer| (writer, 0)).collect();
    for (writer, index) in rows(meta, b'a').await.keys() {
        next.insert(*writer, index + 1);
    }
    next
}

async fn rows(meta: &dyn Meta, family: u8) -> BTreeMap<(u32, u32), Bytes> {
    let (mut start, mut found) = (vec![family], BTreeMap::new());
    loop {
        let page = meta.scan(&start, &[family + 1], 1000).await.unwrap();
        let Some((last, _)) = page.last() else { return found };
        start = after(last);
        for (key, value) in page {
            let number = |at: usize| u32::from_be_bytes(key[at..at + 4].try_into().unwrap());
            found.insert((number(1), number(5)), value);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the tests below"]
async fn child_writes_until_killed() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    if let Ok(point) = std::env::var(POINT) {
        let (name, nth) = point.split_once(':').unwrap();
        arm(Point::parse(name).unwrap(), Strike::Kill, nth.parse().unwrap());
    }
    let meta = common::open(&dir).await.unwrap();
    let packs = common::open_packs(&dir, meta.epoch()).await;
    let writers = next_indexes(&*meta).await.into_iter().map(|(writer, first)| {
        let (meta, packs) = (Arc::clone(&meta), Arc::clone(&packs));
        tokio::spawn(async move {
            for index in first.. {
                write_one(&*meta, &packs, writer, index).await;
                // One write: a line is acknowledged or not.
                std::io::stdout().write_all(format!("ack {writer} {index}\n").as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

/// Starts the child, kills it `for_ms` after its first acknowledgement (or waits for it to strike itself), and returns
/// what it acknowledged.
fn run_child(dir: &Path, point: Option<&str>, for_ms: u64) -> (BTreeSet<(u32, u32)>, ExitStatus) {
    let mut command = common::child("child_writes_until_killed", None);
    command.env(DIR, dir).stdout(Stdio::piped());
    if let Some(point) = point {
        command.env(POINT, point);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acked = BTreeSet::new();
    let parse = |line: &str| -> Option<(u32, u32)> {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let (began, begins) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            acked.extend(parse(&line));
            if acked.len() == 1 {
                let _ = began.send(());
            }
        }
        acked
    });
    if point.is_none() {
        begins.recv_timeout(Duration::from_secs(60)).expect("the child writes");
    }
    let limit = if point.is_some() { Duration::from_secs(60) } else { Duration::from_millis(for_ms) };
    let begin = now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > limit {
            assert!(point.is_none(), "{point:?} was not reached");
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    (reader.join().unwrap(), status)
}

#[allow(clippy::disallowed_methods, reason = "measures how long opening takes")]
fn now() -> Instant {
    Instant::now()
}

/// Opens the volume and checks every promise. Returns how many rows there are and how long opening took.
async fn check(dir: &Path, acked: &BTreeSet<(u32, u32)>) -> (usize, Duration) {
    let begin = now();
    let meta = common::open(dir).await.unwrap();
    let packs = common::open_packs(dir, meta.epoch()).await;
    let took = begin.elapsed();
    let (named, pairs) = (rows(&*meta, b'a').await, rows(&*meta, b'b').await);
    assert!(named.keys().eq(pairs.keys()), "a batch took place in part");
    for ack in acked {
        assert!(named.contains_key(ack), "acknowledged and lost: {ack:?}");
    }
    let next = next_indexes(&*meta).await;
    assert_eq!(named.len() as u32, next.values().sum::<u32>(), "a writer's rows have a gap");
    for ((writer, index), row) in &named {
        let extent = ExtentRef::decode(row).unwrap();
        let read = packs.read(&extent, 0..extent.raw_len).await;
        assert_eq!(read.expect("a row names bytes that are not there"), data(*writer, *index));
    }
    // Closed without a word, as a second crash right after opening would.
    drop(meta);
    (named.len(), took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = BTreeSet::new();
    for round in 0..10 {
        let mut byte = [0; 2];
        SystemRandom.fill(&mut byte);
        let for_ms = 150 + u64::from(u16::from_be_bytes(byte)) % 500;
        let (new, status) = run_child(dir.path(), None, for_ms);
        assert_eq!(status.signal(), Some(9), "{status}");
        acked.extend(new);
        let (rows, took) = check(dir.path(), &acked).await;
        println!(
            "round {round}: killed after {for_ms} ms, {} acknowledged, {rows} there, open {took:?}",
            acked.len()
        );
    }
    assert!(acked.len() > 100, "the child hardly wrote: {}", acked.len());
}

/// Points that are passed while others write side by side. `points.rs` goes through all there are, one operation at a time.
const SIDE_BY_SIDE: [Point; 9] = [
    Point::JournalAfterWrite,
    Point::JournalMidWrite,
    Point::JournalRotateAfterHeader,
    Point::JournalBeforeSync,
    Point::JournalBetweenSyncs,
    Point::PackAfterWrite,
    Point::PackMidWrite,
    Point::PackAfterFooter,
    Point::PackMidRecover,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_others_write() {
    for point in SIDE_BY_SIDE {
        let dir = tempfile::tempdir().unwrap();
        // A first life, so that recovery has something to recover.
        let (mut acked, _) = run_child(dir.path(), None, 400);
        let nth = match point {
            Point::JournalBeforeWrite | Point::JournalAfterWrite | Point::JournalMidWrite => 40,
            Point::PackBeforeWrite | Point::PackAfterWrite | Point::PackMidWrite => 40,
            Point::JournalBeforeSync => 5,
            _ => 1,
        };
        let (new, status) = run_child(dir.path(), Some(&format!("{point:?}:{nth}")), 0);
        assert_eq!(status.signal(), Some(9), "{point:?}: {status}");
        acked.extend(new);
        let (rows, took) = check(dir.path(), &acked).await;
        println!("{point:?} ({}): {} acknowledged, {rows} there, open {took:?}", point.claim(), acked.len());
        // And life goes on.
        let (new, _) = run_child(dir.path(), None, 300);
        acked.extend(new);
        check(dir.path(), &acked).await;
    }
}

fn journal_options(dir: &Path) -> JournalOptions {
    JournalOptions {
        file_bytes: 8 << 10,
        ..JournalOptions::new(dir.to_path_buf(), common::keys(), common::random())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn child_collects_until_killed() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    arm(Point::JournalMidCollect, Strike::Kill, 3);
    let mut writer = JournalWriter::start(recover(journal_options(&dir), 0).unwrap(), 1);
    let journal = Arc::clone(writer.journal());
    for id in 1..=100_u64 {
        let _room = journal.reserve(500).await.unwrap();
        assert_eq!(writer.append(id, |out| out.resize(out.len() + 500, id as u8)).unwrap(), id);
    }
    journal.sync().await.unwrap();
    journal.collect(&[90..=u64::MAX]).unwrap();
}

#[test]
fn killed_while_old_journal_files_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let status = common::child("child_collects_until_killed", None).env(DIR, dir.path()).status().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    let mut replay = recover(journal_options(dir.path()), 89).unwrap().replay(89);
    for id in 90..=100_u64 {
        assert_eq!(replay.next_record().unwrap().unwrap(), (id, vec![id as u8; 500]));
    }
    assert!(replay.next_record().unwrap().is_none());
}
