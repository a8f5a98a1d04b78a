//! Limits of buckets and tenants hold exactly, and what takes nothing more goes on at the limit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::SeededRandom;
use mooring_protocol::types::{Attr, Ino, NewNode, SetAttr};
use mooring_store::api::{Result, Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::seal::TenantKey;
use mooring_store::volume::{Budget, Config, LocalOptions, Quota, Volume};
use std::path::Path;
use std::sync::Arc;
use volumes::{directory, keys, name, options, owner};

const BLOCK: u64 = 4096;

async fn open(dir: &Path, quota: Quota, budget: Option<Arc<Budget>>) -> Arc<Volume> {
    let config = Config { quota, budget, linger: std::time::Duration::ZERO, ..Config::default() };
    Volume::open_local(LocalOptions { config, ..options(dir) }).await.unwrap()
}

fn blocks(blocks: u64) -> Quota {
    Quota { bytes: Some(blocks * BLOCK), files: None }
}

async fn make(volume: &Volume, text: &str) -> Result<Attr> {
    let node = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name(text), 0o644, (0, 0), &node).await
}

async fn write(volume: &Volume, ino: Ino, block: u64, count: u64) -> Result<()> {
    let data = Bytes::from(vec![7; (count * BLOCK) as usize]);
    volume.write(&owner(), ino, WriteAt::Offset(block * BLOCK), data, None, false).await.map(drop)
}

fn full<T: std::fmt::Debug>(result: Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(StoreError::QuotaExceeded) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_bytes_holds_exactly_however_many_write() {
    let dir = directory();
    let volume = open(dir.path(), blocks(100), None).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let volume = volume.clone();
            tokio::spawn(async move {
                let ino = make(&volume, &writer.to_string()).await.unwrap().ino;
                let mut block = 0;
                while !full(write(&volume, ino, block, 1).await) {
                    block += 1;
                }
                (ino, block)
            })
        })
        .collect();
    let mut files = Vec::new();
    for writer in writers {
        files.push(writer.await.unwrap());
    }
    assert_eq!(files.iter().map(|(_, blocks)| blocks).sum::<u64>(), 100);
    let stat = volume.statfs(&owner()).await.unwrap();
    assert_eq!((stat.total_bytes, stat.free_bytes), (100 * BLOCK, 0));
    let (ino, count) = *files.iter().max_by_key(|(_, blocks)| *blocks).unwrap();
    // What takes nothing more goes on; a copy is charged though it shares its bytes.
    write(&volume, ino, 0, count).await.unwrap();
    let other = make(&volume, "copy").await.unwrap().ino;
    assert!(full(volume.copy_range(&owner(), (ino, 0), (other, 0), BLOCK).await));
    let cut = SetAttr { size: Some((count - 1) * BLOCK), ..SetAttr::default() };
    volume.setattr(&owner(), ino, &cut).await.unwrap();
    assert_eq!(volume.statfs(&owner()).await.unwrap().free_bytes, BLOCK);
    volume.copy_range(&owner(), (ino, 0), (other, 0), BLOCK).await.unwrap();
    // Limits change under what is open, in both directions.
    volume.set_quota(blocks(50));
    assert!(full(write(&volume, other, 1, 1).await));
    write(&volume, other, 0, 1).await.unwrap();
    volume.unlink(&owner(), Ino::ROOT, &name("copy")).await.unwrap();
    volume.set_quota(Quota::default());
    write(&volume, ino, 0, 200).await.unwrap();
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_files_counts_folders_too() {
    let dir = directory();
    let volume = open(dir.path(), Quota { bytes: None, files: Some(4) }, None).await;
    make(&volume, "a").await.unwrap();
    make(&volume, "b").await.unwrap();
    volume.create(&owner(), Ino::ROOT, &name("d"), 0o755, (0, 0), &NewNode::Dir).await.unwrap();
    assert!(full(make(&volume, "c").await), "with the root there are four");
    assert_eq!(volume.statfs(&owner()).await.unwrap().free_inodes, 0);
    volume.unlink(&owner(), Ino::ROOT, &name("a")).await.unwrap();
    make(&volume, "c").await.unwrap();
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_limit_is_that_of_all_its_buckets_together() {
    let (one, two, budget) = (directory(), directory(), Arc::new(Budget::default()));
    budget.set_quota(blocks(60));
    let first = open(one.path(), blocks(40), Some(budget.clone())).await;
    // Its keys tell which volume it is.
    let config = Config { budget: Some(budget.clone()), ..Config::default() };
    let other = VolumeId(8);
    let other_keys = TenantKey::generate(&SeededRandom::new(1)).volume(other);
    let second = LocalOptions { config, keys: other_keys, ..options(two.path()) };
    let second = Volume::open_local(second).await.unwrap();
    let (a, b) = (make(&first, "a").await.unwrap().ino, make(&second, "b").await.unwrap().ino);
    assert!(full(write(&first, a, 0, 41).await), "the bucket's own limit");
    write(&first, a, 0, 40).await.unwrap();
    assert!(full(write(&second, b, 0, 21).await));
    write(&second, b, 0, 20).await.unwrap();
    assert_eq!(budget.used().blocks, 60);
    assert_eq!(second.statfs(&owner()).await.unwrap().free_bytes, 0);
    // A closed bucket counts on.
    first.close().await.unwrap();
    assert!(full(write(&second, b, 20, 1).await));
    let first = open(one.path(), blocks(40), Some(budget.clone())).await;
    assert_eq!(budget.used().blocks, 60, "opened again it is not counted twice");
    first.unlink(&owner(), Ino::ROOT, &name("a")).await.unwrap();
    write(&second, b, 20, 40).await.unwrap();
    assert_eq!(budget.used().blocks, 60);
    budget.forget(keys().volume().get());
    assert_eq!(budget.used().blocks, 60);
    first.close().await.unwrap();
    second.close().await.unwrap();
}
