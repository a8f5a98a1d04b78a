//! Operations at the same time: whoever looks sees each change whole, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Condition, ObjectMeta, Objects, Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::volume::Volume;
use volumes::{directory, name, open, options, owner};

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

/// Replaces `key` without pause, by rename and by PUT in turn, while readers do what a kernel does for an open, and
/// S3 for a GET: look, then open what was found, then read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_looked_up_can_be_opened_though_its_name_was_given_away() {
    const ROUNDS: usize = 300;
    let dir = directory();
    let volume = open(dir.path()).await;
    put(&volume, "key").await;
    let over = Arc::new(AtomicBool::new(false));
    let looks: Vec<_> = (0..2)
        .map(|way| {
            let (volume, over) = (volume.clone(), over.clone());
            tokio::spawn(async move {
                let cx = owner();
                let mut replaced = 0_u64;
                while !over.load(Ordering::Acquire) {
                    let ino = match way {
                        0 => volume.lookup(&cx, Ino::ROOT, &name("key")).await.expect("a lookup").ino,
                        _ => volume.head(&cx, b"key").await.expect("a head").ino,
                    };
                    // Long enough that the name is another's now and then.
                    for _ in 0..replaced % 7 {
                        tokio::task::yield_now().await;
                    }
                    let attr = volume.pin(&cx, ino).await.expect("what was found can be opened");
                    let (bytes, _) = volume.read(&cx, ino, 0, 100).await.expect("what is open can be read");
                    assert_eq!(bytes.concat(), BODY);
                    replaced += u64::from(attr.nlink == 0);
                    volume.unpin(ino).await.expect("unpin");
                }
                replaced
            })
        })
        .collect();
    for round in 0..ROUNDS {
        replace(&volume, round).await;
    }
    over.store(true, Ordering::Release);
    let mut replaced = 0;
    for look in looks {
        replaced += look.await.unwrap();
    }
    assert!(replaced > 0, "no look met a replacement: this proves nothing");
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

async fn replace(volume: &Volume, round: usize) {
    if round.is_multiple_of(2) {
        return put(volume, "key").await;
    }
    put(volume, "other").await;
    let (from, to) = (name("other"), name("key"));
    volume.rename(&owner(), Ino::ROOT, &from, Ino::ROOT, &to, RenameMode::Replace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lingers_goes_by_itself_and_after_a_stop_with_the_orphans() {
    let dir = directory();
    let mut soon = options(dir.path());
    soon.config.linger = Duration::from_millis(50);
    let volume = Volume::open_local(soon).await.unwrap();
    put(&volume, "key").await;
    let old = volume.lookup(&owner(), Ino::ROOT, &name("key")).await.unwrap().ino;
    put(&volume, "key").await;
    let gone = async {
        while volume.getattr(&owner(), old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("what lingers goes");
    volume.close().await.unwrap();

    let mut long = options(dir.path());
    long.config.linger = Duration::from_secs(1000);
    let volume = Volume::open_local(long.clone()).await.unwrap();
    assert_eq!(volume.purge_orphans().await.unwrap(), 0);
    for round in 0..4 {
        replace(&volume, round).await;
    }
    assert_eq!(volume.purge_orphans().await.unwrap(), 0, "what lingers is not purged under its readers");
    volume.close().await.unwrap();
    let volume = Volume::open_local(long).await.unwrap();
    assert_eq!(volume.purge_orphans().await.unwrap(), 4);
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

/// A quota that has room for one file and a half: each replacement fits, however fast they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lingers_takes_no_room_from_a_quota() {
    const SIZE: usize = 1 << 20;
    let dir = directory();
    let mut small = options(dir.path());
    small.config.linger = Duration::from_secs(1000);
    small.config.quota.bytes = Some(5 * SIZE as u64 / 2);
    let volume = Volume::open_local(small).await.unwrap();
    let cx = owner();
    let mut last = Ino::ROOT;
    for round in 0..8_u8 {
        let ino = make(&volume, Ino::ROOT, "new").await;
        let data = Bytes::from(vec![round; SIZE]);
        volume.write(&cx, ino, WriteAt::Offset(0), data, None, false).await.unwrap();
        let (from, to) = (name("new"), name("key"));
        volume.rename(&cx, Ino::ROOT, &from, Ino::ROOT, &to, RenameMode::Replace).await.unwrap();
        let stat = volume.statfs(&cx).await.unwrap();
        assert!(stat.total_bytes - stat.free_bytes <= SIZE as u64, "round {round}: {stat:?}");
        last = ino;
    }
    // Where the room is really needed it is given up: the rounds leave no more than the quota holds.
    let left = async {
        while volume.check().await.unwrap().inodes > 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.expect("the oldest go under pressure");
    assert_eq!(volume.read(&cx, last, 0, 1).await.unwrap().0.concat(), [7]);
    volume.close().await.unwrap();
}
