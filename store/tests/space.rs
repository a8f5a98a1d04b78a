//! Room comes back: packs that nothing names go, packs of garbage are rewritten, and no byte that is named is lost.
//!
//! `MOORING_SEED=<n>` replays a random history, `MOORING_RUNS=<n>` makes more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, NewNode, SetAttr};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::VolumeDir;
use mooring_store::keys::pack;
use mooring_store::memory::Memory;
use mooring_store::meta::{Batch, MemoryMeta, Meta, prefix_end};
use mooring_store::pack::{ExtentCache, PackOptions, PackStore};
use mooring_store::volume::{Config, GcConfig, LocalOptions, Parts, Volume};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use volumes::medium::{Loss, Recorder};
use volumes::{directory, keys, name, options, owner};

const PACK: u32 = 512 << 10;
const ASKED: GcConfig = GcConfig { interval: Duration::ZERO, bytes_per_second: 0 };

fn small(dir: &Path, gc: GcConfig) -> LocalOptions {
    let config = Config {
        pack_bytes: PACK,
        gc,
        linger: Duration::ZERO,
        stream_bytes: 64 << 10,
        extent_bytes: 16 << 10,
        ..Config::default()
    };
    LocalOptions { config, ..options(dir) }
}

async fn open(dir: &Path, gc: GcConfig) -> Arc<Volume> {
    Volume::open_local(small(dir, gc)).await.unwrap()
}

/// Bytes of all pack files.
fn du(dir: &Path) -> u64 {
    let packs = std::fs::read_dir(dir.join("volume/packs")).unwrap();
    packs.map(|pack| pack.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

/// Bytes that do not compress and are like no others.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

async fn make(volume: &Volume, text: &str) -> Ino {
    let node = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name(text), 0o644, (0, 0), &node).await.unwrap().ino
}

async fn write(volume: &Volume, ino: Ino, at: u64, data: Bytes) {
    volume.write(&owner(), ino, WriteAt::Offset(at), data, None, false).await.unwrap();
}

async fn read(volume: &Volume, ino: Ino, len: usize) -> Vec<u8> {
    volume.read(&owner(), ino, 0, u32::try_from(len).unwrap()).await.unwrap().0.concat()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_gives_its_room_back_by_itself() {
    let dir = directory();
    let quick = GcConfig { interval: Duration::from_millis(50), bytes_per_second: 64 << 20 };
    let volume = open(dir.path(), quick).await;
    let keep = make(&volume, "keep").await;
    write(&volume, keep, 0, noise(0, 100_000)).await;
    for file in 1..=8 {
        let ino = make(&volume, &format!("f{file}")).await;
        write(&volume, ino, 0, noise(file, 1 << 20)).await;
    }
    let full = du(dir.path());
    assert!(full > 8 << 20);
    for file in 1..=8 {
        volume.unlink(&owner(), Ino::ROOT, &name(&format!("f{file}"))).await.unwrap();
    }
    // No new write, no restart: even the pack that was open is completed, and rewritten.
    eventually("the room comes back", || du(dir.path()) < 200_000).await;
    assert_eq!(read(&volume, keep, 100_000).await, noise(0, 100_000));
    assert!(volume.gc_totals().freed_bytes > 8 << 20, "{:?}", volume.gc_totals());
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_goes_and_small_packs_become_one() {
    let dir = directory();
    let volume = open(dir.path(), ASKED).await;
    let ino = make(&volume, "file").await;
    volume.close().await.unwrap();
    for life in 0..6 {
        let volume = open(dir.path(), ASKED).await;
        write(&volume, ino, life * 50_000, noise(life, 50_000)).await;
        // Bytes that no row ever names, as an operation leaves that was cut off.
        let large = noise(100 + life, 300_000);
        let (cx, other) = (owner(), make(&volume, &format!("{life}")).await);
        write(&volume, other, 0, large).await;
        volume.unlink(&cx, Ino::ROOT, &name(&format!("{life}"))).await.unwrap();
        volume.close().await.unwrap();
    }
    let count = || std::fs::read_dir(dir.path().join("volume/packs")).unwrap().count();
    assert!(count() >= 6, "each life leaves a pack");
    let volume = open(dir.path(), ASKED).await;
    let done = volume.collect_garbage().await.unwrap();
    assert!(done.freed_packs >= 6 && done.freed_bytes > 1_500_000, "{done:?}");
    assert_eq!(count(), 1);
    assert!(du(dir.path()) < 330_000);
    let expected: Vec<u8> = (0..6).flat_map(|life| noise(life, 50_000)).collect();
    assert_eq!(read(&volume, ino, 300_000).await, expected);
    assert_eq!(volume.collect_garbage().await.unwrap(), Default::default(), "there is nothing left to do");
    volume.close().await.unwrap();
}

/// Readers of one file while another is overwritten and packs go under their hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_goes_on_while_packs_are_rewritten() {
    let dir = directory();
    let mut without_cache = small(dir.path(), ASKED);
    without_cache.memory = Memory::new(0);
    let volume = Volume::open_local(without_cache).await.unwrap();
    let (still, busy) = (make(&volume, "still").await, make(&volume, "busy").await);
    let bytes = noise(0, 400_000);
    // Interleaved, so that each pack has something of both.
    for at in (0..400_000).step_by(40_000) {
        write(&volume, still, at as u64, bytes.slice(at..at + 40_000)).await;
        write(&volume, busy, at as u64, noise(at as u64, 40_000)).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (volume, over, bytes) = (volume.clone(), over.clone(), bytes.clone());
            tokio::spawn(async move {
                let mut reads = 0;
                while !over.load(Ordering::Acquire) || reads == 0 {
                    assert!(read(&volume, still, 400_000).await == bytes);
                    let _ = read(&volume, busy, 400_000).await;
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut moved = 0;
    for round in 1..30 {
        for at in (0..400_000).step_by(40_000) {
            write(&volume, busy, at, noise(round * 1_000_000 + at, 40_000)).await;
        }
        moved += volume.collect_garbage().await.unwrap().moved_extents;
    }
    over.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert!(moved > 100, "packs were rewritten: {moved}");
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

/// Where the count of live bytes says that a pack is dead and a row names it, the row is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_count_of_live_bytes_costs_no_data() {
    let dir = directory();
    let home = VolumeDir::at(dir.path().join("volume"));
    home.prepare().unwrap();
    let rows = Arc::new(MemoryMeta::new());
    let open = async || {
        let packs = PackOptions {
            dir: home.packs(),
            keys: keys(),
            epoch: 1,
            random: Arc::new(SystemRandom),
            cache: ExtentCache::new(0),
            pack_bytes: PACK,
        };
        let (packs, memory) = (PackStore::open(packs).await.unwrap(), Memory::new(0));
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let config = small(dir.path(), ASKED).config;
        Volume::open(Parts { meta: rows.clone(), packs, memory, clock, random, config }).await.unwrap()
    };
    let volume = open().await;
    let ino = make(&volume, "file").await;
    write(&volume, ino, 0, noise(1, 100_000)).await;
    drop(volume);
    let mut batch = Batch::new();
    for (key, _) in rows.scan(&pack::prefix(), &prefix_end(&pack::prefix()), 10).await.unwrap() {
        batch.delete(key);
    }
    assert_eq!(batch.len(), 1);
    rows.commit(batch).await.unwrap();
    let volume = open().await;
    assert_eq!(volume.collect_garbage().await.unwrap().freed_packs, 0);
    assert!(read(&volume, ino, 100_000).await == noise(1, 100_000));
}

/// Bytes that are stored and not named yet are nobody's garbage, though a pack be full of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_loses_nothing_to_the_collector() {
    let dir = directory();
    let volume = open(dir.path(), ASKED).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let volume = volume.clone();
            tokio::spawn(async move {
                let ino = make(&volume, &writer.to_string()).await;
                // Each is more than two packs, stored before anything is locked.
                for round in 0..12 {
                    write(&volume, ino, 0, noise(writer * 100 + round, 3 * PACK as usize)).await;
                }
                (ino, noise(writer * 100 + 11, 3 * PACK as usize))
            })
        })
        .collect();
    let mut freed = 0;
    while !writers.iter().all(|writer| writer.is_finished()) {
        freed += volume.collect_garbage().await.unwrap().freed_packs;
    }
    for writer in writers {
        let (ino, bytes) = writer.await.unwrap();
        assert!(read(&volume, ino, bytes.len()).await == bytes);
    }
    assert!(freed > 20, "{freed} packs went meanwhile");
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

/// A volume and what it must hold.
struct Run {
    random: SeededRandom,
    dir: PathBuf,
    copies: u32,
    volume: Arc<Volume>,
    files: BTreeMap<u64, (Ino, Vec<u8>)>,
}

impl Run {
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    fn home(&self) -> PathBuf {
        self.dir.join(self.copies.to_string())
    }

    async fn step(&mut self) {
        let number = self.below(20);
        match self.below(12) {
            0 => self.collect().await,
            1 | 2 => {
                if self.files.remove(&number).is_some() {
                    self.volume.unlink(&owner(), Ino::ROOT, &name(&number.to_string())).await.unwrap();
                }
            }
            3 => {
                let to = self.below(200_000);
                let Some((ino, bytes)) = self.files.get_mut(&number) else { return };
                let cut = SetAttr { size: Some(to), ..SetAttr::default() };
                self.volume.setattr(&owner(), *ino, &cut).await.unwrap();
                bytes.resize(to as usize, 0);
            }
            4 => {
                let Some((from, source)) = self.files.get(&self.below(20)).cloned() else { return };
                if self.files.contains_key(&number) {
                    return;
                }
                let to = make(&self.volume, &number.to_string()).await;
                let len = source.len() as u64;
                self.volume.copy_range(&owner(), (from, 0), (to, 0), len).await.unwrap();
                self.files.insert(number, (to, source));
            }
            _ => self.write(number).await,
        }
    }

    async fn write(&mut self, number: u64) {
        let (at, len) = (4096 * self.below(30), 1 + self.below(150_000) as usize);
        // Some contents come again, so that extents are shared, and stored again after they were lost.
        let seed = if self.below(3) == 0 { self.below(5) } else { self.below(1 << 40) };
        let data = match self.below(4) {
            0 => Bytes::from(vec![seed as u8; len]),
            _ => noise(seed, len),
        };
        let (ino, bytes) = match self.files.get_mut(&number) {
            Some(file) => file,
            None => {
                let ino = make(&self.volume, &number.to_string()).await;
                self.files.entry(number).or_insert((ino, Vec::new()))
            }
        };
        write(&self.volume, *ino, at, data.clone()).await;
        let end = at as usize + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[at as usize..end].copy_from_slice(&data);
    }

    /// Collects all there is, or breaks off somewhere.
    async fn collect(&self) {
        let patience = Duration::from_millis(self.below(20));
        if self.below(2) == 0 {
            self.volume.collect_garbage().await.unwrap();
        } else {
            let _ = tokio::time::timeout(patience, self.volume.collect_garbage()).await;
        }
    }

    async fn compare(&self, what: &str) {
        for (number, (ino, bytes)) in &self.files {
            assert!(read(&self.volume, *ino, bytes.len()).await == *bytes, "{what}: file {number}");
        }
        assert_eq!(self.volume.check().await.unwrap().findings, [], "{what}");
    }

    /// Goes on with what a process that dies now leaves.
    async fn die(&mut self) {
        let from = self.home();
        self.copies += 1;
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(self.home()).status().unwrap();
        assert!(done.success());
        self.volume.close().await.unwrap();
        self.volume = open(&self.home(), ASKED).await;
        self.compare("after the process died").await;
    }

    /// Space within 1.3 of what is live, and nothing lost by getting there.
    async fn settle(&self) {
        self.volume.collect_garbage().await.unwrap();
        let (used, live) = (du(&self.home()), self.volume.space().stored_bytes);
        assert!(used as f64 <= 1.3 * live as f64 + 4096.0, "{used} bytes for {live} live ones");
        self.compare("settled").await;
    }
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seeds(runs: u64) -> Vec<u64> {
    let fresh = || {
        let mut bytes = [0; 4];
        SystemRandom.fill(&mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    };
    match environment("MOORING_SEED") {
        Some(seed) => vec![seed],
        None => (0..environment("MOORING_RUNS").unwrap_or(runs)).map(|_| fresh()).collect(),
    }
}

async fn begin(seed: u64, dir: &Path) -> Run {
    println!("replay with MOORING_SEED={seed}");
    let home = dir.join("0");
    std::fs::create_dir(&home).unwrap();
    let volume = open(&home, ASKED).await;
    let (random, files) = (SeededRandom::new(seed), BTreeMap::new());
    Run { random, dir: dir.to_owned(), copies: 0, volume, files }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_settle_within_a_third_and_lose_nothing() {
    for seed in seeds(4) {
        let dir = directory();
        let mut run = begin(seed, dir.path()).await;
        for _ in 0..4 {
            for _ in 0..60 {
                run.step().await;
            }
            run.compare("after some steps").await;
            run.die().await;
            run.settle().await;
        }
        run.volume.close().await.unwrap();
    }
}

/// The power goes at a sync while packs are moved and deleted: what was synced before is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_goes_while_room_is_given_back_takes_nothing_with_it() {
    for seed in seeds(4) {
        let dir = directory();
        let mut run = begin(seed, dir.path()).await;
        for _ in 0..60 {
            run.step().await;
        }
        run.volume.sync().await.unwrap();
        let losses = Loss::all();
        for round in 0..4 {
            let loss = losses[run.below(losses.len() as u64) as usize];
            let image = dir.path().join(format!("image{round}"));
            // Garbage and dead packs, synced.
            for _ in 0..10 {
                run.write(run.below(20)).await;
            }
            run.volume.sync().await.unwrap();
            let number = run.below(8);
            let recorder = Recorder::start_with(&run.home(), number, &image, loss, seed);
            run.volume.collect_garbage().await.unwrap();
            if recorder.syncs() <= number {
                recorder.image(&image, loss, &run.random);
            }
            eventually("the image is made", || image.exists()).await;
            drop(recorder);
            let found = open(&image, ASKED).await;
            for (number, (ino, bytes)) in &run.files {
                let len = u32::try_from(bytes.len()).unwrap();
                let same = found.read(&owner(), *ino, 0, len).await.map(|(data, _)| data.concat() == *bytes);
                assert!(matches!(same, Ok(true)), "seed {seed}, {loss:?}, file {number}: {same:?}");
            }
            assert_eq!(found.check().await.unwrap().findings, [], "seed {seed}, {loss:?}");
            found.collect_garbage().await.unwrap();
            found.close().await.unwrap();
        }
        run.volume.close().await.unwrap();
    }
}
