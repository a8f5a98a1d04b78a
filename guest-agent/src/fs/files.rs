//! Open files: reading and writing.
//!
//! A file opened without `O_APPEND` is cached by the kernel, and every page the kernel has is covered by a lease of
//! this agent. With `O_APPEND` it is not cached: the gateway picks the end, and what the kernel may have of the place
//! is dropped before the write is answered.
//!
//! The kernel holds a page locked while it waits for our answer about it, and dropping pages for a recall waits for
//! that lock. So no request about pages may wait for a lease while a recall runs; it then goes around the lease
//! (`Use::Without`), and the recall drops its range once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mooring_protocol::holder::{Op, Range as Span, Use};
use mooring_protocol::message::{HeldHandle, Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, Handle, LeaseMode, NewNode, OpenMode};
use rustix::io::Errno;

use super::convert::permissions;
use super::node::Node;
use super::pages::Writing;
use super::{Door, errno, name, odd};
use crate::fuse::{Caller, Created, NodeId, Opened, Range, Result, WriteIn};

/// An open file of the kernel's.
pub struct OpenFile {
    handle: Handle,
    pub(super) node: Arc<Node>,
    mode: OpenMode,
    dead: AtomicBool,
}

impl OpenFile {
    /// The session it was opened in is gone.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    pub(super) fn held(&self) -> Option<HeldHandle> {
        let alive = !self.dead.load(Ordering::Acquire);
        alive.then_some(HeldHandle { handle: self.handle, ino: self.node.ino, mode: self.mode })
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::Acquire) { Err(Errno::STALE) } else { Ok(()) }
    }
}

fn open_mode(flags: i32) -> OpenMode {
    let access = flags & libc::O_ACCMODE;
    let truncate = flags & libc::O_TRUNC != 0;
    // To empty a file is to write, also through a descriptor that may only read.
    let write = access != libc::O_RDONLY || truncate;
    OpenMode { read: access != libc::O_WRONLY, write, append: write && flags & libc::O_APPEND != 0, truncate }
}

impl Door {
    pub(super) async fn op_open(&self, id: NodeId, flags: i32) -> Result<Opened> {
        let node = self.node(id)?;
        let mode = open_mode(flags);
        if mode.truncate || mode.append {
            self.hand_over(&node).await;
        }
        match self.ask(Request::Open { ino: node.ino, mode }).await.map_err(errno)? {
            Reply::Opened { handle, .. } => Ok(self.opened(node, handle, mode)),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_create(
        &self,
        by: Caller,
        parent: NodeId,
        bytes: &Bytes,
        mode: u32,
        flags: i32,
    ) -> Result<Created> {
        let open = open_mode(flags);
        let request = Request::Create {
            parent: self.to_ino(parent)?,
            name: name(bytes)?,
            mode: permissions(mode),
            uid: by.uid,
            gid: by.gid,
            node: NewNode::File { open: Some(open) },
            exclusive: flags & libc::O_EXCL != 0,
        };
        match self.ask(request).await.map_err(errno)? {
            Reply::Opened { handle, attr, .. } => {
                let node = self.table.get(attr.ino);
                let (attr, hold) = self.settle(&node, attr);
                let entry = self.to_entry(&attr, hold, false);
                Ok(Created { entry, opened: self.opened(node, handle, open) })
            }
            other => Err(odd(&other)),
        }
    }

    fn opened(&self, node: Arc<Node>, handle: Handle, mode: OpenMode) -> Opened {
        let keep_cache = {
            let mut state = node.state.lock();
            state.opens += 1;
            if mode.write && !mode.append {
                state.writers.insert(0, handle);
            } else if mode.write {
                state.writers.push(handle);
            }
            // Pages the kernel has are covered by the lease from when they were read until now.
            state.covered() && !state.recalling
        };
        let file = OpenFile { handle, node, mode, dead: AtomicBool::new(false) };
        self.files.lock().insert(handle.0, Arc::new(file));
        Opened { fh: handle.0, direct_io: mode.append, keep_cache, cache_dir: false }
    }

    fn file(&self, fh: u64) -> Result<Arc<OpenFile>> {
        self.files.lock().get(&fh).cloned().ok_or(Errno::BADF)
    }

    pub(super) async fn op_read(&self, fh: u64, offset: u64, size: u32) -> Result<Bytes> {
        let file = self.file(fh)?;
        file.alive()?;
        if file.mode.append {
            self.hand_over(&file.node).await;
            return self.fetch(&file, offset, size, false).await.map(|(data, _)| data);
        }
        // Written bytes are mostly in the kernel's own pages; where it asks, they go to the gateway first.
        let gathered = {
            let state = file.node.state.lock();
            let end = offset + u64::from(size);
            // A hole before gathered bytes is there for the gateway only when it has them: it would answer with the
            // end of the file, and the kernel would believe that.
            let longer =
                state.gather.end() > offset && state.attr.as_ref().is_none_or(|attr| attr.size < end);
            state.gather.overlaps(offset, u64::from(size)) || longer || state.sending.is_some()
        };
        if gathered {
            self.hand_over(&file.node).await;
        }
        let op = Op::Look(Some(Span { start: offset, end: offset + u64::from(size) }));
        loop {
            let changed = file.node.changed.notified();
            match file.node.begin(op) {
                used @ (Use::Lease | Use::Without) => {
                    let data = self.fetch(&file, offset, size, false).await;
                    file.node.end(op, used);
                    return data.map(|(data, _)| data);
                }
                Use::Hold => changed.await,
                Use::Acquire => {
                    let (data, grant) = self.fetch(&file, offset, size, true).await?;
                    match file.node.begin(op) {
                        // Only the very lease that came with the data covers it. One that was granted later, after a
                        // recall of that one, says nothing of what was read before it.
                        Use::Lease if !file.node.holds(grant) => file.node.end(op, Use::Lease),
                        used @ (Use::Lease | Use::Without) => {
                            file.node.end(op, used);
                            return Ok(data);
                        }
                        Use::Hold => {}
                        // None came with the data: it has to be waited for, and then the data is read again.
                        Use::Acquire => self.acquire(&file.node, LeaseMode::Read).await?,
                    }
                }
            }
        }
    }

    /// Bytes from the gateway, and the number of the lease that came with them.
    async fn fetch(
        &self,
        file: &OpenFile,
        offset: u64,
        size: u32,
        want_lease: bool,
    ) -> Result<(Bytes, Option<u64>)> {
        let ino = file.node.ino;
        let request = Request::Read { ino, handle: file.handle, offset, size, want_lease };
        let (answer, data) = self.ask_with(request, Bytes::new()).await.map_err(errno)?;
        match answer.reply {
            Reply::Data { .. } if data.len() <= size as usize => {
                let grant = answer.leases.iter().find(|grant| grant.ino == ino);
                Ok((data, grant.map(|grant| grant.seq)))
            }
            other => Err(odd(&other)),
        }
    }

    /// Waits for a lease, or until a recall on the inode begins: then there is another way, and the recall must not
    /// wait for us.
    async fn acquire(&self, node: &Node, mode: LeaseMode) -> Result<()> {
        let asked = self.ask(Request::Acquire { ino: node.ino, mode });
        let recalled = async {
            loop {
                let changed = node.changed.notified();
                if node.state.lock().recalling {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            answer = asked => answer.map(|_| ()).map_err(errno),
            () = recalled => Ok(()),
        }
    }

    pub(super) async fn op_write(&self, by: Caller, id: NodeId, fh: u64, write: WriteIn) -> Result<u32> {
        let file = self.writable(id, fh)?;
        file.alive()?;
        let len = u32::try_from(write.data.len()).map_err(|_| Errno::INVAL)?;
        let kill = write.kill_priv && by.uid != 0;
        if file.mode.append && !write.from_cache {
            return self.append(&file, write.data, kill).await;
        }
        let permit = self.options.budget.free.clone().acquire_many_owned(len).await.map_err(|_| Errno::IO)?;
        let mut permit = Some(permit);
        let mut under_way = None;
        loop {
            let changed = file.node.changed.notified();
            let used = file.node.begin(Op::Change);
            if used != Use::Lease {
                // From here on a recall knows that this write may keep pages locked.
                under_way.get_or_insert_with(|| Writing::new(&file.node, write.offset, u64::from(len)));
            }
            match used {
                Use::Lease => {
                    let stamp = self.remote.now();
                    self.gather(&file.node, write.offset, write.data, stamp, kill, permit.take());
                    return Ok(len);
                }
                Use::Hold => changed.await,
                // The lease is being given up: straight to the gateway, and nothing of it stays in the kernel.
                Use::Without => {
                    let (count, _) = self.send_write(&file, write.offset, false, write.data, kill).await?;
                    self.drop_written(&file.node, write.offset, u64::from(len)).await;
                    return Ok(count);
                }
                Use::Acquire => self.acquire(&file.node, LeaseMode::Write).await?,
            }
        }
    }

    /// The open file of a write. For one out of the page cache the kernel guesses; any that may write will do.
    fn writable(&self, id: NodeId, fh: u64) -> Result<Arc<OpenFile>> {
        match self.file(fh) {
            Ok(file) if file.mode.write => Ok(file),
            _ => {
                let ino = self.to_ino(id)?;
                let files = self.files.lock();
                files.values().find(|f| f.node.ino == ino && f.mode.write).cloned().ok_or(Errno::BADF)
            }
        }
    }

    fn gather(
        &self,
        node: &Arc<Node>,
        offset: u64,
        data: Bytes,
        stamp: mooring_protocol::types::Time,
        kill: bool,
        permit: Option<tokio::sync::OwnedSemaphorePermit>,
    ) {
        let full = {
            let mut state = node.state.lock();
            state.kernel_pages = true;
            state.gather.write(offset, data, stamp, kill, permit);
            state.holder.end(Op::Change, Use::Lease);
            state.gather.bytes() >= super::hand_over::FULL
        };
        node.changed.notify_waiters();
        self.dirty.lock().entry(node.ino).or_insert_with(|| node.clone());
        if full || self.options.budget.is_tight() {
            self.hand_over_soon(node);
        }
    }

    async fn append(&self, file: &OpenFile, data: Bytes, kill: bool) -> Result<u32> {
        self.hand_over(&file.node).await;
        let (count, attr) = self.send_write(file, 0, true, data, kill).await?;
        if let Some(notifier) = self.notifier.get() {
            // The page with the old end may be cached through another open file.
            let start = attr.size.saturating_sub(u64::from(count));
            let range = Range { offset: start, len: u64::from(count) };
            notifier.pages(self.to_node(file.node.ino), range).await;
        }
        Ok(count)
    }

    async fn send_write(
        &self,
        file: &OpenFile,
        offset: u64,
        append: bool,
        data: Bytes,
        kill: bool,
    ) -> Result<(u32, Attr)> {
        let request = Request::Write {
            ino: file.node.ino,
            handle: file.handle,
            offset,
            append,
            stamp: None,
            clear_suid_sgid: kill,
        };
        match self.ask_with(request, data).await.map_err(errno)?.0.reply {
            Reply::Written { count, attr } => Ok((u32::try_from(count).map_err(|_| Errno::PROTO)?, attr)),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_flush(&self, id: NodeId, owner: u64) -> Result<()> {
        let node = self.node(id)?;
        self.unlock_all(&node, owner).await?;
        if self.options.close_sync {
            self.hand_over(&node).await;
        }
        node.take_error()
    }

    /// The kernel does not wait for this, and nobody sees an error of it.
    pub(super) fn op_release(&self, fh: u64) -> Result<()> {
        let file = self.file(fh)?;
        let unsent = {
            let mut state = file.node.state.lock();
            state.opens = state.opens.saturating_sub(1);
            state.used = std::time::Instant::now();
            state.releasing.extend(file.held());
            !state.gather.is_empty() || !state.releasing.is_empty()
        };
        // Only now, so that at no moment a gateway that restarts is told of neither.
        self.files.lock().remove(&fh);
        if unsent {
            self.hand_over_soon(&file.node);
        }
        Ok(())
    }

    pub(super) async fn op_fsync(&self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        self.hand_over(&node).await;
        node.take_error()?;
        self.done(Request::Fsync { ino: node.ino }).await
    }
}

impl Node {
    /// A request begins; see [`Holder`](mooring_protocol::holder::Holder).
    pub(super) fn begin(&self, op: Op) -> Use {
        let mut state = self.state.lock();
        let used = state.holder.begin(op);
        if matches!((used, op), (Use::Lease | Use::Without, Op::Look(Some(_)))) {
            state.kernel_pages = true;
        }
        used
    }

    /// Whether the lease held is the one with this number, without a break.
    fn holds(&self, grant: Option<u64>) -> bool {
        grant == Some(self.state.lock().holder.seq())
    }

    pub(super) fn end(&self, op: Op, used: Use) {
        self.state.lock().holder.end(op, used);
        self.changed.notify_waiters();
    }

    /// The error of an earlier hand-over, told once.
    pub(super) fn take_error(&self) -> Result<()> {
        match self.state.lock().error.take() {
            // Unsent writes that were refused are an I/O error, whatever the reason.
            Some(Status::Fenced | Status::Revoked | Status::Stale | Status::BadHandle) => Err(Errno::IO),
            Some(status) => Err(errno(status)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mooring_protocol::holder::Step;
    use mooring_protocol::types::{Ino, LeaseGrant};

    #[test]
    fn a_later_lease_does_not_cover_what_was_read_under_an_earlier_one() {
        let node = Node::new(Ino::ROOT);
        let op = Op::Look(Some(Span::ALL));
        let grant = |seq| LeaseGrant { ino: Ino::ROOT, mode: LeaseMode::Read, seq };
        assert_eq!(node.begin(op), Use::Acquire);
        // The data and its lease arrive; before the reader goes on, the lease is recalled and another is granted.
        {
            let mut state = node.state.lock();
            state.granted(&grant(1));
            state.holder.recall(1, LeaseMode::None);
            loop {
                let step = state.holder.next_step();
                state.holder.done(&step);
                if matches!(step, Step::Finish { .. }) {
                    break;
                }
            }
            state.granted(&grant(2));
        }
        assert_eq!(node.begin(op), Use::Lease);
        assert!(!node.holds(Some(1)) && !node.holds(None));
        assert!(node.holds(Some(2)));
    }
}
