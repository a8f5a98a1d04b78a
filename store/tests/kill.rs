//! The process is killed at any moment: everything acknowledged is there, nothing is torn.
//!
//! A child works on a volume and writes a line to its standard output after each operation that returned. It is killed
//! at a random moment; the volume is opened again within a second, the checker finds nothing, and the files are
//! what the lines say. The child is this test binary, told by an environment variable.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SystemRandom};
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Condition, ObjectMeta, Objects, Tree, WriteAt};
use mooring_store::error::StoreError;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use volumes::dump::content;
use volumes::{name, open, owner};

const CHILD: &str = "MOORING_KILL_CHILD";

/// Bytes that tell which operation wrote them: the number, repeated. Sizes go over all ways of storing.
fn bytes(number: u64) -> Bytes {
    let sizes = [10, 4096, 5000, 70_000, 300_000, 1_500_000];
    let size = sizes[number as usize % sizes.len()];
    Bytes::from(number.to_le_bytes().iter().copied().cycle().take(size).collect::<Vec<_>>())
}

fn said(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{what} {number}").unwrap();
    out.flush().unwrap();
}

/// Each operation has a file of its own, so that the lines alone say what must be there.
async fn work(dir: &Path, first: u64) {
    let volume = open(dir).await;
    let cx = owner();
    for number in first.. {
        let called = format!("f{number}");
        match number % 4 {
            0 => {
                let file = NewNode::File { open: None };
                let made = volume.create(&cx, Ino::ROOT, &name(&called), 0o644, (0, 0), &file).await.unwrap();
                volume.write(&cx, made.ino, WriteAt::End, bytes(number), None, false).await.unwrap();
                said("is", number);
            }
            1 => {
                let staged = volume.stage(&cx).await.unwrap();
                volume.stage_write(&cx, staged, bytes(number)).await.unwrap();
                let (meta, when) = (ObjectMeta::default(), Condition::default());
                volume.put(&cx, staged, called.as_bytes(), "e".into(), meta, &when).await.unwrap();
                said("is", number);
            }
            2 => {
                let file = NewNode::File { open: None };
                let made =
                    volume.create(&cx, Ino::ROOT, &name("moving"), 0o644, (0, 0), &file).await.unwrap();
                volume.write(&cx, made.ino, WriteAt::Offset(0), bytes(number), None, false).await.unwrap();
                let root = Ino::ROOT;
                volume
                    .rename(&cx, root, &name("moving"), root, &name(&called), RenameMode::Replace)
                    .await
                    .unwrap();
                said("is", number);
            }
            _ => {
                // What was said to be there a while ago goes again.
                let old = number.saturating_sub(7);
                said("goes", old);
                match volume.unlink(&cx, Ino::ROOT, &name(&format!("f{old}"))).await {
                    Ok(_) | Err(StoreError::NotFound) => said("gone", old),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// What the lines of a child say of each file: there, gone, or (killed in between) either.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    There,
    Either,
    Gone,
}

#[allow(clippy::disallowed_methods, reason = "measures how long opening takes")]
fn now() -> Instant {
    Instant::now()
}

/// Checks everything and returns how long opening took.
async fn verify(dir: &Path, told: &mut BTreeMap<u64, Told>) -> Duration {
    let begun = now();
    let volume = open(dir).await;
    let opened = begun.elapsed();
    volume.purge_orphans().await.unwrap();
    assert_eq!(volume.check().await.unwrap().findings, []);
    let cx = owner();
    for (&number, told) in told.iter_mut() {
        match (volume.lookup(&cx, Ino::ROOT, &name(&format!("f{number}"))).await, *told) {
            (Ok(attr), Told::There | Told::Either) => {
                assert!(content(&*volume, attr.ino).await == bytes(number), "file {number}");
                *told = Told::There;
            }
            (Err(StoreError::NotFound), Told::Gone | Told::Either) => *told = Told::Gone,
            (found, told) => panic!("file {number} was {told:?} and is {found:?}"),
        }
    }
    // What was under way: a whole object or none, and of a file a beginning of its bytes.
    if let Ok(attr) = volume.lookup(&cx, Ino::ROOT, &name("moving")).await {
        volume.unlink(&cx, Ino::ROOT, &name("moving")).await.unwrap();
        assert!(attr.size <= 1_500_000);
    }
    volume.close().await.unwrap();
    opened
}

fn random(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound
}

#[test]
fn a_killed_volume_keeps_what_it_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Ok(told) = std::env::var(CHILD) {
        let (dir, first) = told.split_once('\n').unwrap();
        return runtime.block_on(work(Path::new(dir), first.parse().unwrap()));
    }
    let kills = std::env::var("MOORING_KILLS").map_or(8, |text| text.parse().unwrap());
    let dir = volumes::directory();
    let mut told = BTreeMap::new();
    let mut opened = Vec::new();
    let mut first = 0;
    for _ in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "a_killed_volume_keeps_what_it_acknowledged"])
            .env(CHILD, format!("{}\n{first}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after so many lines, which is a random moment of the operation after the last.
        let mut left = 1 + random(60);
        for line in lines.by_ref() {
            first = note(&line.unwrap(), &mut told).map_or(first, |number| first.max(number + 8));
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
                break;
            }
        }
        // Lines that were on their way count: they were said before the end.
        for line in lines {
            first = note(&line.unwrap(), &mut told).map_or(first, |number| first.max(number + 8));
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "the child ended by itself");
        opened.push(runtime.block_on(verify(dir.path(), &mut told)));
    }
    opened.sort_unstable();
    eprintln!("opening after a kill: {opened:?}");
    // The median: one opening may meet a busy machine, half of them would be ours.
    assert!(opened.get(opened.len() / 2).is_none_or(|median| *median < Duration::from_secs(1)), "{opened:?}");
    assert!(told.values().any(|told| *told == Told::There) || kills == 0);
}

fn note(line: &str, told: &mut BTreeMap<u64, Told>) -> Option<u64> {
    let (what, number) = line.strip_prefix('@')?.split_once(' ')?;
    let number = number.parse().unwrap();
    let now = match what {
        "is" => Told::There,
        "goes" if told.get(&number) == Some(&Told::There) => Told::Either,
        "goes" => return None,
        _ => Told::Gone,
    };
    told.insert(number, now);
    (what == "is").then_some(number)
}
