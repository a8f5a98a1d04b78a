//! The world of a run: a volume, its time and its disk, and how its lives follow one another.

use crate::below;
use crate::clients::{Client, Lines, read_all_or_errors};
use crate::judge;
use crate::keeper::{self, Snapshot};
use crate::volumes::medium::{Fate, Loss, Recorder};
use crate::volumes::{at, directory, options};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::SeededRandom;
use mooring_policy::time::{Clock, SystemClock, Timestamp};
use mooring_store::api::{Caller, Tree};
use mooring_store::failpoints::disarm;
use mooring_store::seal::{TenantKey, TenantKeys};
use mooring_store::volume::{Config, GcConfig, LocalOptions, Volume};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const CLIENTS: usize = 4;

/// A clock that jumps: the time of day both ways, the other only forward.
#[derive(Default)]
pub struct SimClock {
    jumped: AtomicI64,
    skipped: AtomicI64,
}

impl SimClock {
    pub fn jump(&self, millis: i64) {
        self.jumped.fetch_add(millis, Ordering::Relaxed);
        self.skipped.fetch_add(millis.abs() / 100, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock::new().now().as_millis() as i64;
        Timestamp::from_millis((now + self.jumped.load(Ordering::Relaxed)).max(0) as u64)
    }

    fn monotonic(&self) -> Duration {
        let more = self.skipped.load(Ordering::Relaxed).unsigned_abs();
        SystemClock::new().monotonic() + Duration::from_millis(more)
    }
}

/// What all tasks of a life share.
pub struct Life {
    pub volume: Arc<Volume>,
    pub clock: Arc<SimClock>,
    pub keys: Arc<TenantKeys>,
    /// The order of everything that happens.
    stamps: Cell<u64>,
    pub over: Cell<bool>,
    /// A fault may strike: errors of the disk are no surprise.
    pub weather: Cell<bool>,
    /// What it left was held to the promises.
    pub judged: Cell<bool>,
    pub steps: Cell<u64>,
    pub log: RefCell<Vec<String>>,
    /// Held shared by who changes something, exclusively by a restore.
    pub gate: tokio::sync::RwLock<()>,
}

impl Life {
    pub fn stamp(&self) -> u64 {
        self.stamps.set(self.stamps.get() + 1);
        self.stamps.get()
    }

    pub fn say(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(format!("{}: {}", self.stamps.get(), what.into()));
    }

    pub fn caller(&self) -> Caller {
        at(4_000_000_000 + self.stamps.get() as i64)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Also when it is dropped because it is stuck.
        if std::thread::panicking() || !self.judged.get() {
            let log = self.log.borrow();
            let from = log.len().saturating_sub(40);
            eprintln!("last operations:\n  {}", log[from..].join("\n  "));
        }
    }
}

pub struct World {
    seed: u64,
    random: SeededRandom,
    top: tempfile::TempDir,
    dir: PathBuf,
    clock: Arc<SimClock>,
    keys: Arc<TenantKeys>,
    clients: Vec<Rc<RefCell<Client>>>,
    snapshots: BTreeMap<String, Snapshot>,
}

fn small(dir: &Path, clock: Arc<SimClock>, keys: &Arc<TenantKeys>, seed: u64) -> LocalOptions {
    let config = Config {
        min_part_bytes: 5000,
        linger: Duration::ZERO,
        stream_bytes: 64 << 10,
        extent_bytes: 16 << 10,
        window_bytes: 32 << 10,
        few_rows: 2,
        // Small, so that packs and journal files end often.
        pack_bytes: 512 << 10,
        journal_file_bytes: 256 << 10,
        gc: GcConfig { interval: Duration::ZERO, bytes_per_second: 0 },
        ..Config::default()
    };
    let random = Arc::new(SeededRandom::new(seed));
    LocalOptions { config, clock, random, keys: keys.volume(VolumeId(7)), ..options(dir) }
}

impl World {
    pub async fn new(seed: u64) -> World {
        let random = SeededRandom::new(seed);
        let top = directory();
        let dir = top.path().join("0");
        std::fs::create_dir(&dir).unwrap();
        let key = TenantKey::generate(&random);
        let current = (mooring_store::seal::KeyGeneration::FIRST, key.clone());
        let keys = Arc::new(TenantKeys::new(key.hash_key(), current, BTreeMap::new()));
        let clock = Arc::new(SimClock::default());
        let volume = Volume::open_local(small(&dir, clock.clone(), &keys, seed)).await.unwrap();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let client = Client::new(number, seed ^ (number as u64 + 1) << 32, &volume).await;
            clients.push(Rc::new(RefCell::new(client)));
        }
        volume.sync().await.unwrap();
        volume.close().await.unwrap();
        World { seed, random, top, dir, clock, keys, clients, snapshots: BTreeMap::new() }
    }

    async fn open(&self, dir: &Path, number: u64) -> Arc<Volume> {
        let options = small(dir, self.clock.clone(), &self.keys, self.seed ^ number << 48 ^ 0x5eed);
        let volume = Volume::open_local(options).await.expect("what is left opens");
        volume.purge_orphans().await.unwrap();
        volume
    }

    /// A life that ends by a crash, and its trial.
    pub async fn live(&mut self, number: u64) {
        let volume = self.open(&self.dir, number).await;
        let recorder = Recorder::start(&self.dir);
        let life = Rc::new(Life {
            volume,
            clock: self.clock.clone(),
            keys: self.keys.clone(),
            stamps: Cell::new(0),
            over: Cell::new(false),
            weather: Cell::new(false),
            judged: Cell::new(false),
            steps: Cell::new(0),
            log: RefCell::default(),
            gate: tokio::sync::RwLock::new(()),
        });
        let length = 40 + below(&self.random, 160);
        let stormy = below(&self.random, 3) > 0;
        let loss = match below(&self.random, 3) {
            0 => Loss { journal: Fate::Kept, packs: Fate::Kept },
            _ => Loss::all()[below(&self.random, 9) as usize],
        };
        let next = self.top.path().join(format!("{}", number + 1));
        let local = tokio::task::LocalSet::new();
        let (clients, keeper_seed) = (self.clients.clone(), below(&self.random, u64::MAX));
        let snapshots = Rc::new(RefCell::new(std::mem::take(&mut self.snapshots)));
        let (kept, random) = (snapshots.clone(), SeededRandom::new(below(&self.random, u64::MAX)));
        let in_life = life.clone();
        let bounds = local
            .run_until(async move {
                let life = in_life;
                let mut tasks = Vec::new();
                for client in &clients {
                    tasks.push(tokio::task::spawn_local(Client::work(client.clone(), life.clone())));
                }
                let keeper =
                    keeper::keep(life.clone(), clients.clone(), kept.clone(), SeededRandom::new(keeper_seed));
                tasks.push(tokio::task::spawn_local(keeper));
                if stormy {
                    tasks.push(tokio::task::spawn_local(keeper::weather(life.clone(), keeper_seed)));
                }
                while life.steps.get() < length {
                    tokio::task::yield_now().await;
                    if let Some(ended) = tasks.iter().position(tokio::task::JoinHandle::is_finished) {
                        tasks.swap_remove(ended).await.expect("a task met an error");
                        panic!("a task ended early");
                    }
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
                // Here it dies. Every task stands still meanwhile, wherever it is; syncs that are under way end.
                let bounds = judge::Bounds::before(&life, &clients, loss, &kept);
                recorder.image(&next, loss, &random);
                let bounds = bounds.after(&life, &clients, &kept);
                life.over.set(true);
                disarm();
                for task in tasks {
                    task.await.expect("a task met an error");
                }
                bounds
            })
            .await;
        life.say(format!("the machine dies: {loss:?}"));
        let closed = life.volume.close().await;
        assert!(closed.is_ok() || stormy, "{closed:?}");
        self.dir = self.top.path().join(format!("{}", number + 1));
        let volume = self.open(&self.dir, number + 1000).await;
        let found = judge::look(&volume, CLIENTS).await;
        drop(snapshots);
        self.snapshots = judge::judge(&volume, &bounds, &self.clients, &found).await;
        let report = volume.check().await.unwrap();
        assert_eq!(report.findings, [], "{loss:?}");
        for (client, lines) in self.clients.iter().zip(found) {
            client.borrow_mut().goes_on_with(lines);
        }
        volume.close().await.unwrap();
        life.judged.set(true);
    }

    /// After the last life, one bit turns in each pack in turn: every file is read as it was, or is an error.
    pub async fn end(&mut self) {
        let packs: Vec<_> = std::fs::read_dir(self.dir.join("volume/packs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "pack"))
            .collect();
        let mut bytes = Vec::new();
        for path in packs.iter().take(3) {
            bytes.clone_from(&std::fs::read(path).unwrap());
            let at = below(&self.random, bytes.len() as u64) as usize;
            bytes[at] ^= 1 << below(&self.random, 8);
            std::fs::write(path, &bytes).unwrap();
        }
        let options = small(&self.dir, self.clock.clone(), &self.keys, self.seed ^ 0xe4d);
        let volume = match Volume::open_local(options).await {
            Ok(volume) => volume,
            Err(error) => return assert!(!packs.is_empty(), "{error:?}"),
        };
        let all: Vec<Lines> = self.clients.iter().map(|client| client.borrow().lines().clone()).collect();
        for (number, lines) in all.iter().enumerate() {
            read_all_or_errors(&volume, number, lines).await;
        }
        let _ = volume.close().await;
    }
}
