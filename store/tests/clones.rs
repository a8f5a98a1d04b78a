//! Heads of one volume: clones of buckets. What they show, what they cost, what they leave behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Caller, Objects, Snapshots, Tree, WriteAt};
use mooring_store::backend::VolumeDir;
use mooring_store::error::StoreError;
use mooring_store::keys::HeadId;
use mooring_store::keys::counter::{self, Counter};
use mooring_store::memory::Memory;
use mooring_store::meta::{Batch, MemoryMeta, Meta};
use mooring_store::pack::{ExtentCache, PACK_BYTES, PackOptions, PackStore};
use mooring_store::volume::{
    Budget, CheckOptions, Config, LocalOptions, Parts, Progress, Quota, Used, Volume,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use volumes::dump::{Known, content, dump};
use volumes::{directory, keys, name, options, owner};

const COPY: HeadId = HeadId(77);
const OTHER: HeadId = HeadId(79);

fn config(head: HeadId) -> Config {
    Config { head, linger: Duration::ZERO, ..Config::default() }
}

async fn open(dir: &Path, head: HeadId) -> Arc<Volume> {
    Volume::open_local(LocalOptions { config: config(head), ..options(dir) }).await.unwrap()
}

async fn make_clone(source: &Volume, from: Option<&str>, to: HeadId) -> Arc<Volume> {
    source.clone_head(&owner(), from, to, Quota::default()).await.unwrap();
    source.open_head(config(to)).await.unwrap()
}

fn noise(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    Bytes::from(bytes)
}

async fn make(volume: &Volume, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let ino = volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &node).await.unwrap().ino;
    write(volume, ino, 0, data).await;
    ino
}

async fn write(volume: &Volume, ino: Ino, at: u64, data: Bytes) {
    volume.write(&owner(), ino, WriteAt::Offset(at), data, None, false).await.unwrap();
}

async fn shown(volume: &Volume) -> Vec<String> {
    dump(volume, &Known::new()).await
}

async fn sound(volume: &Volume) {
    assert_eq!(volume.check().await.unwrap().findings, []);
}

#[tokio::test]
async fn a_clone_is_a_bucket_of_its_own() {
    let home = directory();
    let source = open(home.path(), HeadId::FIRST).await;
    let cx = owner();
    let file = make(&source, "file", noise(600_000, 1)).await;
    make(&source, "gone", noise(10_000, 2)).await;
    source.snapshot_create(&cx, "daily").await.unwrap();
    let before = shown(&source).await;
    let stored = source.space().stored_bytes;
    let clone = make_clone(&source, None, COPY).await;
    assert_eq!(shown(&clone).await, before);
    assert_eq!(clone.used(), source.used(), "charged at once");
    assert_eq!(clone.space().stored_bytes, stored, "and nothing is stored again");
    assert!(clone.snapshots(&cx).await.unwrap().is_empty());
    assert!(matches!(source.clone_head(&cx, None, COPY, Quota::default()).await, Err(StoreError::Exists)));
    assert!(matches!(
        source.clone_head(&cx, Some("none"), OTHER, Quota::default()).await,
        Err(StoreError::NotFound)
    ));

    // Neither sees what the other does: bytes, names, snapshots, uploads.
    write(&clone, file, 100, Bytes::from_static(b"of the clone")).await;
    write(&source, file, 300_000, Bytes::from_static(b"of the source")).await;
    clone.unlink(&cx, Ino::ROOT, &name("gone")).await.unwrap();
    let (one, two) = (make(&clone, "new", noise(5000, 3)).await, make(&source, "new", noise(5000, 4)).await);
    assert_ne!(one, two, "numbers come from one place");
    clone.snapshot_create(&cx, "daily").await.unwrap();
    let upload = source.upload_create(&cx, b"up", Default::default()).await.unwrap();
    assert!(clone.upload_get(&cx, b"up", &upload.id).await.is_err());
    let mut expected = noise(600_000, 1).to_vec();
    expected[300_000..300_013].copy_from_slice(b"of the source");
    assert!(content(&*source, file).await == expected);
    let mut expected = noise(600_000, 1).to_vec();
    expected[100..112].copy_from_slice(b"of the clone");
    assert!(content(&*clone, file).await == expected);
    assert_eq!(content(&*clone, one).await, noise(5000, 3));
    assert!(matches!(clone.getattr(&cx, two).await, Err(StoreError::Stale(_))));
    let view = source.snapshot_view(&cx, "daily").await.unwrap();
    assert_eq!(dump(&*view, &Known::new()).await, before);
    clone.snapshot_restore(&cx, "daily").await.unwrap();
    source.upload_get(&cx, b"up", &upload.id).await.unwrap();
    sound(&source).await;
    sound(&clone).await;

    // A clone of the clone, a clone of a snapshot.
    let third = make_clone(&clone, None, OTHER).await;
    assert_eq!(shown(&third).await, shown(&clone).await);
    let fourth = make_clone(&source, Some("daily"), HeadId(11)).await;
    assert_eq!(shown(&fourth).await, before);
    source.settle_layers().await.unwrap();
    let now = [shown(&source).await, shown(&clone).await, shown(&third).await];
    sound(&third).await;
    // The last that is closed closes the volume; another may be the first that is opened.
    source.close().await.unwrap();
    write(&third, file, 0, Bytes::from_static(b"later")).await;
    let later = shown(&third).await;
    for head in [&clone, &fourth, &third] {
        head.close().await.unwrap();
    }
    assert!(matches!(third.open_head(config(COPY)).await, Err(StoreError::Closed)));
    let clone = open(home.path(), COPY).await;
    assert!(matches!(clone.open_head(config(HeadId(8))).await, Err(StoreError::NoSuchHead(8))));
    let source = clone.open_head(config(HeadId::FIRST)).await.unwrap();
    let third = clone.open_head(config(OTHER)).await.unwrap();
    assert!(clone.open_head(config(OTHER)).await.is_err(), "it is open");
    assert_eq!([shown(&source).await, shown(&clone).await], now[..2]);
    assert_eq!(shown(&third).await, later);
    sound(&clone).await;
    for head in [source, third, clone] {
        head.close().await.unwrap();
    }
}

#[tokio::test]
async fn removing_a_head_leaves_the_others_whole_and_frees_what_only_it_had() {
    let home = directory();
    let source = open(home.path(), HeadId::FIRST).await;
    let cx = owner();
    let kept = make(&source, "kept", noise(2 << 20, 1)).await;
    let alone = source.space();
    let clone = make_clone(&source, None, COPY).await;
    make(&clone, "more", noise(6 << 20, 2)).await;
    make(&source, "own", noise(7 << 20, 3)).await;
    source.snapshot_create(&cx, "one").await.unwrap();
    source.upload_create(&cx, b"up", Default::default()).await.unwrap();
    let view = source.snapshot_view(&cx, "one").await.unwrap();
    let cloned = shown(&clone).await;
    assert!(clone.remove_head(HeadId::FIRST).await.is_err(), "it is open");
    source.close().await.unwrap();
    assert!(clone.remove_head(HeadId::FIRST).await.unwrap());
    assert!(matches!(view.getattr(&cx, kept).await, Err(StoreError::Stale(_))));
    assert!(!clone.remove_head(HeadId::FIRST).await.unwrap());
    clone.settle_layers().await.unwrap();
    assert_eq!(clone.layers_deep().await.unwrap(), 1, "one tree, one layer");
    sound(&clone).await;
    assert!(clone.space().stored_bytes < alone.stored_bytes + (6 << 20) + (1 << 20));
    assert_eq!(shown(&clone).await, cloned);
    assert!(clone.remove_head(COPY).await.is_err(), "the last goes with the volume");
    clone.close().await.unwrap();
    let error =
        Volume::open_local(LocalOptions { config: config(HeadId::FIRST), ..options(home.path()) }).await;
    assert!(matches!(error, Err(StoreError::NoSuchHead(0))), "and is not made anew: {error:?}");
    let clone = open(home.path(), COPY).await;
    clone.unlink(&cx, Ino::ROOT, &name("more")).await.unwrap();
    clone.settle_layers().await.unwrap();
    let now = clone.space();
    assert_eq!((now.stored_bytes, now.extents), (alone.stored_bytes, alone.extents));
    assert_eq!(content(&*clone, kept).await, noise(2 << 20, 1));
    clone.close().await.unwrap();
}

#[tokio::test]
async fn a_clone_is_charged_at_once_and_has_limits_of_its_own() {
    let home = directory();
    let budget = Arc::new(Budget::default());
    let with = |head| Config { budget: Some(budget.clone()), ..config(head) };
    let local = LocalOptions { config: with(HeadId::FIRST), ..options(home.path()) };
    let source = Volume::open_local(local).await.unwrap();
    let cx = owner();
    make(&source, "file", noise(1 << 20, 1)).await;
    let used = source.used();
    let twice = Used { blocks: 2 * used.blocks, inodes: 2 * used.inodes };
    let refused = |result| assert!(matches!(result, Err(StoreError::QuotaExceeded)), "{result:?}");
    let small = Quota { bytes: Some((1 << 20) - 1), files: None };
    refused(source.clone_head(&cx, None, COPY, small).await);
    budget.set_quota(Quota { bytes: Some(twice.bytes() - 1), files: None });
    refused(source.clone_head(&cx, None, COPY, Quota::default()).await);
    assert_eq!(source.heads().await.unwrap(), [HeadId::FIRST]);
    assert_eq!(budget.used(), used, "nothing is left of what was refused");
    budget.set_quota(Quota { bytes: Some(twice.bytes()), files: None });
    let limit = Quota { bytes: Some(1 << 20), files: None };
    assert_eq!(source.clone_head(&cx, None, COPY, limit).await.unwrap(), used);
    assert_eq!(budget.used(), twice);
    let clone = source.open_head(Config { quota: limit, ..with(COPY) }).await.unwrap();
    assert_eq!(budget.used(), twice);
    let node = NewNode::File { open: None };
    let file = clone.create(&cx, Ino::ROOT, &name("more"), 0o644, (0, 0), &node).await.unwrap().ino;
    let more = clone.write(&cx, file, WriteAt::End, Bytes::from_static(b"x"), None, false).await;
    assert!(matches!(more, Err(StoreError::QuotaExceeded)), "{more:?}");
    clone.close().await.unwrap();
    source.remove_head(COPY).await.unwrap();
    assert_eq!(budget.used(), used);
    source.close().await.unwrap();
}

/// Everybody at once: writers in both heads, while clones and snapshots come and go and layers are merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_written_cloned_and_removed_at_the_same_time() {
    let home = directory();
    let layers = |head| Config { layers: 3, ..config(head) };
    let local = LocalOptions { config: layers(HeadId::FIRST), ..options(home.path()) };
    let source = Volume::open_local(local).await.unwrap();
    let file = make(&source, "file", noise(400_000, 1)).await;
    source.clone_head(&owner(), None, COPY, Quota::default()).await.unwrap();
    let clone = source.open_head(layers(COPY)).await.unwrap();
    let writer = |volume: Arc<Volume>, seed: u64| async move {
        for round in 0..60_u64 {
            write(&volume, file, (round * 4096) % 300_000, noise(4096, seed + round)).await;
            let called = format!("{seed}-{round}");
            make(&volume, &called, noise(3000, round)).await;
            if round % 3 == 0 {
                volume.unlink(&owner(), Ino::ROOT, &name(&called)).await.unwrap();
            }
        }
    };
    let writers = [tokio::spawn(writer(source.clone(), 1000)), tokio::spawn(writer(clone.clone(), 2000))];
    let cx: Caller = owner();
    let mut number = 100;
    while writers.iter().any(|writer| !writer.is_finished()) {
        number += 1;
        let (id, of) = (HeadId(number), if number % 2 == 0 { &source } else { &clone });
        of.clone_head(&cx, None, id, Quota::default()).await.unwrap();
        let third = of.open_head(layers(id)).await.unwrap();
        let before = shown(&third).await;
        of.snapshot_create(&cx, &number.to_string()).await.unwrap();
        make(&third, "mine", noise(100, number)).await;
        third.unlink(&cx, Ino::ROOT, &name("mine")).await.unwrap();
        let after = shown(&third).await;
        // The root directory's own line tells when it was changed.
        assert_eq!(before.len(), after.len());
        third.close().await.unwrap();
        assert!(of.remove_head(id).await.unwrap());
        if number % 3 == 0 {
            of.snapshot_remove(&cx, &number.to_string()).await.unwrap();
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    source.settle_layers().await.unwrap();
    sound(&source).await;
    sound(&clone).await;
    for (volume, seed) in [(&source, 1000), (&clone, 2000)] {
        let attr = volume.lookup(&cx, Ino::ROOT, &name(&format!("{seed}-59"))).await;
        assert_eq!(content(&**volume, attr.unwrap().ino).await, noise(3000, 59));
        let found = content(&**volume, file).await;
        assert!(found[59 * 4096..60 * 4096] == noise(4096, seed + 59)[..]);
    }
    source.collect_garbage().await.unwrap();
    sound(&clone).await;
    source.close().await.unwrap();
    clone.close().await.unwrap();
}

#[tokio::test]
async fn a_check_of_any_head_looks_at_all_and_mends_their_totals() {
    let home = directory();
    let packs = VolumeDir::at(home.path().join("volume"));
    packs.prepare().unwrap();
    let packs = PackOptions {
        dir: packs.packs(),
        keys: keys(),
        epoch: 1,
        random: Arc::new(SystemRandom),
        cache: ExtentCache::new(1 << 20),
        pack_bytes: PACK_BYTES,
    };
    let rows = Arc::new(MemoryMeta::new());
    let parts = Parts {
        meta: rows.clone(),
        packs: PackStore::open(packs).await.unwrap(),
        memory: Memory::new(8 << 20),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        config: config(HeadId::FIRST),
    };
    let source = Volume::open(parts).await.unwrap();
    make(&source, "file", noise(100_000, 1)).await;
    let clone = make_clone(&source, None, COPY).await;
    make(&clone, "more", noise(9000, 2)).await;
    sound(&source).await;
    let mut wrong = Batch::new();
    wrong.put(counter::of(Counter::Blocks, COPY), counter::encode(78));
    rows.commit(wrong).await.unwrap();
    let report = source.check().await.unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(report.findings[0].to_string().contains("head 77"), "{}", report.findings[0]);
    let (mended, left) = source.repair(&CheckOptions::default(), &Progress::default()).await.unwrap();
    assert_eq!((mended, left.total), (1, 0));
    sound(&clone).await;
}

/// From the checkpoint come the heads, from the packs what each wrote since.
#[tokio::test]
async fn a_rebuilt_volume_has_all_its_heads() {
    let home = directory();
    let source = open(home.path(), HeadId::FIRST).await;
    let file = make(&source, "file", noise(300_000, 1)).await;
    let clone = make_clone(&source, None, COPY).await;
    let more = make(&clone, "more", noise(200_000, 2)).await;
    let own = make(&source, "own", noise(200_000, 3)).await;
    source.checkpoint().await.unwrap();
    write(&clone, more, 0, noise(131_072, 4)).await;
    write(&source, own, 0, noise(131_072, 5)).await;
    clone.close().await.unwrap();
    source.close().await.unwrap();
    for part in ["meta", "journal"] {
        std::fs::remove_dir_all(home.path().join("volume").join(part)).unwrap();
    }
    let local = |head| LocalOptions { config: config(head), ..options(home.path()) };
    let rebuilt = Volume::rebuild(local(COPY)).await.unwrap();
    assert_eq!((rebuilt.extended, rebuilt.found, rebuilt.findings), (2, 0, 0), "{rebuilt:?}");
    let clone = open(home.path(), COPY).await;
    let source = clone.open_head(config(HeadId::FIRST)).await.unwrap();
    for (volume, ino, seed, old) in [(&clone, more, 4, 2), (&source, own, 5, 3)] {
        assert_eq!(content(&**volume, file).await, noise(300_000, 1));
        let found = content(&**volume, ino).await;
        assert!(
            found[..131_072] == noise(131_072, seed)[..]
                && found[131_072..] == noise(200_000, old)[131_072..]
        );
    }
    sound(&source).await;
    source.close().await.unwrap();
    clone.close().await.unwrap();
}
