//! Listings with attributes: they say what single look-ups say, and ask the engine much less.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use mooring_protocol::types::{DirEntry, Ino, NewNode, RenameMode, SetAttr};
use mooring_store::api::{Objects, Snapshots, Tree};
use mooring_store::volume::Config;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use volumes::counting::{Counting, volume};
use volumes::{directory, name, open, owner};

const FILES: u64 = 3000;

/// So little that nearly nothing is cached.
const LITTLE: u64 = 64 << 10;

async fn make<T: Tree + ?Sized>(volume: &T, parent: Ino, called: &str, node: &NewNode) -> Ino {
    volume.create(&owner(), parent, &name(called), 0o644, (0, 0), node).await.unwrap().ino
}

async fn list<T: Tree + ?Sized>(volume: &T, parent: Ino, page: usize) -> Vec<DirEntry> {
    let (mut cursor, mut all) = (Vec::new(), Vec::new());
    loop {
        let (entries, end) = volume.readdir(&owner(), parent, &cursor, page, true).await.unwrap();
        cursor = entries.last().map_or_else(Vec::new, |last| last.cursor().to_vec());
        all.extend(entries);
        if end {
            return all;
        }
    }
}

/// Each entry has the attributes that asking for the inode alone gives.
async fn is_true<T: Tree + ?Sized>(volume: &T, parent: Ino, page: usize) -> BTreeMap<String, DirEntry> {
    let listed = list(volume, parent, page).await;
    for entry in &listed {
        let alone = volume.getattr(&owner(), entry.ino).await.unwrap();
        assert_eq!(entry.attr.as_ref(), Some(&alone), "{:?}", entry.name);
    }
    let called = |entry: DirEntry| (String::from_utf8_lossy(entry.name.as_bytes()).into_owned(), entry);
    listed.into_iter().map(called).collect()
}

/// Files in an order, some of them gone, some elsewhere, some with two names, some changed.
async fn untidy<T: Tree + ?Sized>(volume: &T, dir: Ino, other: Ino) {
    let (cx, file) = (owner(), NewNode::File { open: None });
    for n in 0..600 {
        let ino = make(volume, dir, &format!("file-{n:04}"), &file).await;
        if n % 50 == 0 {
            make(volume, dir, &format!("dir-{n:04}"), &NewNode::Dir).await;
            volume.link(&cx, ino, dir, &name(&format!("link-{n:04}"))).await.unwrap();
        }
        // Their numbers lie between.
        for m in 0..n % 40 / 13 {
            make(volume, other, &format!("other-{n:04}-{m}"), &file).await;
        }
    }
    for n in (0..600).filter(|n| n % 7 == 3) {
        volume.unlink(&cx, dir, &name(&format!("file-{n:04}"))).await.unwrap();
    }
    for n in (0..600).filter(|n| n % 61 == 4 && n % 7 != 3) {
        let (from, to) = (name(&format!("file-{n:04}")), name(&format!("away-{n:04}")));
        volume.rename(&cx, dir, &from, other, &to, RenameMode::Replace).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_says_what_single_look_ups_say() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let dir = make(&*volume, Ino::ROOT, "dir", &NewNode::Dir).await;
    let other = make(&*volume, Ino::ROOT, "other", &NewNode::Dir).await;
    untidy(&*volume, dir, other).await;
    let before = is_true(&*volume, dir, 100).await;
    volume.snapshot_create(&cx, "then").await.unwrap();
    for entry in before.values().step_by(3) {
        let wide = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        volume.setattr(&cx, entry.ino, &wide).await.unwrap();
    }
    let gone: Vec<&String> = before.keys().filter(|called| called.starts_with("file-01")).collect();
    for called in &gone {
        volume.unlink(&cx, dir, &name(called)).await.unwrap();
    }
    volume.close().await.unwrap();
    // Nothing is cached, and there are two layers.
    for page in [7, 100, 4096] {
        let volume = open(home.path()).await;
        let now = is_true(&*volume, dir, page).await;
        assert_eq!(now.len(), before.len() - gone.len());
        assert!(now.values().any(|entry| entry.attr.as_ref().unwrap().mode == 0o600));
        is_true(&*volume, other, page).await;
        let view = volume.snapshot_view(&cx, "then").await.unwrap();
        let then = is_true::<dyn Objects>(&*view, dir, page).await;
        assert_eq!(then.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert!(then.values().all(|entry| entry.attr.as_ref().unwrap().mode != 0o600));
        drop(view);
        volume.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_listing_reads_rows_that_lie_together_in_one_go() {
    let home = directory();
    let meta = Arc::new(Counting::default());
    let volume = volume(home.path(), meta.clone(), LITTLE, Config::default()).await;
    let dir = make(&*volume, Ino::ROOT, "dir", &NewNode::Dir).await;
    for n in 0..FILES {
        make(&*volume, dir, &format!("file-{n:06}"), &NewNode::File { open: None }).await;
    }
    let count = || (meta.asked.load(Ordering::SeqCst), meta.scanned.load(Ordering::SeqCst));
    let before = count();
    assert_eq!(list(&*volume, dir, 1000).await.len() as u64, FILES);
    let after = count();
    let (asked, scanned) = (after.0 - before.0, after.1 - before.1);
    assert!(asked <= 40, "{asked} questions for {FILES} entries");
    assert!(scanned <= 2 * FILES + 100, "{scanned} rows read for {FILES} entries");
    volume.close().await.unwrap();
}
