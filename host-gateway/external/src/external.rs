//! The bucket as a whole: opened, looked after, closed; and how an inode is found and kept fresh.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt;
use mooring_policy::ids::VolumeId;
use mooring_policy::time::Clock;
use mooring_protocol::types::{Ino, Time};
use mooring_store::api::{Caller, ObjectMeta, Result};
use mooring_store::error::StoreError;
use mooring_store::seal::HashKey;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Look, Place};
use crate::node::Node;
use crate::remote::{Remote, Stat};
use crate::spool::{Spool, Spools};
use crate::table::{Known, Table};

/// Open files whose content is asked after at once.
const ASKED_AT_ONCE: usize = 16;

/// How long uploading what waits may take when the bucket is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// What a bucket needs to be served.
pub struct Options {
    /// Which volume it is here.
    pub volume: VolumeId,
    /// Where it is.
    pub place: Place,
    /// How it looks.
    pub look: Look,
    /// A directory of this host's for what waits to be uploaded.
    pub spool: PathBuf,
    /// Inode numbers follow from this.
    pub hash: HashKey,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A bucket of another service. See the crate's documentation.
pub struct External {
    pub(crate) remote: Remote,
    pub(crate) look: Look,
    pub(crate) table: Table,
    pub(crate) spools: Arc<Spools>,
    pub(crate) staged: Mutex<HashMap<Ino, Arc<Spool>>>,
    /// Everything that waits to be uploaded.
    pub(crate) dirty: Mutex<HashMap<Ino, Arc<Node>>>,
    pub(crate) changes: AtomicU64,
    /// Something became due, or nothing waits any more.
    pub(crate) due: Notify,
    pub(crate) done: Notify,
    /// MiB in memory on their way.
    pub(crate) memory: Semaphore,
    /// Files on their way.
    pub(crate) files: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Asks a bucket whether it is there and may be listed, and says what to change when not.
///
/// # Errors
/// What the other store said.
pub async fn probe(place: &Place) -> Result<()> {
    Remote::new(place).any(b"").await.map(drop)
}

impl External {
    /// Serves a bucket. Nothing is asked of it before somebody does.
    ///
    /// # Errors
    /// The spool's directory cannot be made.
    pub fn open(options: Options) -> Result<Arc<External>> {
        let Options { volume, place, look, spool, hash, clock } = options;
        let now = Time::from_millis(clock.now().as_millis());
        let external = Arc::new(External {
            remote: Remote::new(&place),
            table: Table::new(hash, volume.get(), now),
            spools: Spools::new(&spool, look.spool_bytes)?,
            look,
            staged: Mutex::default(),
            dirty: Mutex::default(),
            changes: AtomicU64::new(0),
            due: Notify::new(),
            done: Notify::new(),
            memory: Semaphore::new((crate::upload::MEMORY >> 20) as usize),
            files: Arc::new(Semaphore::new(crate::upload::FILES_AT_ONCE)),
            clock,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        external.tasks.spawn(Arc::clone(&external).keep_uploading());
        Ok(external)
    }

    /// Uploads what waits, as far as the other store takes it, and ends.
    ///
    /// # Errors
    /// Something could not be uploaded and is lost; the log names it.
    pub async fn close(&self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        // What is on its way gets its time, too: uploading everything waits for it.
        let uploaded = tokio::time::timeout(CLOSE_LIMIT, self.upload_all()).await;
        for node in self.waiting() {
            let state = node.state.lock();
            let key = state.key.escape_ascii();
            tracing::error!(%key, bytes = state.size(), "a file that was never uploaded is lost");
        }
        uploaded.map_err(|_| StoreError::Unavailable("the external store is too slow".into()))?
    }

    /// How long a change made behind our back may stay unseen.
    pub fn refresh(&self) -> Duration {
        self.look.refresh
    }

    /// How long what the other store said is believed here.
    pub(crate) fn believed(&self) -> Duration {
        self.look.refresh / 2
    }

    /// Monotonic time.
    pub(crate) fn moment(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn writable(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(StoreError::Closed);
        }
        match self.look.read_only {
            true => Err(StoreError::AccessDenied("the bucket was attached for reading only".to_owned())),
            false => Ok(()),
        }
    }

    /// The node of an inode in the caller's world.
    pub(crate) fn node(&self, cx: &Caller, ino: Ino) -> Result<Arc<Node>> {
        let node = self.table.get(ino).ok_or(StoreError::Stale(ino))?;
        if cx.confined {
            let root = self.root(cx)?;
            if !node.state.lock().key.starts_with(&root) {
                return Err(StoreError::Stale(ino));
            }
        }
        Ok(node)
    }

    /// What the caller's keys begin with.
    pub(crate) fn root(&self, cx: &Caller) -> Result<Vec<u8>> {
        if cx.root == Ino::ROOT {
            return Ok(Vec::new());
        }
        let root = self.table.get(cx.root).ok_or(StoreError::Stale(cx.root))?;
        let key = root.state.lock().key.clone();
        Ok(key)
    }

    /// The node of a directory in the caller's world, and its key.
    pub(crate) fn directory(&self, cx: &Caller, ino: Ino) -> Result<Vec<u8>> {
        let node = self.node(cx, ino)?;
        if !node.is_dir() {
            return Err(StoreError::NotDir);
        }
        let key = node.state.lock().key.clone();
        Ok(key)
    }

    /// Asks after a node whose content was not asked after for a while. Fails when it is gone and nobody has it open.
    pub(crate) async fn refreshed(&self, node: &Arc<Node>, now: Time) -> Result<()> {
        let asked = self.moment();
        let (key, ask) = {
            let state = node.state.lock();
            let old = asked.saturating_sub(state.checked) > self.believed();
            (state.key.clone(), old && state.dirty.is_none() && !state.gone && node.ino != Ino::ROOT)
        };
        if ask {
            self.ask_after(&key, asked, now).await?;
        }
        let state = node.state.lock();
        match state.gone && state.pins == 0 {
            true => Err(StoreError::Stale(node.ino)),
            false => Ok(()),
        }
    }

    /// Asks after one key and takes note of the answer.
    async fn ask_after(&self, key: &[u8], asked: Duration, now: Time) -> Result<()> {
        if key.ends_with(b"/") {
            match self.remote.any(key).await? {
                true => drop(self.table.observe(key, None, asked, now)),
                false => self.table.observe_gone(key, asked, now),
            }
            return Ok(());
        }
        self.head_now(key, now).await.map(drop)
    }

    /// An object as it is now, without believing anything: what is written here comes first, then the other store.
    pub(crate) async fn head_now(&self, key: &[u8], now: Time) -> Result<Option<(Arc<Node>, ObjectMeta)>> {
        let asked = self.moment();
        let local = self.table.by_key(key).filter(|node| node.state.lock().dirty.is_some());
        if let Some(node) = local {
            return Ok(Some((node, ObjectMeta::default())));
        }
        match self.remote.head(key).await? {
            Some((stat, meta)) => {
                let node = self.table.observe(key, Some(&stat), asked, now);
                Ok(node.map(|node| (node, meta)))
            }
            None => match self.table.known(key, asked) {
                Known::Here(node) => Ok(Some((node, ObjectMeta::default()))),
                _ => {
                    // Without its marker a directory can be there all the same.
                    if !key.ends_with(b"/") {
                        self.table.observe_gone(key, asked, now);
                    }
                    Ok(None)
                }
            },
        }
    }

    /// Of inodes that mounts have cached, those whose cache must be taken back now, because nobody can say that they
    /// are still so. Asked every half refresh time. Files that are open and unchanged stay; so does what is not
    /// uploaded; and while the other store is away there is nothing new to be seen.
    pub async fn doubtful(&self, cached: Vec<Ino>) -> Vec<Ino> {
        let now = Time::from_millis(self.clock.now().as_millis());
        let doubts = futures::stream::iter(cached).map(|ino| async move {
            let Some(node) = self.table.get(ino) else { return Some(ino) };
            let (open, dirty, version) = {
                let state = node.state.lock();
                (state.pins > 0, state.dirty.is_some(), state.version)
            };
            if node.is_dir() || !(open || dirty) {
                return Some(ino);
            }
            if dirty {
                return None;
            }
            let key = node.state.lock().key.clone();
            match self.ask_after(&key, self.moment(), now).await {
                Ok(()) => (node.state.lock().version != version).then_some(ino),
                Err(error) => {
                    tracing::debug!(%ino, %error, "an open file cannot be asked after now");
                    None
                }
            }
        });
        doubts.buffer_unordered(ASKED_AT_ONCE).filter_map(async |doubt| doubt).collect().await
    }

    /// What a file that was put just now is, until the other store says so itself.
    pub(crate) fn put_stat(&self, etag: String, size: u64, now: Time) -> Stat {
        Stat { etag, size, modified: Time { secs: now.secs, nanos: 0 } }
    }
}
