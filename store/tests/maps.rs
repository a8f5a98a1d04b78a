//! Cached map rows: a warm read asks the metadata engine nothing, and sees every change.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Allocate, Ino, NewNode, SetAttr};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::meta::MemoryMeta;
use mooring_store::volume::{Config, Volume};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use volumes::counting::{Counting, volume};
use volumes::{directory, name, owner};

async fn make(volume: &Volume) -> Ino {
    let node = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name("file"), 0o644, (0, 0), &node).await.unwrap().ino
}

fn noise(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    Bytes::from(bytes)
}

#[tokio::test]
async fn a_warm_read_asks_the_engine_nothing() {
    let dir = directory();
    let meta = Arc::new(Counting::default());
    let volume = volume(dir.path(), meta.clone(), 512 << 20, Config::default()).await;
    let (cx, ino) = (owner(), make(&volume).await);
    let data = noise(3 << 20, 1);
    volume.write(&cx, ino, WriteAt::Offset(0), data.clone(), None, false).await.unwrap();
    let mut expected = data.to_vec();
    for round in 0..3_u64 {
        // Overwrites are seen, and leave the rows in memory.
        for at in [5 << 10, (1 << 20) - 2048, 2 << 20] {
            let patch = noise(5000, round + 10);
            expected[at..at + patch.len()].copy_from_slice(&patch);
            volume.write(&cx, ino, WriteAt::Offset(at as u64), patch, None, false).await.unwrap();
        }
        volume.read(&cx, ino, 0, 3 << 20).await.unwrap();
        let before = meta.asked.load(Ordering::SeqCst);
        for at in (0..expected.len()).step_by(4096) {
            let read = volume.read(&cx, ino, at as u64, 4096).await.unwrap().0.concat();
            assert!(read == expected[at..at + 4096], "round {round}, at {at}");
        }
        assert_eq!(meta.asked.load(Ordering::SeqCst), before, "round {round}");
    }
    volume.close().await.unwrap();
}

/// Random changes to one file, whose map is spread over many windows that come and go, against plain bytes.
#[tokio::test]
async fn cached_rows_are_what_was_last_committed() {
    const SIZE: u64 = 400_000;
    for seed in 0..4 {
        let dir = directory();
        let small = Config { window_bytes: 16 << 10, extent_bytes: 8 << 10, ..Config::default() };
        let volume = volume(dir.path(), Arc::new(MemoryMeta::new()), 512 << 10, small).await;
        let (cx, ino, random) = (owner(), make(&volume).await, SeededRandom::new(seed));
        let below = |bound: u64| {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            u64::from_le_bytes(bytes) % bound
        };
        let mut expected = Vec::new();
        for step in 0..250 {
            let (at, len) = (below(SIZE), 1 + below(60_000));
            let end = (at + len) as usize;
            match below(8) {
                0 => {
                    expected.resize(at as usize, 0);
                    let set = SetAttr { size: Some(at), ..SetAttr::default() };
                    volume.setattr(&cx, ino, &set).await.unwrap();
                }
                1 => {
                    volume.allocate(&cx, ino, at, len, Allocate::PunchHole).await.unwrap();
                    let until = end.min(expected.len());
                    expected[(at as usize).min(until)..until].fill(0);
                }
                2 if at + len <= expected.len() as u64 && len <= at => {
                    volume.copy_range(&cx, (ino, at - len), (ino, at), len).await.unwrap();
                    expected.copy_within((at - len) as usize..at as usize, at as usize);
                }
                3 | 4 => {
                    let read = volume.read(&cx, ino, at, len as u32).await.unwrap().0.concat();
                    let until = end.min(expected.len());
                    assert!(read == expected[(at as usize).min(until)..until], "seed {seed}, step {step}");
                }
                _ => {
                    let data = noise(len as usize, step);
                    expected.resize(expected.len().max(end), 0);
                    expected[at as usize..end].copy_from_slice(&data);
                    volume.write(&cx, ino, WriteAt::Offset(at), data, None, false).await.unwrap();
                }
            }
        }
        let read = volume.read(&cx, ino, 0, 2 * SIZE as u32).await.unwrap().0.concat();
        assert!(read == expected, "seed {seed}");
        assert_eq!(volume.check().await.unwrap().findings, []);
        volume.close().await.unwrap();
    }
}
