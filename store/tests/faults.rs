//! The disk fails for a while: clear errors, reads go on, and when it is well again so is the volume, by itself.
//!
//! Each kind of work on the disk fails in turn under one open volume, until it is told to be well again. Nobody reopens
//! anything. One test, because a process has one armed point.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::failpoints::{Point, Strike, arm_always, disarm};
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use volumes::dump::content;
use volumes::{directory, name, options, owner};

/// How soon everything works again after the fault.
const WITHIN: Duration = Duration::from_secs(5);

/// Small packs and journal files, so that a few writes come by everything. Few bytes are cached: reads are reads.
fn small(dir: &Path) -> LocalOptions {
    let config = Config { pack_bytes: 200 << 10, journal_file_bytes: 32 << 10, ..Config::default() };
    LocalOptions { config, ..options(dir) }
}

fn noise(number: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(number).fill(&mut bytes);
    bytes.into()
}

#[allow(clippy::disallowed_methods, reason = "measures how long recovery takes")]
fn now() -> Instant {
    Instant::now()
}

/// A volume and what it must hold.
struct Site {
    volume: Arc<Volume>,
    files: BTreeMap<String, Bytes>,
    number: u64,
}

impl Site {
    /// Makes a file, writes and syncs it. Whatever failed, the file may be there: it is forgotten.
    async fn write(&mut self) -> Result<(), StoreError> {
        self.number += 1;
        let called = format!("f{}", self.number);
        // Every second is small enough for a row, so that there is a commit without a pack.
        let bytes = noise(self.number, if self.number.is_multiple_of(2) { 3000 } else { 60_000 });
        write(&self.volume, &called, bytes.clone()).await?;
        self.files.insert(called, bytes);
        Ok(())
    }

    async fn read_all(&self) {
        for (called, bytes) in &self.files {
            let attr = self.volume.lookup(&owner(), Ino::ROOT, &name(called)).await.unwrap();
            assert!(content(&*self.volume, attr.ino).await == *bytes, "{called}");
        }
    }
}

async fn write(volume: &Volume, called: &str, bytes: Bytes) -> Result<(), StoreError> {
    let (cx, file) = (owner(), NewNode::File { open: None });
    let ino = volume.create(&cx, Ino::ROOT, &name(called), 0o644, (0, 0), &file).await?.ino;
    volume.write(&cx, ino, WriteAt::End, bytes, None, false).await?;
    volume.fsync(&cx, ino).await
}

/// What an operation says while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// An error of the disk.
    Io,
    /// That the disk is full.
    NoSpace,
    /// Nothing: it goes by without anybody noticing.
    Nothing,
}

const FAULTS: [(Point, Strike, Says); 18] = [
    (Point::JournalBeforeWrite, Strike::Broken, Says::Io),
    (Point::JournalMidWrite, Strike::Broken, Says::Io),
    (Point::JournalBeforeWrite, Strike::NoSpace, Says::Io),
    (Point::JournalBeforeWrite, Strike::Slow, Says::Nothing),
    (Point::JournalRotateBeforeHeader, Strike::Broken, Says::Io),
    (Point::JournalRotateAfterHeader, Strike::Broken, Says::Io),
    (Point::JournalSpareBeforeEntry, Strike::Broken, Says::Io),
    (Point::JournalSpareBeforeEntry, Strike::NoSpace, Says::NoSpace),
    (Point::JournalBeforeSync, Strike::Broken, Says::Io),
    (Point::JournalAfterSync, Strike::Broken, Says::Io),
    (Point::JournalBeforeSync, Strike::Slow, Says::Nothing),
    (Point::PackBeforeHead, Strike::Broken, Says::Io),
    (Point::PackBeforeWrite, Strike::Broken, Says::Io),
    (Point::PackMidWrite, Strike::NoSpace, Says::NoSpace),
    (Point::PackBeforeSync, Strike::Broken, Says::Io),
    (Point::PackBeforeSync, Strike::Slow, Says::Nothing),
    (Point::PackBeforeFooter, Strike::Broken, Says::Nothing),
    (Point::PackBeforeRename, Strike::Broken, Says::Nothing),
];

/// Writes until the fault is told, and returns how many writes had begun by then, and wait.
async fn until_told(site: &mut Site, says: Says, what: &str) -> usize {
    let mut waiting = 0;
    for round in 0..40 {
        site.number += 1;
        let (volume, number) = (site.volume.clone(), site.number);
        let called = format!("w{number}");
        let writing = tokio::spawn(async move {
            write(&volume, &called, noise(number, if number % 2 == 0 { 3000 } else { 60_000 })).await
        });
        match tokio::time::timeout(Duration::from_millis(400), writing).await {
            Ok(done) => match (done.unwrap(), says) {
                (Ok(()), Says::Nothing) if round == 12 => return waiting,
                (Ok(()), _) => {}
                (Err(StoreError::NoSpace(_)), Says::NoSpace) => return waiting,
                (Err(error), Says::Io) if error.status() == Status::Io => return waiting,
                (Err(error), _) => panic!("{what}: {error:?}"),
            },
            // It had begun when the disk failed, and goes on when that is over. The next is refused.
            Err(_) => waiting += 1,
        }
    }
    panic!("{what}: nothing was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_for_a_while_is_told_and_waited_for() {
    let dir = directory();
    let volume = Volume::open_local(small(dir.path())).await.unwrap();
    let mut site = Site { volume, files: BTreeMap::new(), number: 0 };
    for _ in 0..6 {
        site.write().await.unwrap();
    }
    for (point, strike, says) in FAULTS {
        let what = format!("{point:?} {strike:?}");
        arm_always(point, strike);
        let told = until_told(&mut site, says, &what).await;
        tokio::time::timeout(WITHIN, site.read_all()).await.unwrap_or_else(|_| panic!("{what}: reads wait"));
        disarm();
        let well = now();
        loop {
            match tokio::time::timeout(WITHIN, site.write()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) if well.elapsed() < WITHIN => tokio::task::yield_now().await,
                end => panic!("{what}: {end:?} after {:?}", well.elapsed()),
            }
        }
        println!("{what}: {says:?}, {told} waited, works again after {:?}", well.elapsed());
        site.read_all().await;
        assert_eq!(site.volume.check().await.unwrap().findings, [], "{what}");
    }
    reads_that_fail_harm_nothing_else(&site).await;
    the_collector_finishes_what_could_not_be(&mut site).await;
    site.volume.close().await.unwrap();
    let Site { files, number, .. } = site;
    let site = Site { volume: Volume::open_local(small(dir.path())).await.unwrap(), files, number };
    site.read_all().await;
    assert_eq!(site.volume.check().await.unwrap().findings, []);
    site.volume.close().await.unwrap();
}

async fn reads_that_fail_harm_nothing_else(site: &Site) {
    // Not read before, so it is in no cache of ours.
    write(&site.volume, "unread", noise(1, 50_000)).await.unwrap();
    arm_always(Point::PackBeforeRead, Strike::Broken);
    let attr = site.volume.lookup(&owner(), Ino::ROOT, &name("unread")).await.unwrap();
    let failed = site.volume.read(&owner(), attr.ino, 0, 50_000).await.unwrap_err();
    assert_eq!(failed.status(), Status::Io, "{failed:?}");
    write(&site.volume, "beside", noise(2, 50_000)).await.unwrap();
    disarm();
    assert!(content(&*site.volume, attr.ino).await == noise(1, 50_000));
}

/// A pack that could not be completed when it was full is completed once its garbage is looked for.
async fn the_collector_finishes_what_could_not_be(site: &mut Site) {
    let (cx, before) = (owner(), site.number);
    arm_always(Point::PackBeforeRename, Strike::Broken);
    for _ in 0..12 {
        site.write().await.unwrap();
    }
    disarm();
    for number in before + 1..site.number {
        let called = format!("f{number}");
        site.volume.unlink(&cx, Ino::ROOT, &name(&called)).await.unwrap();
        site.files.remove(&called);
    }
    let volume = site.volume.clone();
    let collecting = tokio::spawn(async move { volume.collect_garbage().await });
    let done = tokio::time::timeout(WITHIN, collecting).await.expect("collecting garbage ends").unwrap();
    assert!(done.unwrap().freed_packs > 0);
    site.read_all().await;
}
