//! Snapshots and clones: what they show, what they cost, what they leave behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, Name, NewNode, RenameMode, SetAttr};
use mooring_store::api::{Objects, Snapshots, Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use volumes::dump::{Known, content, dump};
use volumes::{directory, name, options, owner};

async fn open(dir: &Path) -> Arc<Volume> {
    open_with(dir, Config::default()).await
}

async fn open_with(dir: &Path, config: Config) -> Arc<Volume> {
    // Freed at once, so that what is left can be counted.
    let config = Config { linger: std::time::Duration::ZERO, ..config };
    Volume::open_local(LocalOptions { config, ..options(dir) }).await.unwrap()
}

fn noise(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    Bytes::from(bytes)
}

async fn make(volume: &Volume, parent: Ino, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let ino = volume.create(&owner(), parent, &name(called), 0o644, (0, 0), &node).await.unwrap().ino;
    write(volume, ino, 0, data).await;
    ino
}

async fn write(volume: &Volume, ino: Ino, at: u64, data: Bytes) {
    for (n, part) in data.chunks(1 << 20).enumerate() {
        let at = WriteAt::Offset(at + (n as u64) * (1 << 20));
        volume.write(&owner(), ino, at, Bytes::copy_from_slice(part), None, false).await.unwrap();
    }
}

async fn sound(volume: &Volume) {
    assert_eq!(volume.check().await.unwrap().findings, []);
}

/// A tree with a bit of everything.
async fn some_tree(volume: &Volume) -> (Ino, Ino) {
    let cx = owner();
    let dir = volume.create(&cx, Ino::ROOT, &name("dir"), 0o755, (1, 2), &NewNode::Dir).await.unwrap().ino;
    let file = make(volume, dir, "file", noise(300_000, 1)).await;
    make(volume, dir, "small", Bytes::from_static(b"small")).await;
    let link = NewNode::Symlink { target: b"dir/file".to_vec() };
    volume.create(&cx, Ino::ROOT, &name("link"), 0o777, (0, 0), &link).await.unwrap();
    volume.setxattr(&cx, file, b"user.a", b"1", mooring_protocol::types::XattrMode::Set).await.unwrap();
    let staged = volume.stage(&cx).await.unwrap();
    volume.stage_write(&cx, staged, Bytes::from_static(b"no path")).await.unwrap();
    volume.put(&cx, staged, b"a//b", "e".into(), Default::default(), &Default::default()).await.unwrap();
    (dir, file)
}

/// Changes nearly all of it.
async fn upset(volume: &Volume, dir: Ino, file: Ino) {
    let cx = owner();
    write(volume, file, 100_000, noise(50_000, 2)).await;
    volume.setattr(&cx, file, &SetAttr { size: Some(200_001), ..SetAttr::default() }).await.unwrap();
    volume.removexattr(&cx, file, b"user.a").await.unwrap();
    volume.unlink(&cx, dir, &name("small")).await.unwrap();
    volume
        .rename(&cx, Ino::ROOT, &name("dir"), Ino::ROOT, &name("other"), RenameMode::Replace)
        .await
        .unwrap();
    volume.delete(&cx, b"a//b", &Default::default()).await.unwrap();
    make(volume, dir, "new", noise(10_000, 3)).await;
}

#[tokio::test]
async fn a_snapshot_shows_what_was_and_cannot_be_changed() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let (dir, file) = some_tree(&volume).await;
    let before = dump(&*volume, &Known::new()).await;
    let info = volume.snapshot_create(&cx, "one").await.unwrap();
    assert_eq!((info.view, info.name.as_str()), (1, "one"));
    assert!(matches!(volume.snapshot_create(&cx, "one").await, Err(StoreError::Exists)));
    assert!(matches!(volume.snapshot_view(&cx, "two").await, Err(StoreError::NotFound)));
    upset(&volume, dir, file).await;
    let after = dump(&*volume, &Known::new()).await;
    assert_ne!(before, after);

    let view = volume.snapshot_view(&cx, "one").await.unwrap();
    assert_eq!(dump(&*view, &Known::new()).await, before);
    let refused =
        |done: Result<(), StoreError>| assert!(matches!(done, Err(StoreError::ReadOnly)), "{done:?}");
    refused(view.write(&cx, file, WriteAt::End, Bytes::from_static(b"x"), None, false).await.map(drop));
    refused(view.unlink(&cx, dir, &name("file")).await.map(drop));
    refused(view.setattr(&cx, file, &SetAttr::default()).await.map(drop));
    refused(view.create(&cx, dir, &name("n"), 0o644, (0, 0), &NewNode::Dir).await.map(drop));
    refused(view.stage(&cx).await.map(drop));
    refused(view.delete(&cx, b"dir/file", &Default::default()).await.map(drop));
    sound(&volume).await;
    volume.close().await.unwrap();

    let volume = open(home.path()).await;
    assert_eq!(volume.snapshots(&cx).await.unwrap(), [info]);
    let view = volume.snapshot_view(&cx, "one").await.unwrap();
    assert_eq!(dump(&*view, &Known::new()).await, before);
    assert_eq!(dump(&*volume, &Known::new()).await, after);
    volume.close().await.unwrap();
}

#[tokio::test]
async fn restoring_puts_everything_back_and_handles_on_what_is_gone_are_stale() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let (dir, file) = some_tree(&volume).await;
    let before = dump(&*volume, &Known::new()).await;
    volume.snapshot_create(&cx, "one").await.unwrap();
    upset(&volume, dir, file).await;
    let upset_tree = dump(&*volume, &Known::new()).await;
    volume.snapshot_create(&cx, "upset").await.unwrap();
    let new = volume.lookup(&cx, dir, &name("new")).await.unwrap().ino;
    volume.pin(&cx, new).await.unwrap();
    let upload = volume.upload_create(&cx, b"up", Default::default()).await.unwrap();

    volume.snapshot_restore(&cx, "one").await.unwrap();
    assert_eq!(dump(&*volume, &Known::new()).await, before);
    assert!(matches!(volume.getattr(&cx, new).await, Err(StoreError::Stale(_))));
    assert!(matches!(volume.read(&cx, new, 0, 10).await, Err(StoreError::Stale(_))));
    assert!(volume.upload_get(&cx, b"up", &upload.id).await.is_err());
    // What is made now has a number that nothing had.
    let newer = make(&volume, dir, "newer", noise(5000, 4)).await;
    assert!(newer > new);
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    volume.close().await.unwrap();

    let volume = open(home.path()).await;
    volume.snapshot_restore(&cx, "upset").await.unwrap();
    assert_eq!(dump(&*volume, &Known::new()).await, upset_tree);
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test]
async fn removing_a_snapshot_frees_what_only_it_needed_and_nothing_else() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let kept = make(&volume, Ino::ROOT, "kept", noise(3 << 20, 1)).await;
    let alone = volume.space();
    make(&volume, Ino::ROOT, "gone", noise(12 << 20, 2)).await;
    for snapshot in ["one", "two", "three"] {
        volume.snapshot_create(&cx, snapshot).await.unwrap();
    }
    let shown = dump(&*volume, &Known::new()).await;
    volume.unlink(&cx, Ino::ROOT, &name("gone")).await.unwrap();
    volume.settle_layers().await.unwrap();
    assert_eq!(volume.space().logical_bytes, alone.logical_bytes, "quotas count what the bucket shows");
    for (removed, left) in [("two", Some("three")), ("one", Some("three")), ("three", None)] {
        assert!(volume.space().stored_bytes > alone.stored_bytes + (11 << 20));
        let view = volume.snapshot_view(&cx, removed).await.unwrap();
        volume.snapshot_remove(&cx, removed).await.unwrap();
        assert!(matches!(view.getattr(&cx, kept).await, Err(StoreError::Stale(_))));
        volume.settle_layers().await.unwrap();
        sound(&volume).await;
        if let Some(left) = left {
            let view = volume.snapshot_view(&cx, left).await.unwrap();
            assert_eq!(dump(&*view, &Known::new()).await, shown);
        }
    }
    let now = volume.space();
    assert_eq!((now.stored_bytes, now.extents), (alone.stored_bytes, alone.extents));
    assert_eq!(content(&*volume, kept).await, noise(3 << 20, 1));
    assert!(matches!(volume.snapshot_remove(&cx, "one").await, Err(StoreError::NotFound)));
    volume.close().await.unwrap();
}

/// A clone of a file of many rows costs a few, whatever steps it is made in, and shares until somebody writes.
#[tokio::test]
async fn a_clone_shares_all_bytes_and_is_written_alone() {
    let home = directory();
    let config = Config { extent_bytes: 8 << 10, stream_bytes: 8 << 10, ..Config::default() };
    let volume = open_with(home.path(), config).await;
    let cx = owner();
    let data = noise(4 << 20, 1);
    let one = make(&volume, Ino::ROOT, "one", data.slice(..data.len() - 100)).await;
    let full = volume.space();
    let (two, three) = (
        make(&volume, Ino::ROOT, "two", Bytes::new()).await,
        make(&volume, Ino::ROOT, "three", Bytes::new()).await,
    );
    let size = data.len() as u64 - 100;
    assert_eq!(volume.copy_range(&cx, (one, 0), (two, 0), u64::MAX >> 1).await.unwrap().0, size);
    let step = 512 << 10;
    for at in (0..size).step_by(step) {
        volume.copy_range(&cx, (one, at), (three, at), step as u64).await.unwrap();
    }
    let now = volume.space();
    assert_eq!((now.stored_bytes, now.extents), (full.stored_bytes, full.extents));
    assert_eq!(now.referenced_bytes, full.referenced_bytes, "no row of an extent was repeated");
    assert_eq!(now.logical_bytes, 3 * full.logical_bytes, "a clone counts at once");
    for ino in [one, two, three] {
        assert!(content(&*volume, ino).await == data[..size as usize], "{ino:?}");
    }
    write(&volume, two, 1_000_000, noise(5000, 7)).await;
    write(&volume, one, 2_000_000, noise(5000, 8)).await;
    let patched = |at: usize, seed| {
        let mut bytes = data[..size as usize].to_vec();
        bytes[at..at + 5000].copy_from_slice(&noise(5000, seed));
        bytes
    };
    assert!(content(&*volume, two).await == patched(1_000_000, 7));
    assert!(content(&*volume, one).await == patched(2_000_000, 8));
    assert!(content(&*volume, three).await == data[..size as usize]);
    sound(&volume).await;
    for called in ["one", "two", "three"] {
        volume.unlink(&cx, Ino::ROOT, &name(called)).await.unwrap();
    }
    volume.sweep().await.unwrap();
    sound(&volume).await;
    let empty = volume.space();
    assert_eq!((empty.stored_bytes, empty.extents, empty.logical_bytes), (0, 0, 0));
    volume.close().await.unwrap();
}

/// Snapshot after snapshot of a large file that is always written: slices of slices must not grow without bound.
#[tokio::test]
async fn a_file_that_is_written_between_many_snapshots_stays_readable() {
    let home = directory();
    let config = Config { extent_bytes: 4 << 10, few_rows: 8, ..Config::default() };
    let volume = open_with(home.path(), config).await;
    let cx = owner();
    let mut data = noise(1 << 20, 1).to_vec();
    let file = make(&volume, Ino::ROOT, "file", Bytes::from(data.clone())).await;
    let mut then = Vec::new();
    for round in 0..20_u64 {
        volume.snapshot_create(&cx, &format!("s{round}")).await.unwrap();
        then.push(data.clone());
        for n in 0..12_u64 {
            let at = ((n * 80_000 + round * 4096) % (1 << 20)) & !4095;
            let patch = noise(4096, round * 100 + n);
            data[at as usize..at as usize + 4096].copy_from_slice(&patch);
            write(&volume, file, at, patch).await;
        }
    }
    assert!(content(&*volume, file).await == data);
    sound(&volume).await;
    for (round, then) in then.iter().enumerate() {
        let view = volume.snapshot_view(&cx, &format!("s{round}")).await.unwrap();
        assert!(content(&*view, file).await == *then, "snapshot {round}");
        volume.snapshot_remove(&cx, &format!("s{round}")).await.unwrap();
    }
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    assert!(content(&*volume, file).await == data);
    volume.close().await.unwrap();
}

/// Many snapshots, looked into at the end: neither the head nor any of them is looked at through many layers.
#[tokio::test]
async fn many_snapshots_make_no_long_chains() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let (dir, file) = some_tree(&volume).await;
    let mut then = Vec::new();
    for round in 0..36_u64 {
        let old = name(&format!("n{}", round.saturating_sub(3)));
        make(&volume, dir, &format!("n{round}"), noise(100, round)).await;
        if round > 3 {
            volume.unlink(&cx, dir, &old).await.unwrap();
        }
        write(&volume, file, round * 512, noise(2000, round)).await;
        then.push(dump(&*volume, &Known::new()).await);
        volume.snapshot_create(&cx, &format!("s{round}")).await.unwrap();
    }
    volume.settle_layers().await.unwrap();
    let deep = volume.layers_deep().await.unwrap();
    assert!((2..=8).contains(&deep), "{deep} layers");
    sound(&volume).await;
    for (round, then) in then.iter().enumerate().step_by(9) {
        let view = volume.snapshot_view(&cx, &format!("s{round}")).await.unwrap();
        assert_eq!(dump(&*view, &Known::new()).await, *then, "snapshot {round}");
    }
    volume.close().await.unwrap();
    // What lay below can go, and nothing is missed.
    let volume = open(home.path()).await;
    let last = dump(&*volume, &Known::new()).await;
    for round in (0..36).filter(|round| round % 10 != 0) {
        volume.snapshot_remove(&cx, &format!("s{round}")).await.unwrap();
    }
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    for (round, then) in then.iter().enumerate().step_by(10) {
        let view = volume.snapshot_view(&cx, &format!("s{round}")).await.unwrap();
        assert_eq!(dump(&*view, &Known::new()).await, *then, "snapshot {round}");
    }
    assert_eq!(dump(&*volume, &Known::new()).await, last);
    volume.close().await.unwrap();
}

/// Writers never stop: each snapshot is of one moment, and layers go while the head is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_beside_writers_are_of_one_moment() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..3_u64 {
        let dir = name(&format!("d{writer}"));
        let dir = volume.create(&cx, Ino::ROOT, &dir, 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
        let pair =
            [make(&volume, dir, "first", number(0)).await, make(&volume, dir, "second", number(0)).await];
        let (volume, stop) = (volume.clone(), stop.clone());
        writers.push(tokio::spawn(async move {
            let mut count = 0_u64;
            while !stop.load(Ordering::Acquire) {
                count += 1;
                // The first is always written before the second, and names come and go beside them.
                write(&volume, pair[0], 0, number(count)).await;
                write(&volume, pair[1], 0, number(count)).await;
                let (old, new) = (format!("n{}", count - 1), format!("n{count}"));
                make(&volume, dir, &new, noise(9000, count)).await;
                match volume.unlink(&owner(), dir, &name(&old)).await {
                    Ok(_) => {}
                    Err(error) => assert!(count == 1 && matches!(error, StoreError::NotFound), "{error}"),
                }
            }
            (dir, count)
        }));
    }
    for round in 0..6 {
        let called = format!("s{round}");
        let info = volume.snapshot_create(&cx, &called).await.unwrap();
        let view = volume.snapshot_view(&cx, &called).await.unwrap();
        for writer in 0..3 {
            let dir = view.lookup(&cx, Ino::ROOT, &name(&format!("d{writer}"))).await.unwrap().ino;
            let mut seen = Vec::new();
            for called in ["first", "second"] {
                let ino = view.lookup(&cx, dir, &name(called)).await.unwrap().ino;
                let bytes = content(&*view, ino).await;
                seen.push(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
                assert!(bytes == number(seen[seen.len() - 1]), "a mixture of two writes");
            }
            assert!(seen[0] == seen[1] || seen[0] == seen[1] + 1, "{seen:?} is no moment");
        }
        let first = dump(&*view, &Known::new()).await;
        if round % 3 == 2 {
            volume.snapshot_remove(&cx, &format!("s{}", round - 1)).await.unwrap();
            volume.settle_layers().await.unwrap();
        }
        assert_eq!(dump(&*view, &Known::new()).await, first, "{info:?} changes");
        sound(&volume).await;
    }
    stop.store(true, Ordering::Release);
    for writer in writers {
        let (dir, count) = writer.await.unwrap();
        let (entries, _) = volume.readdir(&cx, dir, b"", 100, false).await.unwrap();
        let names: Vec<Name> = entries.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [name("first"), name(&format!("n{count}")), name("second")]);
        let second = volume.lookup(&cx, dir, &name("second")).await.unwrap().ino;
        assert!(content(&*volume, second).await == number(count));
    }
    for info in volume.snapshots(&cx).await.unwrap() {
        volume.snapshot_remove(&cx, &info.name).await.unwrap();
    }
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    volume.close().await.unwrap();
}

/// Bytes over several extents that all say one number.
fn number(number: u64) -> Bytes {
    Bytes::from(number.to_le_bytes().repeat(40_000))
}
