//! Operations that follow from a number, and what the tree looks like after each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use crate::volumes::dump::content;
use crate::volumes::{name, options, owner};
use bytes::Bytes;
use md5::{Digest, Md5};
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Attr, Ino, NewNode, RenameMode, SetAttr, Time};
use mooring_store::api::{Condition, ListQuery, ObjectMeta, Objects, PartInfo, Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The last operation of the first life: new bytes that nobody synced.
pub const LAST: u64 = 59;
const NAMES: u64 = 10;
const SIZES: [usize; 6] = [10, 4096, 5000, 20_000, 70_000, 150_000];
/// Every part but the last.
const PART: usize = 30_000;

/// A number that follows from two.
pub fn number(seed: u64, of: u64) -> u64 {
    let mut bytes = [0; 8];
    SeededRandom::new(seed ^ of.wrapping_mul(0x9e37_79b9_7f4a_7c15)).fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// One operation: one commit, so that there is nothing between before and after.
#[derive(Clone, Debug)]
enum Op {
    Create(String),
    Write {
        name: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Append {
        name: String,
        bytes: Vec<u8>,
    },
    Truncate {
        name: String,
        to: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    Put {
        name: String,
        bytes: Vec<u8>,
    },
    Parts {
        name: String,
        bytes: Vec<u8>,
    },
    Fsync(String),
    Sync,
    /// Gives room back: looks at the packs twice, because what was dropped must be synced before they go.
    Collect,
    /// Closes the volume and opens it again.
    Reopen,
}

fn op(seed: u64, at: u64) -> Op {
    let random = |what: u64, bound: u64| number(seed, at << 8 | what) % bound;
    let name = || format!("f{}", random(1, NAMES));
    let bytes = |sizes: usize| {
        let mut bytes = vec![0; SIZES[random(2, sizes as u64) as usize] + random(3, 9) as usize];
        // Half of it compresses.
        let noise = bytes.len() / 2;
        SeededRandom::new(number(seed, at << 8 | 4)).fill(&mut bytes[..noise]);
        bytes
    };
    match random(0, 64) {
        _ if at == LAST - 1 => Op::Create("new".to_owned()),
        _ if at == LAST => {
            // More than is gathered in memory: some of it goes to a pack at once.
            let mut bytes = vec![0; (1 << 20) + 100_000];
            SeededRandom::new(seed).fill(&mut bytes);
            Op::Append { name: "new".to_owned(), bytes }
        }
        0..8 => Op::Create(name()),
        8..20 => Op::Write { name: name(), at: random(5, 40_000) as usize, bytes: bytes(6) },
        20..28 => Op::Append { name: name(), bytes: bytes(6) },
        28..32 => Op::Truncate { name: name(), to: random(5, 80_000) as usize },
        32..37 => Op::Rename { from: name(), to: format!("f{}", random(6, NAMES)) },
        37..40 => Op::Remove(name()),
        40..50 => Op::Put { name: name(), bytes: bytes(6) },
        50..52 => Op::Parts { name: name(), bytes: [bytes(6), vec![7; PART]].concat() },
        52..58 => Op::Fsync(name()),
        58..59 => Op::Sync,
        59..61 => Op::Collect,
        _ => Op::Reopen,
    }
}

/// Every file and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(BTreeMap<String, Vec<u8>>);

impl State {
    /// The state after operation `at` of a seed, from that before it.
    pub fn apply(&mut self, seed: u64, at: u64) {
        match op(seed, at) {
            Op::Create(name) => drop(self.0.entry(name).or_default()),
            Op::Write { name, at, bytes } => {
                let Some(file) = self.0.get_mut(&name) else { return };
                file.resize(file.len().max(at + bytes.len()), 0);
                file[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Op::Append { name, bytes } => {
                if let Some(file) = self.0.get_mut(&name) {
                    file.extend(bytes);
                }
            }
            Op::Truncate { name, to } => {
                if let Some(file) = self.0.get_mut(&name) {
                    file.resize(to, 0);
                }
            }
            Op::Rename { from, to } => {
                if let Some(file) = self.0.remove(&from) {
                    self.0.insert(to, file);
                }
            }
            Op::Remove(name) => drop(self.0.remove(&name)),
            Op::Put { name, bytes } | Op::Parts { name, bytes } => drop(self.0.insert(name, bytes)),
            Op::Fsync(_) | Op::Sync | Op::Collect | Op::Reopen => {}
        }
    }

    /// What is different, for people.
    pub fn differs(&self, other: &State) -> String {
        let size = |state: &State, name: &String| state.0.get(name).map(Vec::len);
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort();
        names.dedup();
        let wrong = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        wrong
            .map(|name| format!("{name} has {:?} bytes, not {:?}; ", size(self, name), size(other, name)))
            .collect()
    }
}

/// The states of a seed: before the first operation is none, so the first is after operation 0.
pub fn states(seed: u64) -> impl Iterator<Item = State> {
    (0..).scan(State::default(), move |state, at| {
        state.apply(seed, at);
        Some(state.clone())
    })
}

/// One that does the operations.
pub struct Worker {
    dir: PathBuf,
    seed: u64,
    /// `None` only while it is opened again.
    volume: Option<Arc<Volume>>,
}

/// Everything small, so that a short life comes by everything.
/// How long the lock of a volume that was closed may be held.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(20);

fn small(dir: &Path) -> LocalOptions {
    let small = Config {
        min_part_bytes: PART as u64,
        linger: std::time::Duration::ZERO,
        extent_bytes: 16 << 10,
        window_bytes: 32 << 10,
        pack_bytes: 192 << 10,
        journal_file_bytes: 32 << 10,
        ..Config::default()
    };
    LocalOptions { config: small, ..options(dir) }
}

impl Worker {
    pub async fn open(dir: &Path, seed: u64) -> Worker {
        // A close that the engine did not end in time leaves the lock to the last who lets go of the volume.
        let begun = tokio::time::Instant::now();
        let volume = loop {
            match Volume::open_local(small(dir)).await {
                Err(StoreError::Store(error))
                    if error.to_string().contains("in use") && begun.elapsed() < UNLOCKED_WITHIN =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        volume.purge_orphans().await.unwrap();
        Worker { dir: dir.to_owned(), seed, volume: Some(volume) }
    }

    pub fn volume(&self) -> &Arc<Volume> {
        self.volume.as_ref().unwrap()
    }

    async fn find(&self, called: &str) -> Option<Attr> {
        match self.volume().lookup(&owner(), Ino::ROOT, &name(called)).await {
            Ok(attr) => Some(attr),
            Err(StoreError::NotFound) => None,
            Err(error) => panic!("looking {called} up: {error}"),
        }
    }

    async fn write(&self, called: &str, at: WriteAt, bytes: Vec<u8>) {
        if let Some(attr) = self.find(called).await {
            self.volume().write(&owner(), attr.ino, at, bytes.into(), None, false).await.unwrap();
        }
    }

    pub async fn step(&mut self, at: u64) {
        let (cx, root, volume) = (owner(), Ino::ROOT, self.volume().clone());
        match op(self.seed, at) {
            Op::Create(called) => match self.create(&called).await {
                Ok(_) | Err(StoreError::Exists) => {}
                Err(error) => panic!("{error}"),
            },
            Op::Write { name, at, bytes } => self.write(&name, WriteAt::Offset(at as u64), bytes).await,
            Op::Append { name, bytes } => self.write(&name, WriteAt::End, bytes).await,
            Op::Truncate { name, to } => {
                if let Some(attr) = self.find(&name).await {
                    let set = SetAttr { size: Some(to as u64), ..SetAttr::default() };
                    volume.setattr(&cx, attr.ino, &set).await.unwrap();
                }
            }
            Op::Rename { from, to } => {
                let (from, to) = (name(&from), name(&to));
                match volume.rename(&cx, root, &from, root, &to, RenameMode::Replace).await {
                    Ok(_) | Err(StoreError::NotFound) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Remove(called) => match volume.unlink(&cx, root, &name(&called)).await {
                Ok(_) | Err(StoreError::NotFound) => {}
                Err(error) => panic!("{error}"),
            },
            Op::Put { name, bytes } => {
                let staged = self.stage(&bytes).await;
                let (meta, when) = (ObjectMeta::default(), Condition::default());
                volume.put(&cx, staged, name.as_bytes(), "e".into(), meta, &when).await.unwrap();
            }
            Op::Parts { name, bytes } => self.in_parts(name.as_bytes(), &bytes).await,
            Op::Fsync(called) => {
                if let Some(attr) = self.find(&called).await {
                    volume.fsync(&cx, attr.ino).await.unwrap();
                }
            }
            Op::Sync => volume.sync().await.unwrap(),
            Op::Collect => {
                for _ in 0..3 {
                    volume.sync().await.unwrap();
                    volume.collect_garbage().await.unwrap();
                }
            }
            Op::Reopen => {
                drop(volume);
                self.volume().close().await.unwrap();
                self.volume = None;
                *self = Worker::open(&self.dir, self.seed).await;
            }
        }
    }

    async fn create(&self, called: &str) -> Result<Attr, StoreError> {
        let file = NewNode::File { open: None };
        self.volume().create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &file).await
    }

    async fn stage(&self, bytes: &[u8]) -> mooring_store::api::Staged {
        let staged = self.volume().stage(&owner()).await.unwrap();
        self.volume().stage_write(&owner(), staged, Bytes::copy_from_slice(bytes)).await.unwrap();
        staged
    }

    async fn in_parts(&self, key: &[u8], bytes: &[u8]) {
        let cx = owner();
        let id = self.volume().upload_create(&cx, key, ObjectMeta::default()).await.unwrap().id;
        let mut parts = Vec::new();
        for (number, part) in (1..).zip(bytes.chunks(PART)) {
            let staged = self.stage(part).await;
            let (size, etag) = (part.len() as u64, hex::encode(Md5::digest(part)));
            let info = PartInfo { number, size, etag, checksums: Vec::new(), modified: Time::default() };
            self.volume().upload_part(&cx, key, &id, info.clone(), staged).await.unwrap();
            parts.push((number, info.etag));
        }
        self.volume()
            .upload_complete(&cx, key, &id, &parts, Vec::new(), &Condition::default())
            .await
            .unwrap();
    }

    /// Stores bytes that get no name, and syncs until the process dies of it.
    pub async fn sync_in_vain(&self) {
        // More than is gathered in memory: some of it goes to a pack at once.
        let mut bytes = vec![0; (1 << 20) + 100_000];
        SeededRandom::new(1).fill(&mut bytes);
        let staged = self.volume().stage(&owner()).await.unwrap();
        // Told of the fault or not.
        let _ = self.volume().stage_write(&owner(), staged, bytes.into()).await;
        let dying = async {
            loop {
                let _ = self.volume().sync().await;
                tokio::task::yield_now().await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), dying).await;
    }

    /// What the tree shows: by name, and by listing of both doors.
    pub async fn state(&self) -> State {
        let cx = owner();
        let (entries, end) = self.volume().readdir(&cx, Ino::ROOT, b"", 1000, true).await.unwrap();
        assert!(end);
        let query = ListQuery { limit: 1000, ..ListQuery::default() };
        let keys = self.volume().list(&cx, &query).await.unwrap().objects;
        let keys: BTreeSet<_> = keys.into_iter().map(|object| object.key.to_vec()).collect();
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
        assert_eq!(keys, names, "the two doors list different names");
        let mut state = State::default();
        for entry in entries {
            let called = String::from_utf8(entry.name.as_bytes().to_vec()).unwrap();
            let attr = self.find(&called).await.expect("what is listed can be looked up");
            let bytes = content(&**self.volume(), attr.ino).await;
            assert_eq!(bytes.len() as u64, attr.size, "{called}");
            state.0.insert(called, bytes);
        }
        state
    }

    /// The whole-tree check finds nothing.
    pub async fn must_check(&self, when: &str) {
        let report = self.volume().check().await.unwrap();
        assert_eq!(report.findings, [], "{when}");
    }
}
