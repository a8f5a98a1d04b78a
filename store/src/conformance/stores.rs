//! What every place for volumes must do: a local directory, a directory that is used as a store, an S3 of any make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

use super::{all, file, name, owner, text};
use crate::api::{Objects, Tree, WriteAt};
use crate::backend::{Backing, VolumeDir};
use crate::error::StoreError;
use crate::memory::Memory;
use crate::realm::Durability;
use crate::seal::TenantKey;
use crate::volume::{Config, LocalOptions, StoreOptions, Volume};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use mooring_policy::ids::{TenantId, VolumeId};
use mooring_policy::rng::{Random, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One page of a listing has 1,000 names on every S3.
const MANY: usize = 1_100;
/// Requests at a time.
const SIDE_BY_SIDE: usize = 16;
const RACERS: usize = 8;
const RACES: usize = 10;

/// A place for volumes, and the host's directories beside it.
struct Ground<'a> {
    backing: Option<&'a Backing>,
    dir: &'a Path,
    key: TenantKey,
    next: AtomicU64,
}

impl Ground<'_> {
    fn local(&self, id: u64, host: &str) -> LocalOptions {
        LocalOptions {
            dir: VolumeDir::at(self.dir.join(format!("{host}-{id}"))),
            keys: self.key.volume(VolumeId(id)),
            memory: Memory::new(64 << 20),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock::new()),
            config: Config::default(),
        }
    }

    /// Opens volume `id` on a host.
    async fn open(&self, id: u64, host: &str) -> Arc<Volume> {
        let local = self.local(id, host);
        let Some(backing) = self.backing else { return Volume::open_local(local).await.unwrap() };
        let tenant: TenantId = "conformance".parse().unwrap();
        let (place, class) = (backing.volume(&tenant, VolumeId(id)), Durability::Store);
        let options = StoreOptions { place, local, class, accept_loss: false, owner: host.to_owned() };
        Volume::open_on(options).await.unwrap()
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn run(&self) {
        all(|| async { self.open(self.fresh(), "a").await as Arc<dyn Objects> }).await;
        self.closed_and_killed().await;
        if self.backing.is_some() {
            self.lost_and_fenced().await;
        }
    }

    /// What was closed opens; what was synced is there when the process is killed, as its disk was at that moment.
    async fn closed_and_killed(&self) {
        let id = self.fresh();
        let volume = self.open(id, "a").await;
        write_all(&volume, 1).await;
        volume.close().await.unwrap();
        drop(volume);
        let volume = self.open(id, "a").await;
        check_all(&volume, 1).await;
        write_all(&volume, 2).await;
        let from = self.local(id, "a").dir.path().to_path_buf();
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(from).arg(self.local(id, "b").dir.path());
        assert!(copy.status().unwrap().success());
        drop(volume);
        let volume = self.open(id, "b").await;
        check_all(&volume, 1).await;
        check_all(&volume, 2).await;
        volume.close().await.unwrap();
    }

    /// What was synced is there without the host; who wrote before writes no more.
    async fn lost_and_fenced(&self) {
        let id = self.fresh();
        let first = self.open(id, "a").await;
        write_all(&first, 1).await;
        let second = self.open(id, "another").await;
        check_all(&second, 1).await;
        file(&*first, Ino::ROOT, "late", "not any more").await;
        assert!(matches!(first.sync().await, Err(StoreError::Fenced)), "two write one volume");
        write_all(&second, 2).await;
        check_all(&second, 2).await;
        assert!(matches!(second.lookup(&owner(), Ino::ROOT, &name("late")).await, Err(StoreError::NotFound)));
        second.close().await.unwrap();
    }
}

const LENGTHS: [usize; 5] = [0, 100, 5_000, 300_000, 3 << 20];

fn content(round: u64, len: usize) -> Bytes {
    (0..len).map(|at| (at as u64).wrapping_mul(0x9e37_79b9 + round).to_le_bytes()[2]).collect()
}

/// Files of every size, a name that changed, one that went, and an attribute; durable on return.
async fn write_all(volume: &Volume, round: u64) {
    let cx = owner();
    let node = NewNode::Dir;
    let dir = volume.create(&cx, Ino::ROOT, &name(&format!("round-{round}")), 0o755, (1, 2), &node).await;
    let dir = dir.unwrap().ino;
    for len in LENGTHS {
        let made = file(volume, dir, &format!("file-{len}"), "").await;
        volume.write(&cx, made, WriteAt::Offset(0), content(round, len), None, false).await.unwrap();
        volume.fsync(&cx, made).await.unwrap();
    }
    file(volume, dir, "gone", "x").await;
    volume.unlink(&cx, dir, &name("gone")).await.unwrap();
    file(volume, dir, "old", "moved").await;
    volume.rename(&cx, dir, &name("old"), dir, &name("new"), RenameMode::Replace).await.unwrap();
    volume.sync().await.unwrap();
    let marks = volume.watermarks();
    assert_eq!(marks.stored, marks.received, "synced and not stored");
}

async fn check_all(volume: &Volume, round: u64) {
    let cx = owner();
    let dir = volume.lookup(&cx, Ino::ROOT, &name(&format!("round-{round}"))).await.unwrap().ino;
    for len in LENGTHS {
        let found = volume.lookup(&cx, dir, &name(&format!("file-{len}"))).await.unwrap();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < found.size {
            let (parts, _) = volume.read(&cx, found.ino, bytes.len() as u64, 1 << 20).await.unwrap();
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
        }
        assert!(bytes == content(round, len), "{len} bytes of round {round} differ");
    }
    let moved = volume.lookup(&cx, dir, &name("new")).await.unwrap().ino;
    assert_eq!(text(volume, moved).await, "moved");
    for gone in ["old", "gone"] {
        assert!(matches!(volume.lookup(&cx, dir, &name(gone)).await, Err(StoreError::NotFound)));
    }
    let report = volume.check().await.unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// Runs everything on volumes in a local directory.
pub async fn on_directory(dir: &Path) {
    let key = TenantKey::generate(&SystemRandom);
    Ground { backing: None, dir, key, next: 1.into() }.run().await;
}

/// Runs everything on an object store, with `dir` for the hosts' directories beside it.
pub async fn on_store(backing: &Backing, dir: &Path) {
    facts(backing).await;
    let key = TenantKey::generate(&SystemRandom);
    Ground { backing: Some(backing), dir, key, next: 1.into() }.run().await;
}

/// What is asked of the store itself, beyond what is examined at each start.
async fn facts(backing: &Backing) {
    let mut unique = [0; 8];
    SystemRandom.fill(&mut unique);
    let at = backing.root().clone().join(format!("facts-{}", hex::encode(unique)));
    let store = backing.store().as_ref();
    one_of_many_creates(store, &at).await;
    ranges_are_what_was_asked_for(store, &at.clone().join("ranges")).await;
    listings_are_complete(store, &at.clone().join("many")).await;
}

async fn one_of_many_creates(store: &dyn ObjectStore, at: &Key) {
    for race in 0..RACES {
        let key = at.clone().join(format!("race-{race}"));
        let put = |racer: usize| {
            let (key, body) = (key.clone(), vec![racer as u8; 10_000 * (1 + race % 3)]);
            async move { store.put_opts(&key, body.into(), PutMode::Create.into()).await.is_ok().then_some(racer) }
        };
        let winners = futures::future::join_all((0..RACERS).map(put)).await;
        let winners: Vec<usize> = winners.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "race {race}");
        let found = store.get(&key).await.unwrap().bytes().await.unwrap();
        assert!(found.iter().all(|byte| usize::from(*byte) == winners[0]), "race {race}");
        store.delete(&key).await.unwrap();
        // Gone is gone: others say so, or say nothing.
        assert!(matches!(store.delete(&key).await, Ok(()) | Err(object_store::Error::NotFound { .. })));
        let again = store.put_opts(&key, Bytes::from_static(b"new").into(), PutMode::Create.into()).await;
        again.expect("what was deleted can be created");
        store.delete(&key).await.unwrap();
    }
}

async fn ranges_are_what_was_asked_for(store: &dyn ObjectStore, key: &Key) {
    let whole = content(7, 12 << 20);
    store.put(key, whole.clone().into()).await.unwrap();
    assert_eq!(store.head(key).await.unwrap().size, whole.len() as u64);
    let end = whole.len() as u64;
    let ranges =
        [(GetRange::Bounded(0..1), 0..1), (GetRange::Bounded(5_000_000..9_000_001), 5_000_000..9_000_001)];
    let open = [(GetRange::Bounded(end - 10..end + 10), end - 10..end), (GetRange::Suffix(7), end - 7..end)];
    for (range, wanted) in ranges.into_iter().chain(open) {
        let options = GetOptions { range: Some(range.clone()), ..GetOptions::default() };
        let found = store.get_opts(key, options).await.unwrap().bytes().await.unwrap();
        assert!(found == whole.slice(wanted.start as usize..wanted.end as usize), "{range:?}");
    }
    store.delete(key).await.unwrap();
}

async fn listings_are_complete(store: &dyn ObjectStore, at: &Key) {
    let key = |number: usize| at.clone().join(format!("{number:05}"));
    let puts = (0..MANY).map(|number| async move { store.put(&key(number), vec![1; 10].into()).await });
    let put: Vec<_> = futures::stream::iter(puts).buffer_unordered(SIDE_BY_SIDE).try_collect().await.unwrap();
    assert_eq!(put.len(), MANY);
    let listed = |from: Option<usize>| async move {
        let found = match from {
            None => store.list(Some(at)),
            Some(from) => store.list_with_offset(Some(at), &key(from)),
        };
        let mut found: Vec<Key> = found.map_ok(|found| found.location).try_collect().await.unwrap();
        found.sort_unstable();
        found
    };
    assert!(listed(None).await == (0..MANY).map(key).collect::<Vec<_>>(), "the listing is not what was put");
    assert!(listed(Some(1_050)).await == (1_051..MANY).map(key).collect::<Vec<_>>());
    let all = futures::stream::iter((0..MANY).map(move |number| Ok(key(number))).collect::<Vec<_>>());
    let gone = store.delete_stream(all.boxed()).count().await;
    assert_eq!(gone, MANY);
    assert!(listed(None).await.is_empty(), "what was deleted is listed");
}
