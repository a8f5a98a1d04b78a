//! The file system of a disk: each request is the same call on the folder below, unless a fault is set.
//!
//! Inodes are those of the folder below, each held open by path (`O_PATH`) as long as the kernel knows it, so that a
//! number cannot be given to another file meanwhile. Times cannot be set: nobody below a data folder does.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io::{Error, Result};
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::{Fault, Switch};

/// The kernel keeps nothing: what is asked is asked here.
const TTL: Duration = Duration::ZERO;
/// How long a slow disk takes.
const SLOW: Duration = Duration::from_millis(100);

type Entries = Vec<(u64, FileType, OsString)>;

pub(super) struct Through {
    switch: Arc<Switch>,
    /// Each inode with how often the kernel was told of it.
    nodes: Mutex<HashMap<u64, (Arc<File>, u64)>>,
    /// Number of the folder at the top, which the kernel calls 1.
    top: u64,
    files: Mutex<HashMap<u64, Arc<File>>>,
    listings: Mutex<HashMap<u64, Arc<Entries>>>,
    next: AtomicU64,
}

fn kind(of: std::fs::FileType) -> FileType {
    match of {
        of if of.is_dir() => FileType::Directory,
        of if of.is_symlink() => FileType::Symlink,
        of if of.is_socket() => FileType::Socket,
        of if of.is_fifo() => FileType::NamedPipe,
        _ => FileType::RegularFile,
    }
}

fn time(secs: i64, nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::new(secs.unsigned_abs(), nanos as u32)
}

/// A name for what a descriptor holds, whatever became of its own name.
fn path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Through {
    pub fn new(below: &Path, switch: Arc<Switch>) -> Result<Through> {
        let top = File::from(rustix::fs::open(below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        let number = top.metadata()?.ino();
        let nodes = HashMap::from([(number, (Arc::new(top), 1))]);
        Ok(Through {
            switch,
            nodes: Mutex::new(nodes),
            top: number,
            files: Mutex::default(),
            listings: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    fn node(&self, ino: INodeNo) -> Result<Arc<File>> {
        let ino = if ino.0 == 1 { self.top } else { ino.0 };
        let nodes = self.nodes.lock();
        nodes.get(&ino).map(|(file, _)| file.clone()).ok_or_else(|| rustix::io::Errno::STALE.into())
    }

    fn file(&self, fh: FileHandle) -> Result<Arc<File>> {
        self.files.lock().get(&fh.0).cloned().ok_or_else(|| rustix::io::Errno::BADF.into())
    }

    fn keep(&self, file: File) -> FileHandle {
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        self.files.lock().insert(fh, Arc::new(file));
        FileHandle(fh)
    }

    fn attr(&self, meta: &Metadata) -> FileAttr {
        FileAttr {
            ino: INodeNo(if meta.ino() == self.top { 1 } else { meta.ino() }),
            size: meta.size(),
            blocks: meta.blocks(),
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: kind(meta.file_type()),
            perm: (meta.mode() & 0o7777) as u16,
            nlink: meta.nlink() as u32,
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Finds a name, and holds what it leads to.
    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&*self.node(parent)?, name, flags, Mode::empty())?);
        let meta = file.metadata()?;
        self.nodes.lock().entry(meta.ino()).or_insert((Arc::new(file), 0)).1 += 1;
        Ok(self.attr(&meta))
    }

    /// What takes room.
    fn room(&self) -> Result<()> {
        if self.switch.is(&[Fault::Full]) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        self.fails(Fault::Writes)
    }

    fn fails(&self, fault: Fault) -> Result<()> {
        if self.switch.is(&[fault]) { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    }

    fn sync(&self, what: &File, data: bool) -> Result<()> {
        self.fails(Fault::Syncs)?;
        self.slow();
        if data { what.sync_data() } else { what.sync_all() }
    }

    fn slow(&self) {
        if self.switch.is(&[Fault::Slow]) {
            std::thread::sleep(SLOW);
        }
    }

    fn put(&self, fh: FileHandle, offset: u64, data: &[u8]) -> Result<u32> {
        self.fails(Fault::Writes)?;
        let file = self.file(fh)?;
        let meta = file.metadata()?;
        // What was allocated can be written, as on a disk.
        if offset + data.len() as u64 > meta.size().min(meta.blocks() * 512) {
            self.room()?;
        }
        self.slow();
        let short = data.len() > 1 && self.switch.is(&[Fault::Short]);
        let data = if short { &data[..data.len() / 2] } else { data };
        file.write_all_at(data, offset)?;
        Ok(data.len() as u32)
    }

    fn get(&self, fh: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>> {
        self.fails(Fault::Reads)?;
        let (file, mut bytes, mut filled) = (self.file(fh)?, vec![0; size as usize], 0);
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn change(&self, ino: INodeNo, fh: Option<FileHandle>, set: &Set) -> Result<FileAttr> {
        let node = self.node(ino)?;
        if let Some(size) = set.size {
            self.room()?;
            match fh {
                Some(fh) => self.file(fh)?.set_len(size)?,
                None => File::options().write(true).open(path(&node))?.set_len(size)?,
            }
        }
        if let Some(mode) = set.mode {
            std::fs::set_permissions(path(&node), Permissions::from_mode(mode & 0o7777))?;
        }
        if set.owner != (None, None) {
            std::os::unix::fs::chown(path(&node), set.owner.0, set.owner.1)?;
        }
        Ok(self.attr(&node.metadata()?))
    }

    fn list(&self, ino: INodeNo) -> Result<FileHandle> {
        let mut entries: Entries = [".", ".."].map(|name| (1, FileType::Directory, name.into())).into();
        for entry in std::fs::read_dir(path(&*self.node(ino)?))? {
            let entry = entry?;
            entries.push((entry.ino(), kind(entry.file_type()?), entry.file_name()));
        }
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        self.listings.lock().insert(fh, Arc::new(entries));
        Ok(FileHandle(fh))
    }
}

struct Set {
    mode: Option<u32>,
    owner: (Option<u32>, Option<u32>),
    size: Option<u64>,
}

fn empty(reply: ReplyEmpty, done: Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn entry(reply: ReplyEntry, done: Result<FileAttr>) {
    match done {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

fn attr(reply: ReplyAttr, done: Result<FileAttr>) {
    match done {
        Ok(attr) => reply.attr(&TTL, &attr),
        Err(error) => reply.error(error.into()),
    }
}

fn opened(reply: ReplyOpen, done: Result<FileHandle>, flags: FopenFlags) {
    match done {
        Ok(fh) => reply.opened(fh, flags),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for Through {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.find(parent, name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        let mut nodes = self.nodes.lock();
        if let Some((_, known)) = nodes.get_mut(&ino.0) {
            *known = known.saturating_sub(count);
            if *known == 0 && ino.0 != self.top {
                nodes.remove(&ino.0);
            }
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.node(ino).and_then(|node| Ok(self.attr(&node.metadata()?))));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        attr(reply, self.change(ino, fh, &Set { mode, owner: (uid, gid), size }));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let done = self.room().and_then(|()| {
            rustix::fs::mkdirat(&*self.node(parent)?, name, Mode::from_raw_mode(mode))?;
            self.find(parent, name)
        });
        entry(reply, done);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = |dir: Arc<File>| Ok(rustix::fs::unlinkat(&*dir, name, AtFlags::empty())?);
        empty(reply, self.node(parent).and_then(gone));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = |dir: Arc<File>| Ok(rustix::fs::unlinkat(&*dir, name, AtFlags::REMOVEDIR)?);
        empty(reply, self.node(parent).and_then(gone));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.fails(Fault::Writes).and_then(|()| {
            let (from, to) = (self.node(parent)?, self.node(new_parent)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            Ok(rustix::fs::renameat_with(&*from, name, &*to, new_name, flags)?)
        });
        empty(reply, done);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let done = self.room().and_then(|()| {
            let (node, dir) = (self.node(ino)?, self.node(parent)?);
            rustix::fs::linkat(rustix::fs::CWD, path(&node), &*dir, name, AtFlags::SYMLINK_FOLLOW)?;
            self.find(parent, name)
        });
        entry(reply, done);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let open = |node: Arc<File>| {
            let flags = OFlags::from_bits_retain(flags.0 as u32) - OFlags::NOFOLLOW - OFlags::DIRECT;
            let file = rustix::fs::open(path(&node), flags | OFlags::CLOEXEC, Mode::empty())?;
            Ok(self.keep(file.into()))
        };
        opened(reply, self.node(ino).and_then(open), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let done = self.room().and_then(|()| {
            let flags = OFlags::from_bits_retain(flags as u32) - OFlags::DIRECT;
            let flags = flags | OFlags::CREATE | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(&*self.node(parent)?, name, flags, Mode::from_raw_mode(mode & 0o7777))?;
            let attr = self.find(parent, name)?;
            Ok((attr, self.keep(file.into())))
        });
        match done {
            Ok((attr, fh)) => reply.created(&TTL, &attr, Generation(0), fh, FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.get(fh, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.put(fh, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.lock().remove(&fh.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, data: bool, reply: ReplyEmpty) {
        empty(reply, self.file(fh).and_then(|file| self.sync(&file, data)));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        opened(reply, self.list(ino), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(entries) = self.listings.lock().get(&fh.0).cloned() else {
            return reply.error(Errno::from(Error::from(rustix::io::Errno::BADF)));
        };
        for (at, (ino, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*ino), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, data: bool, reply: ReplyEmpty) {
        let done =
            self.node(ino).and_then(|node| File::open(path(&node))).and_then(|dir| self.sync(&dir, data));
        empty(reply, done);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.node(INodeNo(1)).and_then(|top| Ok(rustix::fs::fstatvfs(File::open(path(&top))?)?)) {
            Ok(all) => reply.statfs(
                all.f_blocks,
                all.f_bfree,
                all.f_bavail,
                all.f_files,
                all.f_ffree,
                all.f_bsize as u32,
                255,
                all.f_frsize as u32,
            ),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.room().and_then(|()| {
            let mode = rustix::fs::FallocateFlags::from_bits_retain(mode as u32);
            Ok(rustix::fs::fallocate(&*self.file(fh)?, mode, offset, length)?)
        });
        empty(reply, done);
    }
}
