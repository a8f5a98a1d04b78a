//! A really full and a really read-only disk: a small tmpfs in a mount namespace of the child's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use mooring_policy::rng::{Random, SystemRandom};
use mooring_store::meta::{Batch, Meta, MetaError, SPACE_RESERVE, SlateMeta};
use mooring_store::pack::{Domain, ExtentIn, PackError};
use std::path::PathBuf;
use std::sync::Arc;

const DIR: &str = "MOORING_TEST_DIR";

async fn open(dir: &std::path::Path) -> Arc<SlateMeta> {
    let mut options = common::slate_options(dir).unwrap();
    options.space_reserve = SPACE_RESERVE;
    SlateMeta::open(options).await.unwrap()
}

fn noise(len: usize) -> Bytes {
    let mut data = vec![0; len];
    SystemRandom.fill(&mut data);
    data.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn child_fills_its_disk() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let meta = open(&dir).await;
    let packs = common::open_packs(&dir, meta.epoch()).await;

    // Extents until only the reserve is left.
    let mut extents = Vec::new();
    let refused = loop {
        let data = noise(1 << 20);
        let hash = packs.hash(&data);
        match packs
            .append(vec![ExtentIn { domain: Domain(0), owner: (0, 0), data: data.clone(), hash }])
            .await
        {
            Ok(placed) => extents.push((placed[0], data)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, PackError::NoSpace { .. }), "{refused}");
    assert!(extents.len() > 50, "{}", extents.len());

    // Rows still go, until the reserve that deletes and tables need.
    let mut rows = 0_u32;
    let refused = loop {
        let mut batch = Batch::new();
        batch.put(rows.to_be_bytes().to_vec(), noise(64 << 10));
        match meta.commit(batch).await {
            Ok(_) => rows += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, MetaError::NoSpace { .. }), "{refused}");
    assert!(refused.to_string().contains("free space or delete files"), "{refused}");
    assert!(rows > 50, "{rows}");
    meta.sync().await.unwrap();

    // Everything that was acknowledged reads, and deletes still work.
    for row in 0..rows {
        assert!(meta.get(&row.to_be_bytes()).await.unwrap().is_some());
    }
    for (extent, data) in &extents {
        assert_eq!(packs.read(extent, 0..extent.raw_len).await.unwrap(), data);
    }
    let mut batch = Batch::new();
    for row in 0..10_u32 {
        batch.delete(row.to_be_bytes().to_vec());
    }
    meta.commit(batch).await.unwrap();
    meta.sync().await.unwrap();

    // Room comes back: both go on.
    let gone = extents[0].0.pack;
    let _ = packs.seal_current().await;
    while packs.delete(gone).await.is_err() {
        tokio::task::yield_now().await;
    }
    let sealed: Vec<_> = packs.list().into_iter().filter(|pack| pack.sealed).map(|pack| pack.id).collect();
    for pack in sealed {
        packs.delete(pack).await.unwrap();
    }
    let data = noise(10 << 10);
    let hash = packs.hash(&data);
    packs.append(vec![ExtentIn { domain: Domain(0), owner: (0, 0), data, hash }]).await.unwrap();
    packs.sync().await.unwrap();
    let mut batch = Batch::new();
    batch.put("again", "yes");
    meta.commit(batch).await.unwrap();
    meta.close().await.unwrap();

    let meta = open(&dir).await;
    assert_eq!(meta.get(b"again").await.unwrap().as_deref(), Some(&b"yes"[..]));
    for row in 10..rows {
        assert!(meta.get(&row.to_be_bytes()).await.unwrap().is_some());
    }
    println!("filled with {rows} rows and {} extents", extents.len());
}

#[test]
fn a_full_disk_refuses_keeps_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256m,mode=0700 tmpfs \"$MOORING_TEST_DIR\" && exec \"$@\"";
    let status = common::child("child_fills_its_disk", Some(script)).env(DIR, dir.path()).status().unwrap();
    assert!(status.success(), "needs unshare(1) and the right to make a mount namespace: {status}");
}

#[test]
#[ignore = "the child process of the test below"]
fn child_meets_a_read_only_disk() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let error = mooring_store::backend::DataDir::open(&dir).unwrap_err();
    assert!(matches!(error, mooring_store::backend::BackendError::ReadOnly { .. }), "{error}");
    assert_eq!(error.to_string(), format!("{} is not writable", dir.display()));
}

#[test]
fn a_read_only_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o ro,size=1m,mode=0700 tmpfs \"$MOORING_TEST_DIR\" && exec \"$@\"";
    let status =
        common::child("child_meets_a_read_only_disk", Some(script)).env(DIR, dir.path()).status().unwrap();
    assert!(status.success(), "needs unshare(1) and the right to make a mount namespace: {status}");
}
