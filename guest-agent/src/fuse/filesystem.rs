//! The trait a mounted file system implements.

use std::future::Future;

use bytes::Bytes;
use rustix::io::Errno;

use super::notify::Notifier;
use super::types::{
    Caller, CopyEnd, Created, DirPage, Entry, FileLock, NodeId, Opened, SetAttr, Stat, StatFs, WriteIn,
};

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Errno>;

/// What the kernel asks of a file system.
///
/// Every method is a future. Its first step runs on the thread that took the request from the kernel, so
/// what can be answered from memory never changes threads; the rest runs on the runtime. A method must
/// not block its thread. A future is not dropped when the caller is killed: it runs to its end and its
/// result goes nowhere, so state stays whole; [`Filesystem::setlk`] alone is told (see there).
///
/// Defaults answer `ENOSYS`, which the kernel remembers and does not ask again.
pub trait Filesystem: Send + Sync + 'static {
    /// Called once, before the first request: how to tell the kernel to forget.
    fn mounted(&self, _: Notifier) {}

    /// Finds `name` in `parent`.
    fn lookup(&self, by: Caller, parent: NodeId, name: Bytes) -> impl Future<Output = Result<Entry>> + Send;

    /// The kernel dropped `count` references to `node`.
    fn forget(&self, _node: NodeId, _count: u64) {}

    /// Attributes of a node.
    fn getattr(&self, by: Caller, node: NodeId, fh: Option<u64>)
    -> impl Future<Output = Result<Stat>> + Send;

    /// Changes attributes; a size truncates or extends.
    fn setattr(&self, _: Caller, _: NodeId, _: SetAttr) -> impl Future<Output = Result<Stat>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Target of a symbolic link.
    fn readlink(&self, _: Caller, _: NodeId) -> impl Future<Output = Result<Bytes>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Makes a file, device, pipe or socket. `mode` has the umask applied.
    fn mknod(
        &self,
        _: Caller,
        _parent: NodeId,
        _name: Bytes,
        _mode: u32,
        _rdev: u32,
    ) -> impl Future<Output = Result<Entry>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Makes a directory. `mode` has the umask applied.
    fn mkdir(
        &self,
        _: Caller,
        _parent: NodeId,
        _name: Bytes,
        _mode: u32,
    ) -> impl Future<Output = Result<Entry>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Makes a symbolic link.
    fn symlink(
        &self,
        _: Caller,
        _parent: NodeId,
        _name: Bytes,
        _target: Bytes,
    ) -> impl Future<Output = Result<Entry>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Gives a file another name.
    fn link(
        &self,
        _: Caller,
        _node: NodeId,
        _parent: NodeId,
        _name: Bytes,
    ) -> impl Future<Output = Result<Entry>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Removes a name of a file.
    fn unlink(&self, _: Caller, _parent: NodeId, _name: Bytes) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Removes an empty directory.
    fn rmdir(&self, _: Caller, _parent: NodeId, _name: Bytes) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Renames; `flags` are those of `renameat2`.
    fn rename(
        &self,
        _: Caller,
        _from: (NodeId, Bytes),
        _to: (NodeId, Bytes),
        _flags: u32,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Opens a file. `O_TRUNC` is part of `flags`.
    fn open(&self, _: Caller, _: NodeId, _flags: i32) -> impl Future<Output = Result<Opened>> + Send {
        async { Ok(Opened::default()) }
    }

    /// Makes and opens a file. `mode` has the umask applied.
    fn create(
        &self,
        _: Caller,
        _parent: NodeId,
        _name: Bytes,
        _mode: u32,
        _flags: i32,
    ) -> impl Future<Output = Result<Created>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Reads up to `size` bytes; fewer only at the end of the file.
    fn read(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _offset: u64,
        _size: u32,
    ) -> impl Future<Output = Result<Bytes>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Writes; answers how many bytes were taken.
    fn write(&self, _: Caller, _: NodeId, _fh: u64, _: WriteIn) -> impl Future<Output = Result<u32>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// A descriptor was closed (not necessarily the last of this open file); `owner`'s locks go.
    fn flush(&self, _: Caller, _: NodeId, _fh: u64, _owner: u64) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// The last descriptor of this open file is gone.
    fn release(&self, _: NodeId, _fh: u64) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Makes the file durable.
    fn fsync(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _datasync: bool,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Opens a directory.
    fn opendir(&self, _: Caller, _: NodeId) -> impl Future<Output = Result<Opened>> + Send {
        async { Ok(Opened::default()) }
    }

    /// Lists from the place after cookie `offset`.
    fn readdir(
        &self,
        by: Caller,
        node: NodeId,
        fh: u64,
        offset: u64,
    ) -> impl Future<Output = Result<DirPage>> + Send;

    /// Closes a directory.
    fn releasedir(&self, _: NodeId, _fh: u64) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Makes a directory's changes durable.
    fn fsyncdir(&self, _: Caller, _: NodeId) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Capacity.
    fn statfs(&self, _: Caller, _: NodeId) -> impl Future<Output = Result<StatFs>> + Send {
        async { Ok(StatFs { bsize: 4096, namelen: 255, ..StatFs::default() }) }
    }

    /// Sets an extended attribute; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
    fn setxattr(
        &self,
        _: Caller,
        _: NodeId,
        _name: Bytes,
        _value: Bytes,
        _flags: i32,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Value of an extended attribute.
    fn getxattr(&self, _: Caller, _: NodeId, _name: Bytes) -> impl Future<Output = Result<Bytes>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Names of the extended attributes, each ended by a zero byte.
    fn listxattr(&self, _: Caller, _: NodeId) -> impl Future<Output = Result<Bytes>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Removes an extended attribute.
    fn removexattr(&self, _: Caller, _: NodeId, _name: Bytes) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Asks who would stand in the way of a lock. `F_UNLCK` in the answer: nobody.
    fn getlk(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _owner: u64,
        _: FileLock,
    ) -> impl Future<Output = Result<FileLock>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Takes, changes or drops a lock; with `wait`, waits for it. When the waiting thread has a signal,
    /// `cancelled` is completed: the wait must end, and a lock granted all the same must be given back.
    fn setlk(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _owner: u64,
        _: FileLock,
        _wait: Option<tokio::sync::oneshot::Receiver<()>>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Allocates, zeroes or frees a range; `mode` as in `fallocate`.
    fn fallocate(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _offset: u64,
        _len: u64,
        _mode: i32,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    fn lseek(
        &self,
        _: Caller,
        _: NodeId,
        _fh: u64,
        _offset: i64,
        _whence: i32,
    ) -> impl Future<Output = Result<i64>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// Copies between two files of this mount; answers how many bytes were copied.
    fn copy_file_range(
        &self,
        _: Caller,
        _from: CopyEnd,
        _to: CopyEnd,
        _len: u64,
    ) -> impl Future<Output = Result<u32>> + Send {
        async { Err(Errno::NOSYS) }
    }
}
