//! `fuser`'s trait on one side, ours on the other. Converts, and decides nothing.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    FileHandle, INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::answers::{Data, Listing, Place, Written, Xattr};
use super::filesystem::{Filesystem, Result};
use super::mount;
use super::reply::{Answer, Counters, Op, Reply};
use super::types::{
    Caller, CopyEnd, Created, Entry, FileLock, Opened, SetAttr, Stat, StatFs, TimeSet, WriteIn,
};
use super::wait::{Ended, EndedBy, WaitTable};

pub(super) struct Adapter<F> {
    fs: Arc<F>,
    runtime: Handle,
    waits: WaitTable,
    counters: Arc<Counters>,
    deadline: Option<Duration>,
}

impl<F: Filesystem> Adapter<F> {
    pub(super) fn new(
        fs: Arc<F>,
        runtime: Handle,
        waits: WaitTable,
        counters: Arc<Counters>,
        deadline: Option<Duration>,
    ) -> Adapter<F> {
        Adapter { fs, runtime, waits, counters, deadline }
    }

    /// Runs an operation: its first step here, the rest in the runtime.
    fn run<A, Fut>(
        &self,
        op: Op,
        req: &Request,
        node: u64,
        raw: A::Raw,
        start: impl FnOnce(Arc<F>, Caller) -> Fut,
    ) where
        A: Answer,
        Fut: Future<Output = Result<A>> + Send + 'static,
    {
        let reply = Reply::<A>::new(raw, op, node, &self.counters);
        let by = caller(req);
        let mut work = Box::pin(start(self.fs.clone(), by));
        let _in_runtime = self.runtime.enter();
        // The waker may do nothing: whatever wakes it before the task below polls again is seen by that poll.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => reply.send(result),
            Poll::Pending => {
                let (place, ended) = self.waits.enter(by.tid, EndedBy::Fatal, self.deadline);
                let fs = self.fs.clone();
                self.runtime.spawn(async move {
                    let early = tokio::select! {
                        biased;
                        result = &mut work => return reply.send(result),
                        why = ended => if why == Ok(Ended::Deadline) { Errno::TIMEDOUT } else { Errno::INTR },
                    };
                    reply.send(Err(early));
                    drop(place);
                    // The operation still runs to its end, so that state stays whole; what it opens nobody else closes.
                    if let Some(fh) = work.await.ok().and_then(|unheard| unheard.handle()) {
                        let closed = match op {
                            Op::OpenDir => fs.releasedir(node, fh).await,
                            _ => fs.release(node, fh).await,
                        };
                        if let Err(error) = closed {
                            tracing::debug!(node, %error, "what was opened in vain could not be closed");
                        }
                    }
                });
            }
        }
    }
}

impl<F: Filesystem> fuser::Filesystem for Adapter<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        mount::negotiate(config);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<Entry, _>(Op::Lookup, req, parent, reply, |fs, by| async move {
            fs.lookup(by, parent, name).await
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.fs.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: fuser::ReplyAttr) {
        let (node, fh) = (ino.0, fh.map(|fh| fh.0));
        self.run::<Stat, _>(
            Op::GetAttr,
            req,
            node,
            reply,
            |fs, by| async move { fs.getattr(by, node, fh).await },
        );
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(time_set), mtime.map(time_set));
        let set = SetAttr { mode, uid, gid, size, atime, mtime, fh: fh.map(|fh| fh.0) };
        let node = ino.0;
        self.run::<Stat, _>(Op::SetAttr, req, node, reply, |fs, by| async move {
            fs.setattr(by, node, set).await
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: fuser::ReplyData) {
        let node = ino.0;
        self.run::<Data, _>(Op::ReadLink, req, node, reply, |fs, by| async move {
            fs.readlink(by, node).await.map(Data)
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: fuser::ReplyEntry,
    ) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<Entry, _>(Op::MkNod, req, parent, reply, |fs, by| async move {
            fs.mknod(by, parent, name, mode, rdev).await
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: fuser::ReplyEntry,
    ) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<Entry, _>(Op::MkDir, req, parent, reply, |fs, by| async move {
            fs.mkdir(by, parent, name, mode).await
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<(), _>(Op::Unlink, req, parent, reply, |fs, by| async move {
            fs.unlink(by, parent, name).await
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<(), _>(
            Op::RmDir,
            req,
            parent,
            reply,
            |fs, by| async move { fs.rmdir(by, parent, name).await },
        );
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: fuser::ReplyEntry) {
        let (parent, name, target) = (parent.0, bytes(name), bytes(target.as_os_str()));
        self.run::<Entry, _>(Op::Symlink, req, parent, reply, |fs, by| async move {
            fs.symlink(by, parent, name, target).await
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, bytes(name)), (newparent.0, bytes(newname)));
        self.run::<(), _>(Op::Rename, req, parent.0, reply, |fs, by| async move {
            fs.rename(by, from, to, flags.bits()).await
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        let (node, parent, name) = (ino.0, parent.0, bytes(name));
        self.run::<Entry, _>(Op::Link, req, node, reply, |fs, by| async move {
            fs.link(by, node, parent, name).await
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: fuser::ReplyOpen) {
        let node = ino.0;
        self.run::<Opened, _>(Op::Open, req, node, reply, |fs, by| async move {
            fs.open(by, node, flags.0).await
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: fuser::ReplyCreate,
    ) {
        let (parent, name) = (parent.0, bytes(name));
        self.run::<Created, _>(Op::Create, req, parent, reply, |fs, by| async move {
            fs.create(by, parent, name, mode, flags).await
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: fuser::ReplyData,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<Data, _>(Op::Read, req, node, reply, |fs, by| async move {
            fs.read(by, node, fh, offset, size).await.map(Data)
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        // The one copy on the way out: the kernel's request lies in a buffer that is about to be used again.
        let write = WriteIn {
            offset,
            data: Bytes::copy_from_slice(data),
            from_cache: write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            kill_priv: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            flags: flags.0,
        };
        let (node, fh) = (ino.0, fh.0);
        self.run::<Written, _>(Op::Write, req, node, reply, |fs, by| async move {
            fs.write(by, node, fh, write).await.map(Written)
        });
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, owner: LockOwner, reply: fuser::ReplyEmpty) {
        let (node, fh, owner) = (ino.0, fh.0, owner.0);
        self.run::<(), _>(Op::Flush, req, node, reply, |fs, by| async move {
            fs.flush(by, node, fh, owner).await
        });
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<(), _>(Op::Release, req, node, reply, |fs, _| async move { fs.release(node, fh).await });
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: fuser::ReplyEmpty) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<(), _>(Op::Fsync, req, node, reply, |fs, by| async move {
            fs.fsync(by, node, fh, datasync).await
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: fuser::ReplyOpen) {
        let node = ino.0;
        self.run::<Opened, _>(
            Op::OpenDir,
            req,
            node,
            reply,
            |fs, by| async move { fs.opendir(by, node).await },
        );
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: fuser::ReplyDirectory,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<Listing, _>(Op::ReadDir, req, node, reply, |fs, by| async move {
            fs.readdir(by, node, fh, offset).await.map(Listing)
        });
    }

    fn releasedir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<(), _>(
            Op::ReleaseDir,
            req,
            node,
            reply,
            |fs, _| async move { fs.releasedir(node, fh).await },
        );
    }

    fn fsyncdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let node = ino.0;
        self.run::<(), _>(
            Op::FsyncDir,
            req,
            node,
            reply,
            |fs, by| async move { fs.fsyncdir(by, node).await },
        );
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: fuser::ReplyStatfs) {
        let node = ino.0;
        self.run::<StatFs, _>(
            Op::StatFs,
            req,
            node,
            reply,
            |fs, by| async move { fs.statfs(by, node).await },
        );
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: fuser::ReplyEmpty,
    ) {
        let (node, name, value) = (ino.0, bytes(name), Bytes::copy_from_slice(value));
        self.run::<(), _>(Op::SetXattr, req, node, reply, |fs, by| async move {
            fs.setxattr(by, node, name, value, flags).await
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: fuser::ReplyXattr) {
        let (node, name) = (ino.0, bytes(name));
        self.run::<Xattr, _>(Op::GetXattr, req, node, reply, |fs, by| async move {
            Xattr::sized(fs.getxattr(by, node, name).await?, size)
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: fuser::ReplyXattr) {
        let node = ino.0;
        self.run::<Xattr, _>(Op::ListXattr, req, node, reply, |fs, by| async move {
            Xattr::sized(fs.listxattr(by, node).await?, size)
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        let (node, name) = (ino.0, bytes(name));
        self.run::<(), _>(Op::RemoveXattr, req, node, reply, |fs, by| async move {
            fs.removexattr(by, node, name).await
        });
    }

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: fuser::ReplyLock,
    ) {
        let (node, fh, owner) = (ino.0, fh.0, owner.0);
        let lock = FileLock { start, end, kind, pid };
        self.run::<FileLock, _>(Op::GetLk, req, node, reply, |fs, by| async move {
            fs.getlk(by, node, fh, owner, lock).await
        });
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let (node, fh, owner) = (ino.0, fh.0, owner.0);
        let lock = FileLock { start, end, kind, pid };
        if !sleep {
            return self.run::<(), _>(Op::SetLk, req, node, reply, |fs, by| async move {
                fs.setlk(by, node, fh, owner, lock, None).await
            });
        }
        // A wait for a lock has no deadline, ends on any signal, and is answered by the operation itself,
        // which has to give back what it was granted too late.
        let reply = Reply::<()>::new(reply, Op::SetLk, node, &self.counters);
        let by = caller(req);
        let (place, ended) = self.waits.enter(by.tid, EndedBy::Any, None);
        let (cancel, cancelled) = oneshot::channel();
        let fs = self.fs.clone();
        self.runtime.spawn(async move {
            let mut work = std::pin::pin!(fs.setlk(by, node, fh, owner, lock, Some(cancelled)));
            let result = tokio::select! {
                biased;
                result = &mut work => result,
                _ = ended => {
                    let _ = cancel.send(());
                    work.await
                }
            };
            drop(place);
            reply.send(result);
        });
    }

    // None of these is offered. They are here because the library would log each call.
    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::PollNotifier,
        _: fuser::PollEvents,
        _: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        // The kernel then says "always ready" by itself, which is right for files.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: fuser::ReplyBmap) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: fuser::ReplyEmpty,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<(), _>(Op::Fallocate, req, node, reply, |fs, by| async move {
            fs.fallocate(by, node, fh, offset, len, mode).await
        });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        let (node, fh) = (ino.0, fh.0);
        self.run::<Place, _>(Op::Lseek, req, node, reply, |fs, by| async move {
            fs.lseek(by, node, fh, offset, whence).await.map(Place)
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: fuser::CopyFileRangeFlags,
        reply: fuser::ReplyWrite,
    ) {
        let from = CopyEnd { ino: ino_in.0, fh: fh_in.0, offset: offset_in };
        let to = CopyEnd { ino: ino_out.0, fh: fh_out.0, offset: offset_out };
        self.run::<Written, _>(Op::CopyFileRange, req, to.ino, reply, |fs, by| async move {
            fs.copy_file_range(by, from, to, len).await.map(Written)
        });
    }
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), tid: req.pid() }
}

fn bytes(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn time_set(time: TimeOrNow) -> TimeSet {
    match time {
        TimeOrNow::SpecificTime(at) => TimeSet::At(at),
        TimeOrNow::Now => TimeSet::Now,
    }
}
