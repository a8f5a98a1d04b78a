//! The checker finds what is wrong, says which files it hurts, and mends what can be counted again.
//!
//! Rows and packs of a sound volume are changed behind its back, one thing at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::VolumeDir;
use mooring_store::keys::counter::{self, Counter};
use mooring_store::keys::{Layer, backlink, dentry, extent, frozen, inode, pack, xattr};
use mooring_store::memory::Memory;
use mooring_store::meta::{Batch, MemoryMeta, Meta, prefix_end};
use mooring_store::pack::{ExtentCache, PACK_BYTES, PackOptions, PackStore};
use mooring_store::volume::{CheckOptions, Config, FindingKind, Parts, Progress, Report, Volume};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use volumes::{directory, keys, name, owner};

/// A volume whose rows a test can change behind its back.
struct Behind {
    dir: tempfile::TempDir,
    rows: Arc<MemoryMeta>,
    volume: Arc<Volume>,
}

async fn open(dir: &Path, rows: Arc<MemoryMeta>) -> Arc<Volume> {
    let home = VolumeDir::at(dir.join("volume"));
    home.prepare().unwrap();
    let options = PackOptions {
        dir: home.packs(),
        keys: keys(),
        epoch: 1,
        random: Arc::new(SystemRandom),
        cache: ExtentCache::new(1 << 20),
        pack_bytes: PACK_BYTES,
    };
    let packs = PackStore::open(options).await.unwrap();
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let memory = Memory::new(8 << 20);
    // A map of two rows is shared as a whole.
    let config = Config { few_rows: 1, ..Config::default() };
    Volume::open(Parts { meta: rows, packs, memory, clock, random, config }).await.unwrap()
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

async fn file(volume: &Volume, parent: Ino, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), parent, &name(called), 0o644, (0, 0), &node).await.unwrap().ino;
    volume.write(&owner(), made, WriteAt::End, data, None, false).await.unwrap();
    made
}

impl Behind {
    /// With `/dir/file` of 300,000 bytes, `/dir/other` and `/small`.
    async fn new() -> Behind {
        let (dir, rows) = (directory(), Arc::new(MemoryMeta::new()));
        let volume = open(dir.path(), rows.clone()).await;
        let sub = volume.create(&owner(), Ino::ROOT, &name("dir"), 0o755, (0, 0), &NewNode::Dir).await;
        let sub = sub.unwrap().ino;
        file(&volume, sub, "file", noise(1, 300_000)).await;
        file(&volume, sub, "other", noise(2, 50_000)).await;
        file(&volume, Ino::ROOT, "small", Bytes::from_static(b"small")).await;
        let behind = Behind { dir, rows, volume };
        assert_eq!(behind.check(true).await.findings, []);
        behind
    }

    async fn check(&self, data: bool) -> Report {
        self.volume.check_with(&CheckOptions { data }, &Progress::default()).await.unwrap()
    }

    async fn ino(&self, path: &str) -> Ino {
        let (mut at, cx) = (Ino::ROOT, owner());
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = self.volume.lookup(&cx, at, &name(part)).await.unwrap().ino;
        }
        at
    }

    async fn change(&self, change: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        change(&mut batch);
        self.rows.commit(batch).await.unwrap();
    }

    async fn under(&self, prefix: Vec<u8>) -> Vec<(Bytes, Bytes)> {
        self.rows.scan(&prefix, &prefix_end(&prefix), 1000).await.unwrap()
    }

    fn packs(&self) -> Vec<PathBuf> {
        let dir = self.dir.path().join("volume/packs");
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// The kinds of what was found, and that this file is named.
fn found(report: &Report, path: &str) -> Vec<FindingKind> {
    assert!(!report.findings.is_empty() && report.total == report.findings.len() as u64);
    let named = report.findings.iter().any(|finding| finding.paths.iter().any(|known| known == path));
    assert!(named, "{path} is not named: {:#?}", report.findings);
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_its_inode_or_the_way_back_is_found() {
    let behind = Behind::new().await;
    let (dir, file) = (behind.ino("dir").await, behind.ino("dir/file").await);
    let back = backlink::key(Layer::FIRST, file, dir, b"file");
    behind
        .change(|batch| {
            batch.delete(back);
        })
        .await;
    assert_eq!(found(&behind.check(false).await, "/dir/file"), [FindingKind::Namespace]);
    behind
        .change(|batch| {
            batch.put(backlink::key(Layer::FIRST, file, dir, b"file"), backlink::encode());
            batch.delete(dentry::key(Layer::FIRST, dir, b"other", false));
        })
        .await;
    // The name is gone: the directory that counts it is named, and the inode as one without a name.
    let report = behind.check(false).await;
    assert!(found(&report, "/dir").iter().all(|kind| *kind == FindingKind::Namespace));
    assert!(report.findings.iter().any(|finding| finding.paths[0].contains("without a name")));
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_in_a_circle_are_found() {
    let behind = Behind::new().await;
    let cx = owner();
    let (dir, root) = (behind.ino("dir").await, Ino::ROOT);
    let inner =
        behind.volume.create(&cx, dir, &name("inner"), 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
    // What a rename of `dir` into `inner` would have done.
    let value = behind.rows.get(&dentry::key(Layer::FIRST, root, b"dir", true)).await.unwrap().unwrap();
    let row = behind.rows.get(&inode::key(Layer::FIRST, dir)).await.unwrap().unwrap();
    let mut moved = inode::decode(&row).unwrap();
    moved.parent = inner.get();
    behind
        .change(|batch| {
            batch.delete(dentry::key(Layer::FIRST, root, b"dir", true));
            batch.delete(backlink::key(Layer::FIRST, dir, root, b"dir"));
            batch.put(dentry::key(Layer::FIRST, inner, b"dir", true), value);
            batch.put(backlink::key(Layer::FIRST, dir, inner, b"dir"), backlink::encode());
            batch.put(inode::key(Layer::FIRST, dir), inode::encode(&moved));
        })
        .await;
    let report = behind.check(false).await;
    let circle = |text: &str| text.contains("does not lead to the root");
    assert!(report.findings.iter().any(|finding| circle(&finding.what)), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_found_when_they_are_read_and_named_by_file() {
    let behind = Behind::new().await;
    let (source, clone) =
        (behind.ino("dir/file").await, file(&behind.volume, Ino::ROOT, "clone", Bytes::new()).await);
    behind.volume.copy_range(&owner(), (source, 0), (clone, 0), 300_000).await.unwrap();
    let half = file(&behind.volume, Ino::ROOT, "half", Bytes::new()).await;
    behind.volume.copy_range(&owner(), (source, 131_072), (half, 0), 300_000).await.unwrap();
    assert!(!behind.under(frozen::key(source.get())).await.is_empty(), "the map is shared as a whole");
    let rows = behind.under(extent::prefix()).await;
    let places =
        rows.iter().map(|(key, value)| extent::decode(extent::parse(key).unwrap(), value).unwrap().place);
    let first = places.min_by_key(|place| place.offset).unwrap();
    let pack = behind.packs().remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[first.offset as usize + 100] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    assert_eq!(behind.check(false).await.findings, [], "names and places are right");
    let report = behind.check(true).await;
    for path in ["/dir/file", "/clone"] {
        assert_eq!(found(&report, path), [FindingKind::Data]);
    }
    assert!(!report.findings[0].paths.contains(&"/half".to_owned()), "it shows the other half");
    assert!(report.findings[0].what.contains(&first.pack.to_string()), "{}", report.findings[0]);
    assert_eq!(report.repairable(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_reverse_map_and_a_pack_that_is_gone_are_found() {
    let dir = directory();
    let volume = volumes::open(dir.path()).await;
    file(&volume, Ino::ROOT, "file", noise(1, 300_000)).await;
    volume.close().await.unwrap();
    let home = dir.path().join("volume/packs");
    let pack = std::fs::read_dir(&home).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&pack).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 50;
    bytes[last] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let volume = volumes::open(dir.path()).await;
    let report = volume.check_with(&CheckOptions { data: true }, &Progress::default()).await.unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Packs], "the bytes themselves are right: {:#?}", report.findings);
    volume.close().await.unwrap();
    std::fs::remove_file(&pack).unwrap();
    let volume = volumes::open(dir.path()).await;
    let report = volume.check().await.unwrap();
    assert!(found(&report, "/file").iter().all(|kind| *kind == FindingKind::Packs));
    volume.close().await.unwrap();
    std::fs::write(&pack, whole).unwrap();
    let volume = volumes::open(dir.path()).await;
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_and_rows_of_nobody_are_found_and_mended() {
    let behind = Behind::new().await;
    let rows = behind.under(extent::prefix()).await;
    let [(one, used), (two, lost)] = [rows[0].clone(), rows[1].clone()];
    let [mut used, lost] = [(&one, used), (&two, lost)]
        .map(|(key, value)| extent::decode(extent::parse(key).unwrap(), &value).unwrap());
    used.refs += 5;
    let mut stray = extent::parse(&two).unwrap();
    stray.hash[0] ^= 1;
    let nobody = Ino::new(9_999).unwrap();
    behind
        .change(|batch| {
            batch.put(counter::key(Counter::Inodes), counter::encode(77));
            batch.put(counter::key(Counter::Blocks), counter::encode(78));
            batch.put(pack::key(used.place.pack.0), pack::encode(5));
            batch.put(pack::key(12_345), pack::encode(5));
            batch.put(one.clone(), extent::encode(&used));
            // An extent that no map names.
            batch.put(extent::key(stray), extent::encode(&lost));
            batch.put(xattr::key(Layer::FIRST, nobody, b"user.x"), xattr::encode(b"y"));
            batch.put(backlink::key(Layer::FIRST, nobody, Ino::ROOT, b"gone"), backlink::encode());
        })
        .await;
    let report = behind.check(false).await;
    assert!(report.findings.len() >= 8 && report.repairable() >= 7, "{:#?}", report.findings);
    let (mended, left) = behind.volume.repair(&CheckOptions::default(), &Progress::default()).await.unwrap();
    assert_eq!((mended, left.findings), (report.total, vec![]));
    // And it is as it was.
    let content = volumes::dump::content(&*behind.volume, behind.ino("dir/file").await).await;
    assert!(content == noise(1, 300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_while_others_write_finds_nothing() {
    let dir = directory();
    let volume = volumes::open(dir.path()).await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..3_u64)
        .map(|writer| {
            let (volume, stop, written) = (volume.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                let cx = owner();
                let mut number = 0;
                while !stop.load(Ordering::Acquire) {
                    let (called, moved) = (format!("{writer}-{}", number % 7), format!("{writer}-to"));
                    // Every other round the bytes are those of another writer: they share extents.
                    let made = file(&volume, Ino::ROOT, &called, noise(number % 5, 20_000)).await;
                    let more = noise(number + writer, 6_000);
                    volume.write(&cx, made, WriteAt::Offset(9_000), more, None, false).await.unwrap();
                    let replace = RenameMode::Replace;
                    volume
                        .rename(&cx, Ino::ROOT, &name(&called), Ino::ROOT, &name(&moved), replace)
                        .await
                        .unwrap();
                    number += 1;
                    written.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    // At least so many files were written between the first check and the last.
    while written.load(Ordering::Acquire) < 60 {
        let report = volume.check_with(&CheckOptions { data: true }, &Progress::default()).await.unwrap();
        assert_eq!(report.findings, []);
    }
    stop.store(true, Ordering::Release);
    for writer in writers {
        writer.await.unwrap();
    }
    volume.close().await.unwrap();
}
