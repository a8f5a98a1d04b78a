//! A mixed load that knows what must be there: writers on mounts and S3 clients, side by side, for tests that kill the
//! gateway under them.
//!
//! Every worker owns the keys it changes and notes in one [`Book`] what each of them holds when an operation has
//! returned. An operation runs within a *turn*; who checks takes the turns of all, so that at that moment the book is
//! exact: every key that is listed, with every byte. So a check needs no tolerance, and counts ([`Tally`]) whatever
//! differs.
//!
//! Programs on a mount wait while the gateway is away, so an error they see fails the run. An S3 client sees its
//! connection end; it cannot know whether its request was carried out and sends it again until it is answered.

mod check;
mod mount;
mod objects;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::task::JoinSet;

pub use check::Tally;

use crate::e2e::{Pattern, Sdk};

/// The bucket that everything happens in.
pub const BUCKET: &str = "data";

/// Bytes of a slot of a file that is written in place: one block.
const SLOT: usize = 4096;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is a folder that `mkdir` made.
    Folder,
    /// A pattern.
    Whole {
        /// Which.
        number: u64,
        /// Its length.
        length: usize,
    },
    /// Records that were appended since the file was last emptied.
    Records {
        /// Which life of the file.
        life: u64,
        /// How many.
        count: u64,
    },
    /// The version of each slot.
    Slots(Vec<u64>),
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Content::Folder => Vec::new(),
            Content::Whole { number, length } => Pattern(*number).bytes(0, *length),
            Content::Records { life, count } => (0..*count).flat_map(|at| record(*life, at)).collect(),
            Content::Slots(versions) => {
                versions.iter().enumerate().flat_map(|(at, version)| slot(at, *version)).collect()
            }
        }
    }
}

/// A record tells its place by its bytes and its length.
fn record(life: u64, at: u64) -> Vec<u8> {
    Pattern(life << 32 | at).bytes(0, 24 + (at * 397 % 3000) as usize)
}

/// A slot tells where it is and how often it was written.
fn slot(at: usize, version: u64) -> Vec<u8> {
    Pattern((at as u64) << 40 | version).bytes(0, SLOT)
}

/// What every key holds when nobody has a turn.
#[derive(Debug, Default)]
struct Book(Mutex<BTreeMap<String, Content>>);

impl Book {
    fn set(&self, key: &str, content: Content) {
        self.0.lock().insert(key.to_owned(), content);
    }

    fn remove(&self, key: &str) -> Option<Content> {
        self.0.lock().remove(key)
    }

    fn has(&self, key: &str) -> bool {
        self.0.lock().contains_key(key)
    }

    fn copy(&self) -> BTreeMap<String, Content> {
        self.0.lock().clone()
    }
}

/// What workers share.
#[derive(Debug, Default)]
struct Shared {
    book: Book,
    /// Held shared for a turn, exclusively by who checks.
    gate: RwLock<()>,
    over: AtomicBool,
    steps: AtomicU64,
    /// Listings that were wrong while the load ran.
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    /// A turn of a worker that blocks; none when the load is over.
    fn turn(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let turn = self.gate.blocking_read();
        self.begun().then_some(turn)
    }

    /// A turn of a worker that is a task.
    async fn turn_of_task(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let turn = self.gate.read().await;
        self.begun().then_some(turn)
    }

    fn begun(&self) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Acquire)
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<Result<()>>,
}

impl Load {
    /// Starts workers: on each mount one that appends, one that writes in place and one that makes, renames and removes
    /// names; on S3 two that put and delete and one that lists what nobody changes.
    pub async fn start(mounts: &[&Path], sdk: &Sdk, seed: u64) -> Result<Load> {
        let shared = Arc::new(Shared::default());
        let mut workers = JoinSet::new();
        let mut random = Rng::with_seed(seed);
        for (number, mount) in mounts.iter().enumerate() {
            let folder = format!("vm{number}");
            std::fs::create_dir(mount.join(&folder)).context("making a worker's folder")?;
            shared.book.set(&format!("{folder}/"), Content::Folder);
            for work in [mount::append, mount::overwrite, mount::rename] {
                let (shared, mount, folder, random) =
                    (shared.clone(), mount.to_path_buf(), folder.clone(), random.fork());
                workers.spawn_blocking(move || work(&shared, &mount, &folder, random));
            }
        }
        objects::make_still(&shared, sdk).await?;
        workers.spawn(objects::list(shared.clone(), sdk.clone()));
        for number in 0..2 {
            workers.spawn(objects::put(shared.clone(), sdk.clone(), format!("s3-{number}"), random.fork()));
        }
        Ok(Load { shared, workers })
    }

    /// Operations begun so far.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::Relaxed)
    }

    /// An error when a worker has met one.
    pub fn must_run(&mut self) -> Result<()> {
        match self.workers.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended?.context("a worker met an error").and(Err(anyhow::anyhow!("a worker ended")))
            }
        }
    }

    /// Lets every worker finish its turn and make durable what it wrote.
    pub async fn stop(&mut self) -> Result<()> {
        self.shared.over.store(true, Ordering::Release);
        while let Some(ended) = self.workers.join_next().await {
            ended?.context("a worker met an error")?;
        }
        Ok(())
    }
}
