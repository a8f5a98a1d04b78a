//! Telling the kernel to forget.
//!
//! `FUSE_NOTIFY_INVAL_INODE` waits for the locks of the pages it drops, `FUSE_NOTIFY_INVAL_ENTRY` for the
//! lock of the directory: while a read of such a page or a create in such a directory waits for *our* answer,
//! the notification waits with it. Three rules keep that from closing a circle:
//!
//! 1. Notifications run here, on their own threads, never on one that answers requests.
//! 2. Nobody waits for one while holding a lock that answering a request needs.
//! 3. There are two lanes. The pages of a *recalled* lease are only ever locked by reads that the gateway
//!    answers without waiting for anybody (it grants nothing on an inode under recall), so the recall lane
//!    always drains. What a write of our own has to drop can wait for reads that themselves wait for another
//!    guest's recall; it has a lane of its own and cannot stand in the way of recalls.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::types::NodeId;

/// Threads of each lane. A thread sleeps nearly always; two let a second inode pass one that waits.
const THREADS: usize = 2;
/// Notifications queued per lane before callers wait.
const QUEUE: usize = 1024;

/// Which of the two lanes a notification takes. See the module's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// For leases that are being recalled.
    Recall,
    /// For the effects of this mount's own requests.
    Own,
}

/// Bytes of a file: from `offset`, `len` of them; `len` 0 is to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// How many; 0 = to the end.
    pub len: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Range = Range { offset: 0, len: 0 };
}

enum What {
    Pages { node: NodeId, range: Range },
    Attr { node: NodeId },
    Entry { parent: NodeId, name: Bytes },
    Delete { parent: NodeId, child: NodeId, name: Bytes },
}

struct Job {
    what: What,
    done: oneshot::Sender<()>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    wake: Condvar,
    room: Arc<Semaphore>,
}

/// Sends notifications for one mount. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Notifier {
    lanes: Arc<Lanes>,
}

struct Lanes {
    recall: Arc<Queue>,
    own: Arc<Queue>,
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for queue in [&self.recall, &self.own] {
            queue.jobs.lock().1 = true;
            queue.wake.notify_all();
        }
    }
}

impl Notifier {
    pub(super) fn start(kernel: &fuser::Notifier) -> std::io::Result<Notifier> {
        let lane = |name: &str| -> std::io::Result<Arc<Queue>> {
            let queue = Arc::new(Queue {
                jobs: Mutex::new((VecDeque::new(), false)),
                wake: Condvar::new(),
                room: Arc::new(Semaphore::new(QUEUE)),
            });
            for i in 0..THREADS {
                let (queue, kernel) = (queue.clone(), kernel.clone());
                std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || queue.work(&kernel))?;
            }
            Ok(queue)
        };
        Ok(Notifier { lanes: Arc::new(Lanes { recall: lane("notify-recall")?, own: lane("notify-own")? }) })
    }

    /// Drops cached pages and attributes of a node. Returns when no cached page of the range is left.
    pub async fn pages(&self, lane: Lane, node: NodeId, range: Range) {
        self.run(lane, What::Pages { node, range }).await;
    }

    /// Drops the cached attributes of a node.
    pub async fn attr(&self, lane: Lane, node: NodeId) {
        self.run(lane, What::Attr { node }).await;
    }

    /// Drops what is known of a name.
    pub async fn entry(&self, lane: Lane, parent: NodeId, name: Bytes) {
        self.run(lane, What::Entry { parent, name }).await;
    }

    /// Drops a name that was removed, and tells watchers (inotify).
    pub async fn delete(&self, lane: Lane, parent: NodeId, child: NodeId, name: Bytes) {
        self.run(lane, What::Delete { parent, child, name }).await;
    }

    async fn run(&self, lane: Lane, what: What) {
        let queue = match lane {
            Lane::Recall => &self.lanes.recall,
            Lane::Own => &self.lanes.own,
        };
        // The semaphore is never closed.
        let Ok(permit) = queue.room.clone().acquire_owned().await else { return };
        let (done, finished) = oneshot::channel();
        queue.jobs.lock().0.push_back(Job { what, done, _permit: permit });
        queue.wake.notify_one();
        // A dropped sender means the mount is going away, and with it the kernel's caches.
        let _ = finished.await;
    }
}

impl Queue {
    fn work(&self, kernel: &fuser::Notifier) {
        while let Some(job) = self.next() {
            if let Err(error) = job.what.tell(kernel) {
                // The connection is gone (unmounted): there is no cache left to drop.
                tracing::debug!(%error, "notification refused");
            }
            let _ = job.done.send(());
        }
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(job) = jobs.0.pop_front() {
                return Some(job);
            }
            if jobs.1 {
                return None;
            }
            self.wake.wait(&mut jobs);
        }
    }
}

impl What {
    fn tell(&self, kernel: &fuser::Notifier) -> std::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = |b: &Bytes| std::ffi::OsStr::from_bytes(b).to_os_string();
        match self {
            What::Pages { node, range } => {
                let offset = i64::try_from(range.offset).unwrap_or(i64::MAX);
                let len = i64::try_from(range.len).unwrap_or(0);
                kernel.inval_inode(fuser::INodeNo(*node), offset, len)
            }
            // A negative offset drops the attributes and leaves the pages.
            What::Attr { node } => kernel.inval_inode(fuser::INodeNo(*node), -1, 0),
            What::Entry { parent, name } => kernel.inval_entry(fuser::INodeNo(*parent), &os(name)),
            What::Delete { parent, child, name } => {
                kernel.delete(fuser::INodeNo(*parent), fuser::INodeNo(*child), &os(name))
            }
        }
    }
}
