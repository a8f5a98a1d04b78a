//! The file system of one door: a bucket, or a share, as programs in the guest see it.
//!
//! * [`node`]: what is known of an inode and by what right. [`table`]: all of them.
//! * [`absorb`]: what the gateway's answers teach. [`recall`]: how leases are given up.
//! * `names`, `attrs`, `files`, `dirs`, `ranges`, `xattrs`, `locks`: the operations, one family per file.
//! * [`hand_over`]: when gathered writes go to the gateway.
//!
//! What is changed in the tree is changed at the gateway before it is answered; what is written to a file under a
//! write lease is gathered here. What is read is answered from here under a lease, and otherwise from the gateway.

mod absorb;
mod attrs;
mod convert;
mod dirs;
mod files;
mod hand_over;
mod locks;
mod names;
pub mod node;
mod pages;
mod ranges;
mod recall;
pub mod table;
mod xattrs;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mooring_protocol::message::{self, Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, Name};
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::fuse::{
    Caller, CopyEnd, Created, DirPage, Entry, FileLock, Filesystem, NodeId, Notifier, Opened, Result,
    SetAttr, Stat, StatFs, WriteIn,
};
use crate::remote::{Held, Mark, Outcome, Remote};
use files::OpenFile;
use node::Node;
use table::Table;

/// "Until told otherwise": the kernel's times are 64 bits of seconds, this is 34 years.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// Recently seen names, to know which inode an unlink is about. Only ever used to forget too much.
const HINTS: u64 = 32 << 10;

/// How the door behaves.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// Closing a file hands its writes over first.
    pub close_sync: bool,
    /// Memory for gathered writes; shared by all doors of the agent.
    pub budget: Arc<Budget>,
}

/// Memory for gathered writes. Who finds it used up waits.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    free: Arc<Semaphore>,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Budget> {
        let bytes = bytes.clamp(4 << 20, Semaphore::MAX_PERMITS);
        Arc::new(Budget { bytes, free: Arc::new(Semaphore::new(bytes)) })
    }

    /// Bytes gathered or on their way.
    #[must_use]
    pub fn used(&self) -> usize {
        self.bytes - self.free.available_permits()
    }

    /// More than half is used: what is gathered should go.
    fn is_tight(&self) -> bool {
        self.free.available_permits() < self.bytes / 2
    }
}

/// One mounted bucket or share.
pub struct Door {
    id: u64,
    root: Ino,
    read_only: bool,
    remote: Remote,
    runtime: Handle,
    options: DoorOptions,
    notifier: OnceLock<Notifier>,
    table: Table,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    dirs: Mutex<HashMap<u64, Arc<dirs::OpenDir>>>,
    next_dir: AtomicU64,
    hints: moka::sync::Cache<(Ino, Name), Ino>,
    dirty: Mutex<HashMap<Ino, Arc<Node>>>,
    closed: AtomicBool,
    this: std::sync::Weak<Door>,
}

impl Door {
    /// The file system behind `door`. Starts, in `runtime`, the task that hands over what has been gathered for long.
    #[must_use]
    pub fn new(door: &message::Door, remote: Remote, runtime: Handle, options: DoorOptions) -> Arc<Door> {
        let door = Arc::new_cyclic(|this| Door {
            id: door.id,
            root: door.root,
            read_only: door.read_only,
            remote,
            runtime,
            options,
            notifier: OnceLock::new(),
            table: Table::default(),
            files: Mutex::default(),
            dirs: Mutex::default(),
            next_dir: AtomicU64::new(1),
            hints: moka::sync::Cache::new(HINTS),
            dirty: Mutex::default(),
            closed: AtomicBool::new(false),
            this: this.clone(),
        });
        door.runtime.spawn(hand_over::keep(Arc::downgrade(&door)));
        door.runtime.spawn(hand_over::keep_small(Arc::downgrade(&door)));
        door
    }

    /// Its number at the gateway.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Nodes known, files open, bytes not handed over.
    #[must_use]
    pub fn figures(&self) -> (usize, usize, usize) {
        let unsent = self.dirty.lock().values().map(|n| n.state.lock().gather.bytes()).sum();
        (self.table.count(), self.files.lock().len(), unsent)
    }

    /// A reply to a request behind this door arrived; see [`absorb`].
    pub(crate) fn replied(
        &self,
        request: &Request,
        mark: Mark,
        answer: std::result::Result<&message::Answer, Status>,
    ) {
        self.absorb(request, mark, answer);
    }

    /// What a restarted gateway has to be told.
    pub(crate) fn held(&self) -> Held {
        let mut held = Held::default();
        held.handles.extend(self.files.lock().values().filter_map(|file| file.held()));
        for node in self.table.all() {
            let state = node.state.lock();
            let mode = state.holder.mode();
            if mode > mooring_protocol::types::LeaseMode::None {
                let seq = state.holder.seq();
                held.leases.push(mooring_protocol::types::LeaseGrant { ino: node.ino, mode, seq });
            }
            held.locks.extend(state.locks.iter().copied());
            // Closed by the kernel, but what was written through them is not handed over yet.
            held.handles.extend(state.releasing.iter().copied());
        }
        held
    }

    /// What a restarted gateway gave back; the rest is gone.
    pub(crate) fn reclaimed(
        self: &Arc<Self>,
        handles: &[mooring_protocol::types::Handle],
        leases: &[mooring_protocol::types::LeaseGrant],
    ) {
        // There may be a quarter of a million of each.
        let handles: HashSet<_> = handles.iter().copied().collect();
        let leases: HashMap<Ino, u64> = leases.iter().map(|grant| (grant.ino, grant.seq)).collect();
        for (fh, file) in self.files.lock().iter() {
            if !handles.contains(&mooring_protocol::types::Handle(*fh)) {
                file.kill();
            }
        }
        for node in self.table.all() {
            {
                let mut state = node.state.lock();
                state.writers.retain(|h| handles.contains(h));
                state.releasing.retain(|h| handles.contains(&h.handle));
            }
            let back = leases.get(&node.ino).copied();
            let drop_it = {
                let mut state = node.state.lock();
                if state.holder.mode() == mooring_protocol::types::LeaseMode::None {
                    continue;
                }
                state.holder.reclaimed(back);
                let start = back.is_none() && !state.recalling;
                state.recalling |= start;
                start
            };
            if drop_it {
                let door = self.clone();
                self.runtime.spawn(async move { door.give_up(&node).await });
            }
        }
    }

    /// Asks the gateway something about this door.
    async fn ask(&self, request: Request) -> std::result::Result<Reply, Status> {
        self.ask_with(request, Bytes::new()).await.map(|(answer, _)| answer.reply)
    }

    async fn ask_with(&self, request: Request, payload: Bytes) -> Outcome {
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            return Err(Status::Revoked);
        }
        let mark = Door::subject(&request).map(|ino| self.table.get(ino).mark()).unwrap_or_default();
        self.remote.call(self.id, request, payload, mark).await
    }

    /// The node of a kernel node number.
    fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        Ok(self.table.get(self.to_ino(id)?))
    }

    fn to_ino(&self, id: NodeId) -> Result<Ino> {
        if id == crate::fuse::ROOT { Ok(self.root) } else { Ino::new(id).ok_or(Errno::STALE) }
    }

    fn to_node(&self, ino: Ino) -> NodeId {
        if ino == self.root { crate::fuse::ROOT } else { ino.get() }
    }

    fn hint(&self, parent: Ino, name: &Name, child: Ino) {
        self.hints.insert((parent, name.clone()), child);
    }

    fn hinted(&self, parent: Ino, name: &Name) -> Option<Ino> {
        self.hints.get(&(parent, name.clone()))
    }
}

/// A name from the kernel.
fn name(bytes: &[u8]) -> Result<Name> {
    Name::new(bytes).map_err(|e| match e {
        mooring_protocol::types::NameError::TooLong(_) => Errno::NAMETOOLONG,
        _ => Errno::INVAL,
    })
}

/// The errno a program gets for a status of the gateway.
fn errno(status: Status) -> Errno {
    Errno::from_raw_os_error(status.errno())
}

/// The gateway answered something else than what was asked.
fn odd(reply: &Reply) -> Errno {
    tracing::error!(?reply, "the gateway's answer does not fit the request");
    Errno::PROTO
}

impl Filesystem for Door {
    fn mounted(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    fn forget(&self, node: NodeId, _: u64) {
        if let Ok(ino) = self.to_ino(node) {
            self.forgotten(ino);
        }
    }
    async fn lookup(&self, _: Caller, parent: NodeId, name: Bytes) -> Result<Entry> {
        self.op_lookup(parent, &name).await
    }
    async fn getattr(&self, _: Caller, node: NodeId, _: Option<u64>) -> Result<Stat> {
        self.op_getattr(node).await
    }
    async fn setattr(&self, by: Caller, node: NodeId, set: SetAttr) -> Result<Stat> {
        self.op_setattr(by, node, set).await
    }
    async fn readlink(&self, _: Caller, node: NodeId) -> Result<Bytes> {
        self.op_readlink(node).await
    }
    async fn mknod(&self, by: Caller, parent: NodeId, name: Bytes, mode: u32, rdev: u32) -> Result<Entry> {
        self.op_mknod(by, parent, &name, mode, rdev).await
    }
    async fn mkdir(&self, by: Caller, parent: NodeId, name: Bytes, mode: u32) -> Result<Entry> {
        self.op_make(by, parent, &name, mode, mooring_protocol::types::NewNode::Dir).await
    }
    async fn symlink(&self, by: Caller, parent: NodeId, name: Bytes, target: Bytes) -> Result<Entry> {
        let node = mooring_protocol::types::NewNode::Symlink { target: target.to_vec() };
        self.op_make(by, parent, &name, 0o777, node).await
    }
    async fn link(&self, _: Caller, node: NodeId, parent: NodeId, name: Bytes) -> Result<Entry> {
        self.op_link(node, parent, &name).await
    }
    async fn unlink(&self, _: Caller, parent: NodeId, name: Bytes) -> Result<()> {
        self.op_unlink(parent, &name).await
    }
    async fn rmdir(&self, _: Caller, parent: NodeId, name: Bytes) -> Result<()> {
        self.op_rmdir(parent, &name).await
    }
    async fn rename(&self, _: Caller, from: (NodeId, Bytes), to: (NodeId, Bytes), flags: u32) -> Result<()> {
        self.op_rename(from, to, flags).await
    }
    async fn open(&self, _: Caller, node: NodeId, flags: i32) -> Result<Opened> {
        self.op_open(node, flags).await
    }
    async fn create(
        &self,
        by: Caller,
        parent: NodeId,
        name: Bytes,
        mode: u32,
        flags: i32,
    ) -> Result<Created> {
        self.op_create(by, parent, &name, mode, flags).await
    }
    async fn read(&self, _: Caller, _: NodeId, fh: u64, offset: u64, size: u32) -> Result<Bytes> {
        self.op_read(fh, offset, size).await
    }
    async fn write(&self, by: Caller, node: NodeId, fh: u64, write: WriteIn) -> Result<u32> {
        self.op_write(by, node, fh, write).await
    }
    async fn flush(&self, _: Caller, node: NodeId, _: u64, owner: u64) -> Result<()> {
        self.op_flush(node, owner).await
    }
    async fn release(&self, _: NodeId, fh: u64) -> Result<()> {
        self.op_release(fh)
    }
    async fn fsync(&self, _: Caller, node: NodeId, _: u64, _: bool) -> Result<()> {
        self.op_fsync(node).await
    }
    async fn opendir(&self, _: Caller, node: NodeId) -> Result<Opened> {
        self.op_opendir(node)
    }
    async fn readdir(&self, _: Caller, _: NodeId, fh: u64, offset: u64) -> Result<DirPage> {
        self.op_readdir(fh, offset).await
    }
    async fn releasedir(&self, _: NodeId, fh: u64) -> Result<()> {
        self.dirs.lock().remove(&fh);
        Ok(())
    }
    async fn fsyncdir(&self, _: Caller, node: NodeId) -> Result<()> {
        self.op_fsync(node).await
    }
    async fn statfs(&self, _: Caller, _: NodeId) -> Result<StatFs> {
        self.op_statfs().await
    }
    async fn setxattr(&self, _: Caller, node: NodeId, name: Bytes, value: Bytes, flags: i32) -> Result<()> {
        self.op_setxattr(node, &name, &value, flags).await
    }
    async fn getxattr(&self, _: Caller, node: NodeId, name: Bytes) -> Result<Bytes> {
        self.op_getxattr(node, &name).await
    }
    async fn listxattr(&self, _: Caller, node: NodeId) -> Result<Bytes> {
        self.op_listxattr(node).await
    }
    async fn removexattr(&self, _: Caller, node: NodeId, name: Bytes) -> Result<()> {
        self.op_removexattr(node, &name).await
    }
    async fn getlk(&self, _: Caller, node: NodeId, _: u64, owner: u64, lock: FileLock) -> Result<FileLock> {
        self.op_getlk(node, owner, lock).await
    }
    async fn setlk(
        &self,
        _: Caller,
        node: NodeId,
        _: u64,
        owner: u64,
        lock: FileLock,
        wait: Option<oneshot::Receiver<()>>,
    ) -> Result<()> {
        self.op_setlk(node, owner, lock, wait).await
    }
    async fn fallocate(
        &self,
        _: Caller,
        node: NodeId,
        fh: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        self.op_fallocate(node, fh, offset, len, mode).await
    }
    async fn lseek(&self, _: Caller, node: NodeId, _: u64, offset: i64, whence: i32) -> Result<i64> {
        self.op_lseek(node, offset, whence).await
    }
    async fn copy_file_range(&self, _: Caller, from: CopyEnd, to: CopyEnd, len: u64) -> Result<u32> {
        self.op_copy_file_range(from, to, len).await
    }
}
