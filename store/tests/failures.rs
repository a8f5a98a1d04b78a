//! A disk that fails. One test, because a process has one armed point.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use mooring_store::failpoints::{Point, Strike, arm, disarm};
use mooring_store::meta::{Batch, Meta, MetaError};
use mooring_store::pack::{Domain, ExtentIn, ExtentRef, PackError, PackStore};
use std::sync::Arc;

async fn append(store: &Arc<PackStore>, byte: u8) -> Result<ExtentRef, PackError> {
    let data = Bytes::from(vec![byte; 5000]);
    let hash = store.hash(&data);
    Ok(store.append(vec![ExtentIn { domain: Domain(1), owner: (1, 0), data, hash }]).await?[0])
}

async fn commit(meta: &dyn Meta, key: &'static str) -> Result<(), MetaError> {
    let mut batch = Batch::new();
    batch.put(key, "value");
    meta.commit(batch).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_is_told_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();

    // Packs: a failed append is an error, and the store goes on.
    let packs = common::open_packs(dir.path(), 1).await;
    let mut kept = vec![(append(&packs, 1).await.unwrap(), 1)];
    for strike in [Strike::NoSpace, Strike::Broken] {
        for point in [Point::PackBeforeWrite, Point::PackMidWrite] {
            arm(point, strike, 1);
            let failed = append(&packs, 99).await.unwrap_err();
            disarm();
            match strike {
                Strike::NoSpace => assert!(matches!(failed, PackError::NoSpace { .. }), "{failed}"),
                _ => assert!(matches!(failed, PackError::Io { .. }), "{failed}"),
            }
            kept.push((append(&packs, kept.len() as u8 + 1).await.unwrap(), kept.len() as u8 + 1));
        }
    }
    packs.sync().await.unwrap();
    arm(Point::PackBeforeFooter, Strike::NoSpace, 1);
    assert!(matches!(packs.seal_current().await, Err(PackError::NoSpace { .. })));
    disarm();
    let reopened = common::open_packs(dir.path(), 2).await;
    assert_eq!(reopened.entries(kept[0].0.pack).await.unwrap().len(), kept.len());
    for (extent, byte) in &kept {
        assert_eq!(reopened.read(extent, 0..5000).await.unwrap(), vec![*byte; 5000]);
    }

    // Journal: a failed write stops the volume with its cause; reopening has everything acknowledged.
    for (point, strike) in [
        (Point::JournalBeforeWrite, Strike::Broken),
        (Point::JournalMidWrite, Strike::Broken),
        (Point::JournalRotateBeforeHeader, Strike::Broken),
    ] {
        let meta = common::open(dir.path()).await.unwrap();
        if point != Point::JournalRotateBeforeHeader {
            commit(&*meta, "kept").await.unwrap();
        }
        arm(point, strike, 1);
        let failed = commit(&*meta, "failed").await.unwrap_err();
        disarm();
        assert!(matches!(failed, MetaError::Journal(_)), "{failed}");
        assert!(failed.to_string().contains("journal"), "{failed}");
        assert!(commit(&*meta, "later").await.is_err());
        assert!(meta.sync().await.is_err());
        drop(meta);
        let meta = common::open(dir.path()).await.unwrap();
        assert!(meta.get(b"kept").await.unwrap().is_some());
        assert_eq!(meta.get(b"later").await.unwrap(), None);
        commit(&*meta, "again").await.unwrap();
        meta.close().await.unwrap();
    }

    // A failed fdatasync is never followed by a successful one.
    let meta = common::open(dir.path()).await.unwrap();
    commit(&*meta, "unsynced").await.unwrap();
    arm(Point::JournalBeforeSync, Strike::Broken, 1);
    assert!(meta.sync().await.is_err());
    disarm();
    assert!(meta.sync().await.is_err());
    assert!(commit(&*meta, "later").await.is_err());
    drop(meta);
    let meta = common::open(dir.path()).await.unwrap();
    assert!(meta.get(b"unsynced").await.unwrap().is_some());
}
