//! A disk that fails. One test, because a process has one armed point.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use mooring_store::failpoints::{Point, Strike, arm, arm_always, arm_both, disarm};
use mooring_store::meta::{Batch, Meta, MetaError};
use mooring_store::pack::{Domain, ExtentIn, ExtentRef, PackError, PackStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

    meta_waits_for_its_disk(dir.path()).await;
    a_failed_sync_is_told_and_made_up_for(dir.path()).await;
    tables_wait_for_their_disk(dir.path()).await;
}

/// What was under way goes on when the disk is well again, the next is refused, reads go on.
async fn meta_waits_for_its_disk(dir: &Path) {
    let meta = common::open(dir).await.unwrap();
    commit(&*meta, "kept").await.unwrap();
    for point in [Point::JournalBeforeWrite, Point::JournalMidWrite, Point::JournalAfterWrite] {
        // Once: nobody notices but the log.
        arm(point, Strike::Broken, 1);
        commit(&*meta, "once").await.unwrap();
        arm_always(point, Strike::Broken);
        let under_way = tokio::spawn({
            let meta = Arc::clone(&meta);
            async move { commit(&*meta, "under way").await }
        });
        let told = meta.faulty().await;
        assert!(told.to_string().contains("the disk under"), "{told}");
        let refused = commit(&*meta, "refused").await.unwrap_err();
        assert!(matches!(refused, MetaError::Disk { .. }), "{refused}");
        assert!(meta.get(b"kept").await.unwrap().is_some(), "reads go on");
        meta.sync().await.expect("what is in the file can be synced");
        assert!(!under_way.is_finished());
        disarm();
        under_way.await.unwrap().unwrap();
        commit(&*meta, "again").await.unwrap();
        assert_eq!(meta.get(b"refused").await.unwrap(), None);
    }
    meta.close().await.unwrap();
    let meta = common::open(dir).await.unwrap();
    for key in ["kept", "once", "under way", "again"] {
        assert!(meta.get(key.as_bytes()).await.unwrap().is_some(), "{key}");
    }
    assert_eq!(meta.get(b"refused").await.unwrap(), None);
    meta.close().await.unwrap();
}

async fn a_failed_sync_is_told_and_made_up_for(dir: &Path) {
    for point in [Point::JournalBeforeSync, Point::JournalAfterSync, Point::JournalMidRepair] {
        let meta = common::open(dir).await.unwrap();
        commit(&*meta, "unsynced").await.unwrap();
        match point {
            Point::JournalMidRepair => {
                arm_both((Point::JournalBeforeSync, Strike::Broken), (point, Strike::Broken));
            }
            _ => arm(point, Strike::Broken, 1),
        }
        assert!(meta.sync().await.is_err(), "{point:?}");
        // Not because the kernel was asked twice: the record was written again.
        let again = async {
            while meta.sync().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), again).await.expect("well again");
        disarm();
        commit(&*meta, "later").await.unwrap();
        drop(meta);
        let meta = common::open(dir).await.unwrap();
        assert!(meta.get(b"unsynced").await.unwrap().is_some(), "{point:?}");
        assert!(meta.get(b"later").await.unwrap().is_some(), "{point:?}");
        meta.close().await.unwrap();
    }
}

/// More attempts than the engine makes by itself before it ends.
async fn tables_wait_for_their_disk(dir: &Path) {
    let points =
        [Point::TableBeforePut, Point::TableAfterPut, Point::ManifestBeforePut, Point::ManifestAfterPut];
    for point in points {
        let meta = common::open(dir).await.unwrap();
        commit(&*meta, "to a table").await.unwrap();
        arm_always(point, Strike::Broken);
        let flushing = tokio::spawn({
            let meta = Arc::clone(&meta);
            async move { meta.flush().await }
        });
        meta.faulty().await;
        assert!(matches!(commit(&*meta, "refused").await.unwrap_err(), MetaError::Disk { .. }), "{point:?}");
        assert!(meta.get(b"to a table").await.unwrap().is_some(), "reads go on");
        assert!(!flushing.is_finished(), "{point:?}");
        disarm();
        flushing.await.unwrap().unwrap();
        // Others that failed try again at once.
        let again = async {
            while commit(&*meta, "again").await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), again).await.expect("well again");
        meta.close().await.unwrap();
    }
}
