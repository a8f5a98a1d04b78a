//! The trash: nothing that loses its last name is lost, and what is thrown away is freed exactly.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino, NewNode, RenameMode, Time};
use mooring_store::api::{Caller, Objects, Snapshots, Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::volume::{Trashed, Volume};
use volumes::dump::{Known, content, dump};
use volumes::{at, directory, name, open, owner};

async fn file(volume: &Volume, parent: Ino, called: &str, data: &str) -> Ino {
    let node = NewNode::File { open: None };
    let ino = volume.create(&owner(), parent, &name(called), 0o644, (0, 0), &node).await.unwrap().ino;
    let data = Bytes::copy_from_slice(data.as_bytes());
    volume.write(&owner(), ino, WriteAt::Offset(0), data, None, false).await.unwrap();
    ino
}

async fn folder(volume: &Volume, parent: Ino, called: &str) -> Ino {
    volume.create(&owner(), parent, &name(called), 0o755, (1, 2), &NewNode::Dir).await.unwrap().ino
}

async fn put(volume: &Volume, key: &str, data: &str) {
    let staged = volume.stage(&owner()).await.unwrap();
    volume.stage_write(&owner(), staged, Bytes::copy_from_slice(data.as_bytes())).await.unwrap();
    let (meta, when) = Default::default();
    volume.put(&owner(), staged, key.as_bytes(), "e".into(), meta, &when).await.unwrap();
}

/// All that is in the trash, read in small pages.
async fn trash(volume: &Volume) -> Vec<Trashed> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let (page, next) = volume.trash_page(&owner(), from, 2).await.unwrap();
        all.extend(page);
        if next.is_none() {
            return all;
        }
        from = next;
    }
}

async fn paths(volume: &Volume) -> Vec<String> {
    let path = |t: Trashed| String::from_utf8(t.path.unwrap_or_else(|| b"?".to_vec())).unwrap();
    let mut paths: Vec<String> = trash(volume).await.into_iter().map(path).collect();
    paths.sort();
    paths
}

async fn sound(volume: &Volume) {
    assert_eq!(volume.check().await.unwrap().findings, []);
}

/// Removes a directory as `rm -r` does.
async fn remove_all(volume: &Volume, parent: Ino, called: &str) {
    let cx = owner();
    let dir = volume.lookup(&cx, parent, &name(called)).await.unwrap().ino;
    for entry in volume.readdir(&cx, dir, b"", 100, false).await.unwrap().0 {
        match entry.kind {
            FileKind::Dir => {
                let called = String::from_utf8(entry.name.as_bytes().to_vec()).unwrap();
                Box::pin(remove_all(volume, dir, &called)).await;
            }
            _ => drop(volume.unlink(&cx, dir, &entry.name).await.unwrap()),
        }
    }
    volume.rmdir(&cx, parent, &name(called)).await.unwrap();
}

#[tokio::test]
async fn a_tree_that_was_removed_comes_back_as_it_was() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    volume.set_trash(true);
    let top = folder(&volume, Ino::ROOT, "top").await;
    let deep = folder(&volume, top, "deep").await;
    let note = file(&volume, deep, "note", "a note").await;
    file(&volume, top, "large", &"many bytes ".repeat(40_000)).await;
    let link = NewNode::Symlink { target: b"deep/note".to_vec() };
    volume.create(&cx, top, &name("link"), 0o777, (0, 0), &link).await.unwrap();
    put(&volume, "top/deep//odd", "no path").await;
    let shown = dump(&*volume, &Known::new()).await.len();
    let used = volume.used();
    remove_all(&volume, Ino::ROOT, "top").await;
    assert!(matches!(volume.lookup(&cx, Ino::ROOT, &name("top")).await, Err(StoreError::NotFound)));
    assert_eq!(volume.used(), used, "what lies in the trash counts");
    let expected = ["top", "top/deep", "top/deep/note", "top/large", "top/link"];
    let seen = paths(&volume).await;
    assert!(expected.iter().all(|path| seen.iter().any(|seen| seen == path)), "{seen:?}");
    assert_eq!(seen.len(), 6);
    sound(&volume).await;
    volume.close().await.unwrap();

    // It lives through a restart, which frees other files without a name.
    let volume = open(home.path()).await;
    volume.set_trash(true);
    assert_eq!(volume.purge_orphans().await.unwrap(), 0);
    assert_eq!(trash(&volume).await.len(), 6);
    // One file brings back the directories it was in, and nothing else.
    let back = volume.trash_restore(&cx, note, None).await.unwrap();
    assert_eq!((back.restored, back.path.as_slice()), (3, b"top/deep/note".as_slice()));
    assert_eq!(content(&*volume, note).await, b"a note".as_slice());
    sound(&volume).await;
    // Removed once more, the topmost brings back all.
    remove_all(&volume, Ino::ROOT, "top").await;
    let back = volume.trash_restore(&cx, top, None).await.unwrap();
    assert_eq!((back.restored, back.skipped), (6, 0));
    assert_eq!(trash(&volume).await, []);
    assert_eq!(dump(&*volume, &Known::new()).await.len(), shown);
    assert_eq!(volume.head(&cx, b"top/deep//odd").await.unwrap().size, 7);
    assert_eq!(volume.used(), used);
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test]
async fn whatever_takes_the_last_name_leaves_the_file_in_the_trash() {
    let home = directory();
    let volume = open(home.path()).await;
    let cx = owner();
    let before = file(&volume, Ino::ROOT, "before", "gone for good").await;
    volume.unlink(&cx, Ino::ROOT, &name("before")).await.unwrap();
    assert!(matches!(volume.trash_restore(&cx, before, None).await, Err(StoreError::NotFound)));
    volume.set_trash(true);
    let over = file(&volume, Ino::ROOT, "over", "was replaced").await;
    file(&volume, Ino::ROOT, "new", "replaces").await;
    volume.rename(&cx, Ino::ROOT, &name("new"), Ino::ROOT, &name("over"), RenameMode::Replace).await.unwrap();
    put(&volume, "dir/object", "first").await;
    put(&volume, "dir/object", "second").await;
    volume.delete(&cx, b"dir/object", &Default::default()).await.unwrap();
    let linked = file(&volume, Ino::ROOT, "one", "two names").await;
    volume.link(&cx, linked, Ino::ROOT, &name("two")).await.unwrap();
    volume.unlink(&cx, Ino::ROOT, &name("one")).await.unwrap();
    assert_eq!(paths(&volume).await, ["dir", "dir/object", "dir/object", "over"]);
    sound(&volume).await;

    // Its name is taken: it comes back elsewhere, or not.
    assert!(matches!(volume.trash_restore(&cx, over, None).await, Err(StoreError::Exists)));
    let aside = folder(&volume, Ino::ROOT, "aside").await;
    let back = volume.trash_restore(&cx, over, Some(aside)).await.unwrap();
    assert_eq!(back.path, b"aside/over");
    assert_eq!(content(&*volume, over).await, b"was replaced".as_slice());
    // Of two of one name the newest, and a directory that is there again takes the place of the old one.
    put(&volume, "dir/other", "third").await;
    let newest =
        trash(&volume).await.into_iter().filter(|t| t.name == b"object").max_by_key(|t| t.ino).unwrap();
    let back = volume.trash_restore(&cx, newest.ino, None).await.unwrap();
    assert_eq!((back.restored, back.path.as_slice()), (1, b"dir/object".as_slice()));
    assert_eq!(content(&*volume, newest.ino).await, b"second".as_slice());
    sound(&volume).await;

    // A grantee finds nothing there, by number either; and may bring nothing back.
    let foreign = Caller { root: aside, confined: true, ..owner() };
    volume.unlink(&cx, aside, &name("over")).await.unwrap();
    assert!(volume.getattr(&foreign, over).await.is_err());
    assert!(volume.read(&foreign, over, 0, 10).await.is_err());
    assert!(volume.trash_page(&foreign, None, 10).await.is_err());
    assert!(volume.trash_restore(&foreign, over, None).await.is_err());
    volume.close().await.unwrap();
}

#[tokio::test]
async fn what_is_thrown_away_is_freed_and_nothing_else() {
    let home = directory();
    let volume = open(home.path()).await;
    volume.set_trash(true);
    let empty = (volume.used(), volume.space().stored_bytes);
    let later = |secs| Caller { now: Time { secs, nanos: 0 }, ..at(secs) };
    for (called, secs) in [("old", 2_000), ("open", 2_000), ("new", 9_000)] {
        file(&volume, Ino::ROOT, called, &called.repeat(50_000)).await;
        if called == "open" {
            let ino = volume.lookup(&owner(), Ino::ROOT, &name(called)).await.unwrap().ino;
            volume.pin(&owner(), ino).await.unwrap();
        }
        volume.unlink(&later(secs), Ino::ROOT, &name(called)).await.unwrap();
    }
    let open_one = trash(&volume).await.into_iter().find(|t| t.name == b"open").unwrap().ino;
    volume.snapshot_create(&owner(), "kept").await.unwrap();
    let done = volume.trash_empty(&owner(), Some(Time { secs: 5_000, nanos: 0 })).await.unwrap();
    assert_eq!((done.removed, done.oldest), (2, Some(Time { secs: 9_000, nanos: 0 })));
    assert_eq!(paths(&volume).await, ["new"]);
    // Who has it open reads on.
    assert_eq!(content(&*volume, open_one).await, "open".repeat(50_000).as_bytes());
    volume.unpin(open_one).await.unwrap();
    assert!(matches!(volume.getattr(&owner(), open_one).await, Err(StoreError::Stale(_))));
    sound(&volume).await;
    // What a snapshot has of the trash goes with the snapshot.
    volume.snapshot_restore(&owner(), "kept").await.unwrap();
    assert_eq!(paths(&volume).await, ["new", "old", "open"]);
    volume.trash_empty(&owner(), None).await.unwrap();
    volume.snapshot_remove(&owner(), "kept").await.unwrap();
    volume.settle_layers().await.unwrap();
    sound(&volume).await;
    assert_eq!((volume.used(), volume.space().stored_bytes), empty);
    volume.close().await.unwrap();
}
