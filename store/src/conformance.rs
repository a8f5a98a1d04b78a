//! What every implementation of [`Objects`] (and so of [`Tree`](crate::api::Tree)) must do, as one suite: a volume, the oracle,
//! and whatever wraps one of them.
//!
//! Each case gets an empty tree with a root of mode 0755 and panics when a promise of [`crate::api`] is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

mod stores;

pub use stores::{on_directory, on_store};

use crate::api::{Authority, Caller, Condition, ListQuery, ObjectMeta, Objects, Put, Result, WriteAt};
use crate::error::StoreError;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, Ino, Name, NewNode, RenameMode, SetAttr, Time, XattrMode};
use std::sync::Arc;

struct Anyone;

impl Authority for Anyone {
    fn check(&self, _: Action, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }
}

struct Only(Action);

impl Authority for Only {
    fn check(&self, action: Action, _: Option<&[u8]>) -> Result<()> {
        if action == self.0 { Ok(()) } else { Err(StoreError::AccessDenied(action.to_string())) }
    }
}

fn owner() -> Caller {
    let now = Time { secs: 4_000_000_000, nanos: 0 };
    Caller { authority: Arc::new(Anyone), root: Ino::ROOT, confined: false, now, trace: 0 }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

async fn make(store: &dyn Objects, parent: Ino, called: &str, node: NewNode) -> Attr {
    store.create(&owner(), parent, &name(called), 0o755, (1, 2), &node).await.unwrap()
}

async fn dir(store: &dyn Objects, parent: Ino, called: &str) -> Ino {
    make(store, parent, called, NewNode::Dir).await.ino
}

async fn file(store: &dyn Objects, parent: Ino, called: &str, text: &str) -> Ino {
    let made = make(store, parent, called, NewNode::File { open: None }).await.ino;
    let data = Bytes::copy_from_slice(text.as_bytes());
    store.write(&owner(), made, WriteAt::Offset(0), data, None, false).await.unwrap();
    made
}

async fn text(store: &dyn Objects, ino: Ino) -> String {
    let (parts, _) = store.read(&owner(), ino, 0, 1 << 20).await.unwrap();
    String::from_utf8(parts.concat()).unwrap()
}

async fn put(store: &dyn Objects, key: &str, body: &str, when: &Condition) -> Result<Put> {
    let cx = owner();
    let staged = store.stage(&cx).await?;
    store.stage_write(&cx, staged, Bytes::copy_from_slice(body.as_bytes())).await?;
    store.put(&cx, staged, key.as_bytes(), format!("etag-{body}"), ObjectMeta::default(), when).await
}

async fn keys(store: &dyn Objects, cx: &Caller) -> Vec<String> {
    let page = store.list(cx, &ListQuery { limit: 1000, ..ListQuery::default() }).await.unwrap();
    page.objects.iter().map(|object| String::from_utf8(object.key.to_vec()).unwrap()).collect()
}

/// Times, versions and counts of a directory and a file move as POSIX says.
pub async fn attributes(store: &dyn Objects) {
    let before = store.getattr(&owner(), Ino::ROOT).await.unwrap();
    let sub = dir(store, Ino::ROOT, "sub").await;
    let after = store.getattr(&owner(), Ino::ROOT).await.unwrap();
    assert_eq!((before.nlink, after.nlink), (2, 3));
    assert!(after.version > before.version && after.mtime > before.mtime && after.ctime > before.ctime);
    let set = SetAttr { mode: Some(0o2775), gid: Some(77), ..SetAttr::default() };
    store.setattr(&owner(), sub, &set).await.unwrap();
    let below = make(store, sub, "below", NewNode::Dir).await;
    assert_eq!((below.gid, below.mode), (77, 0o2755), "group and bit are inherited");
    let file = file(store, sub, "file", "text").await;
    let old = store.getattr(&owner(), file).await.unwrap();
    store.write(&owner(), file, WriteAt::End, Bytes::from_static(b"more"), None, false).await.unwrap();
    let new = store.getattr(&owner(), file).await.unwrap();
    assert!(new.ctime > old.ctime, "a clock that stands still does not stop times");
    assert_eq!((old.size, new.size), (4, 8));
}

/// Renames replace, refuse, exchange, and never tie a knot.
pub async fn renames(store: &dyn Objects) {
    let cx = owner();
    let (a, b) = (dir(store, Ino::ROOT, "a").await, dir(store, Ino::ROOT, "b").await);
    let inner = dir(store, a, "inner").await;
    let one = file(store, a, "one", "1").await;
    file(store, b, "two", "2").await;
    let rename = |from: Ino, one: &'static str, to: Ino, two: &'static str, mode| {
        let cx = cx.clone();
        async move { store.rename(&cx, from, &name(one), to, &name(two), mode).await }
    };
    let knot = rename(Ino::ROOT, "a", inner, "x", RenameMode::Replace).await;
    assert!(matches!(knot, Err(StoreError::Invalid(_))));
    let taken = rename(a, "one", b, "two", RenameMode::NoReplace).await;
    assert!(matches!(taken, Err(StoreError::Exists)));
    rename(a, "one", b, "two", RenameMode::Exchange).await.unwrap();
    assert_eq!(text(store, store.lookup(&cx, a, &name("one")).await.unwrap().ino).await, "2");
    let done = rename(b, "two", a, "one", RenameMode::Replace).await.unwrap();
    assert_eq!((done.moved.ino, done.other.unwrap().nlink), (one, 0));
    assert!(matches!(
        rename(Ino::ROOT, "b", Ino::ROOT, "a", RenameMode::Replace).await,
        Err(StoreError::NotEmpty)
    ));
    rename(a, "inner", b, "inner", RenameMode::Replace).await.unwrap();
    let links = |ino| async move { store.getattr(&owner(), ino).await.unwrap().nlink };
    assert_eq!((links(a).await, links(b).await), (2, 3));
}

/// A file lives while it has a name or a handle.
pub async fn unlinked_files(store: &dyn Objects) {
    let cx = owner();
    let open = file(store, Ino::ROOT, "open", "still here").await;
    store.pin(&cx, open).await.unwrap();
    assert_eq!(store.unlink(&cx, Ino::ROOT, &name("open")).await.unwrap().nlink, 0);
    assert_eq!(text(store, open).await, "still here");
    assert_eq!(store.purge_orphans().await.unwrap(), 0);
    store.unpin(open).await.unwrap();
    assert!(matches!(store.getattr(&cx, open).await, Err(StoreError::Stale(_))));
    let linked = file(store, Ino::ROOT, "first", "twice").await;
    assert_eq!(store.link(&cx, linked, Ino::ROOT, &name("second")).await.unwrap().nlink, 2);
    assert_eq!(store.unlink(&cx, Ino::ROOT, &name("first")).await.unwrap().nlink, 1);
    assert_eq!(text(store, linked).await, "twice");
}

/// Attributes of attributes: modes, bounds, names.
pub async fn extended_attributes(store: &dyn Objects) {
    let cx = owner();
    let ino = file(store, Ino::ROOT, "f", "").await;
    let set = |value: Vec<u8>, mode| {
        let cx = cx.clone();
        async move { store.setxattr(&cx, ino, b"user.a", &value, mode).await }
    };
    assert!(matches!(set(vec![1], XattrMode::Replace).await, Err(StoreError::NoAttribute)));
    set(vec![1], XattrMode::Create).await.unwrap();
    assert!(matches!(set(vec![2], XattrMode::Create).await, Err(StoreError::Exists)));
    set(vec![7; 64 << 10], XattrMode::Set).await.unwrap();
    assert!(matches!(set(vec![7; (64 << 10) + 1], XattrMode::Set).await, Err(StoreError::TooLarge(_))));
    assert_eq!(store.getxattr(&cx, ino, b"user.a").await.unwrap().len(), 64 << 10);
    assert_eq!(store.listxattr(&cx, ino).await.unwrap(), ["user.a"]);
    store.removexattr(&cx, ino, b"user.a").await.unwrap();
    assert!(matches!(store.getxattr(&cx, ino, b"user.a").await, Err(StoreError::NoAttribute)));
}

/// Keys are the tree; what is no path is there too; directories come and go with objects.
pub async fn objects(store: &dyn Objects) {
    let cx = owner();
    let always = Condition::default();
    for key in [
        "p/q/r",
        "p//r",
        "p",
        "./x",
        "plain",
        "made/",
        &"long/".repeat(60),
        &format!("{}/x", "n".repeat(300)),
    ] {
        put(store, key, key, &always).await.unwrap();
        assert_eq!(text(store, store.head(&cx, key.as_bytes()).await.unwrap().ino).await, key);
    }
    let mut sorted = keys(store, &cx).await;
    assert!(sorted.is_sorted());
    assert_eq!(sorted.len(), 8);
    sorted.retain(|key| key.starts_with('p'));
    assert_eq!(sorted, ["p", "p//r", "p/q/r", "plain"]);
    let (entries, _) = store.readdir(&cx, Ino::ROOT, b"", 100, true).await.unwrap();
    let escaped = entries.iter().find(|entry| entry.name.as_bytes() == b"%:p").unwrap();
    assert_eq!(
        text(store, escaped.ino).await,
        "p",
        "an object beside a directory is a file with an escaped name"
    );
    assert!(store.lookup(&cx, Ino::ROOT, &name("p")).await.unwrap().nlink == 3);
    for key in keys(store, &cx).await {
        store.delete(&cx, key.as_bytes(), &always).await.unwrap().unwrap();
    }
    assert!(store.readdir(&cx, Ino::ROOT, b"", 100, false).await.unwrap().0.is_empty());
    assert!(store.delete(&cx, b"p", &always).await.unwrap().is_none());
    let marker = put(store, "m/", "", &always).await.unwrap().object;
    assert!(marker.marker && marker.size == 0);
    let inside = file(store, marker.ino, "inside", "x").await;
    store.delete(&cx, b"m/", &always).await.unwrap().unwrap();
    assert_eq!(keys(store, &cx).await, ["m/inside"], "a directory with entries stays, without its object");
    assert_eq!(store.head(&cx, b"m/inside").await.unwrap().ino, inside);
}

/// Conditions hold or nothing happens; a write through a mount makes the ETag another.
pub async fn conditions(store: &dyn Objects) {
    let cx = owner();
    let none = Condition { if_none_match: Some("*".into()), if_match: None };
    let first = put(store, "k", "one", &none).await.unwrap().object;
    assert!(matches!(put(store, "k", "two", &none).await, Err(StoreError::PreconditionFailed)));
    let that = |etag: &str| Condition { if_match: Some(etag.into()), if_none_match: None };
    assert!(matches!(put(store, "k", "two", &that("other")).await, Err(StoreError::PreconditionFailed)));
    assert!(matches!(put(store, "absent", "x", &that("*")).await, Err(StoreError::NotFound)));
    let second = put(store, "k", "two", &that(&first.etag)).await.unwrap();
    assert_eq!(second.replaced, Some(first.ino));
    store.write(&cx, second.object.ino, WriteAt::End, Bytes::from_static(b"!"), None, false).await.unwrap();
    let written = store.head(&cx, b"k").await.unwrap();
    assert_ne!(written.etag, second.object.etag);
    assert!(written.etag.ends_with("-1") && written.size == 4);
}

/// A grantee's world ends at its root; each right is asked for.
pub async fn confinement(store: &dyn Objects) {
    let (shared, other) = (dir(store, Ino::ROOT, "shared").await, dir(store, Ino::ROOT, "other").await);
    let (inside, outside) = (file(store, shared, "in", "in").await, file(store, other, "out", "out").await);
    let cx = Caller { root: shared, confined: true, ..owner() };
    assert!(store.getattr(&cx, inside).await.is_ok());
    for ino in [Ino::ROOT, other, outside] {
        assert!(matches!(store.getattr(&cx, ino).await, Err(StoreError::Stale(_))));
        assert!(store.read(&cx, ino, 0, 1).await.is_err());
    }
    let away = store.rename(&cx, shared, &name("in"), other, &name("in"), RenameMode::Replace).await;
    assert!(matches!(away, Err(StoreError::CrossDevice)));
    assert!(matches!(store.link(&cx, inside, other, &name("in")).await, Err(StoreError::CrossDevice)));
    assert_eq!(keys(store, &cx).await, ["in"]);
    store.rename(&owner(), shared, &name("in"), other, &name("in"), RenameMode::Replace).await.unwrap();
    assert!(matches!(store.getattr(&cx, inside).await, Err(StoreError::Stale(_))), "moved out of the share");
    let reader = Caller { authority: Arc::new(Only(Action::Read)), ..owner() };
    assert!(store.read(&reader, inside, 0, 10).await.is_ok());
    assert!(matches!(store.unlink(&reader, other, &name("in")).await, Err(StoreError::AccessDenied(_))));
    assert!(matches!(store.stage(&reader).await, Err(StoreError::AccessDenied(_))));
}

/// Runs every case, each on a store of its own.
pub async fn all<F: Future<Output = Arc<dyn Objects>>>(fresh: impl Fn() -> F) {
    attributes(&*fresh().await).await;
    renames(&*fresh().await).await;
    unlinked_files(&*fresh().await).await;
    extended_attributes(&*fresh().await).await;
    objects(&*fresh().await).await;
    conditions(&*fresh().await).await;
    confinement(&*fresh().await).await;
}
