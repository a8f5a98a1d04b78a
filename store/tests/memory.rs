//! Volumes of one process share their caches: under one bound, and nothing of one is seen in another.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::memory::Memory;
use mooring_store::volume::{LocalOptions, Volume};
use std::sync::Arc;
use volumes::{directory, name, options, owner};

const BOUND: u64 = 8 << 20;
const VOLUMES: usize = 6;
const BYTES: usize = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn many_volumes_take_no_more_memory_than_one_and_see_nothing_of_each_other() {
    let (dir, memory, cx) = (directory(), Memory::new(BOUND), owner());
    let mut open: Vec<(Arc<Volume>, Ino, Bytes)> = Vec::new();
    for number in 0..VOLUMES {
        let home = dir.path().join(number.to_string());
        let options = LocalOptions { memory: memory.clone(), ..options(&home) };
        let volume = Volume::open_local(options).await.unwrap();
        let node = NewNode::File { open: None };
        let ino = volume.create(&cx, Ino::ROOT, &name("file"), 0o644, (0, 0), &node).await.unwrap().ino;
        let mut data = vec![0; BYTES];
        SeededRandom::new(number as u64).fill(&mut data);
        let data = Bytes::from(data);
        volume.write(&cx, ino, WriteAt::Offset(0), data.clone(), None, false).await.unwrap();
        volume.create(&cx, Ino::ROOT, &name(&format!("only-{number}")), 0o644, (0, 0), &node).await.unwrap();
        open.push((volume, ino, data));
    }
    for round in 0..3 {
        for (number, (volume, ino, data)) in open.iter().enumerate() {
            assert_eq!(*ino, open[0].1, "the test is about equal numbers in different volumes");
            let read = volume.read(&cx, *ino, 0, BYTES as u32).await.unwrap().0.concat();
            assert!(read == data[..], "round {round}: volume {number} has other bytes");
            for other in 0..VOLUMES {
                let found = volume.lookup(&cx, Ino::ROOT, &name(&format!("only-{other}"))).await.is_ok();
                assert_eq!(found, other == number, "round {round}: {other} in volume {number}");
            }
            let (extents, rows) = memory.used().await;
            assert!(extents + rows <= BOUND, "round {round}: {extents} and {rows} bytes");
        }
    }
    assert!(memory.used().await.0 > BOUND / 4, "nothing was cached");
    for (volume, ..) in open {
        volume.close().await.unwrap();
    }
}

/// What a little of each of many volumes comes to is bounded too: rows that are in memory and in no table yet.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_many_volumes_go_to_tables_before_they_fill_memory() {
    const FILES: usize = 400;
    let (dir, memory, cx) = (directory(), Memory::new(BOUND), owner());
    let bound = BOUND / 8;
    let mut open = Vec::new();
    for number in 0..VOLUMES {
        let home = dir.path().join(number.to_string());
        let options = LocalOptions { memory: memory.clone(), ..options(&home) };
        open.push((home, Volume::open_local(options).await.unwrap()));
    }
    let (mut before, mut fell, mut committed) = (0, false, 0);
    for file in 0..FILES {
        for (_, volume) in &open {
            let node = NewNode::Symlink { target: vec![b'x'; 1000] };
            let at = name(&format!("link-{file}"));
            volume.create(&cx, Ino::ROOT, &at, 0o777, (0, 0), &node).await.unwrap();
            committed += 1000;
            let now = memory.unwritten();
            fell |= now < before;
            assert!(now <= 5 * bound, "{now} bytes of rows in memory");
            before = now;
        }
    }
    assert!(committed > 2 * bound && fell, "the bound was never met: {committed} bytes of rows");
    // Nobody commits any more: what is left is half of the bound.
    let settled = async {
        while memory.unwritten() > bound {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(std::time::Duration::from_secs(30), settled).await;
    assert!(settled.is_ok(), "{} bytes of rows stay in memory", memory.unwritten());
    for (home, volume) in open {
        volume.close().await.unwrap();
        let volume = volumes::open(&home).await;
        for file in [0, FILES / 2, FILES - 1] {
            volume.lookup(&cx, Ino::ROOT, &name(&format!("link-{file}"))).await.unwrap();
        }
        volume.close().await.unwrap();
    }
    assert_eq!(memory.unwritten(), 0);
}
