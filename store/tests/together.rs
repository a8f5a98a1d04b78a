//! Operations at the same time: whoever looks sees each change whole, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Condition, ObjectMeta, Objects, Tree};
use mooring_store::error::StoreError;
use mooring_store::volume::Volume;
use volumes::{directory, name, open, owner};

const BODY: &[u8] = b"never empty";

async fn put(volume: &Volume, key: &str) {
    let cx = owner();
    let staged = volume.stage(&cx).await.unwrap();
    volume.stage_write(&cx, staged, Bytes::from_static(BODY)).await.unwrap();
    let condition = Condition::default();
    volume
        .put(&cx, staged, key.as_bytes(), "etag".to_owned(), ObjectMeta::default(), &condition)
        .await
        .unwrap();
}

async fn make(volume: &Volume, parent: Ino, called: &str) -> Ino {
    let node = NewNode::File { open: None };
    volume.create(&owner(), parent, &name(called), 0o644, (0, 0), &node).await.unwrap().ino
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_objects_deleted_at_once_leave_no_directory() {
    let dir = directory();
    let volume = open(dir.path()).await;
    for round in 0..100 {
        let keys: Vec<String> = (0..4).map(|n| format!("top-{round}/{}/{n}", n % 2)).collect();
        for key in &keys {
            put(&volume, key).await;
        }
        let deletes: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let volume = volume.clone();
                tokio::spawn(async move {
                    volume.delete(&owner(), key.as_bytes(), &Condition::default()).await.unwrap().unwrap();
                })
            })
            .collect();
        for delete in deletes {
            delete.await.unwrap();
        }
        let (left, _) = volume.readdir(&owner(), Ino::ROOT, b"", 10, false).await.unwrap();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_replaced_is_never_absent() {
    const ROUNDS: usize = 300;
    let dir = directory();
    let volume = open(dir.path()).await;
    put(&volume, "key").await;
    let over = Arc::new(AtomicBool::new(false));
    let looks: Vec<_> = (0..2)
        .map(|_| {
            let (volume, over) = (volume.clone(), over.clone());
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !over.load(Ordering::Acquire) {
                    let attr = volume.lookup(&owner(), Ino::ROOT, &name("key")).await.expect("a lookup");
                    let info = volume.head(&owner(), b"key").await.expect("a head");
                    assert_eq!((attr.size, info.size), (BODY.len() as u64, BODY.len() as u64));
                    count += 1;
                    tokio::task::yield_now().await;
                }
                count
            })
        })
        .collect();
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            put(&volume, "key").await;
            continue;
        }
        put(&volume, "other").await;
        let (from, to) = (name("other"), name("key"));
        volume.rename(&owner(), Ino::ROOT, &from, Ino::ROOT, &to, RenameMode::Replace).await.unwrap();
    }
    over.store(true, Ordering::Release);
    for look in looks {
        assert!(look.await.unwrap() > 0);
    }
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_moves_is_always_somewhere() {
    const FILES: u64 = 300;
    let dir = directory();
    let volume = open(dir.path()).await;
    let cx = owner();
    let here = volume.create(&cx, Ino::ROOT, &name("here"), 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
    let there =
        volume.create(&cx, Ino::ROOT, &name("there"), 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
    let made = Arc::new(AtomicU64::new(0));
    let looker = {
        let (volume, made) = (volume.clone(), made.clone());
        tokio::spawn(async move {
            let missing = |result: Result<_, StoreError>| match result {
                Ok(_) => false,
                Err(StoreError::NotFound) => true,
                Err(error) => panic!("{error}"),
            };
            loop {
                let at = made.load(Ordering::Acquire);
                if at > FILES {
                    return;
                }
                let moving = name(&at.to_string());
                let gone = at > 0 && missing(volume.lookup(&owner(), here, &moving).await);
                if gone {
                    assert!(!missing(volume.lookup(&owner(), there, &moving).await), "{at} is nowhere");
                }
                tokio::task::yield_now().await;
            }
        })
    };
    for number in 1..=FILES {
        let moving = name(&number.to_string());
        make(&volume, here, &number.to_string()).await;
        made.store(number, Ordering::Release);
        volume.rename(&cx, here, &moving, there, &moving, RenameMode::Replace).await.unwrap();
    }
    made.store(FILES + 1, Ordering::Release);
    looker.await.unwrap();
    volume.close().await.unwrap();
}
