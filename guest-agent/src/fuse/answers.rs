//! How each of our values goes out through `fuser`'s reply objects.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{FileHandle, FileType, FopenFlags, Generation, INodeNo};
use rustix::io::Errno;

use super::filesystem::Result;
use super::reply::Answer;
use super::types::{Attr, Created, DirPage, Entry, FileLock, Opened, Stat, StatFs};

/// Inode ids are never used twice, so the generation says nothing more.
const GENERATION: Generation = Generation(0);

/// File data or a link's target.
pub(super) struct Data(pub Bytes);
/// Bytes written.
pub(super) struct Written(pub u32);
/// A place in a file.
pub(super) struct Place(pub i64);
/// A listing of names and types.
pub(super) struct Listing(pub DirPage);
/// An extended attribute, or only its size.
pub(super) enum Xattr {
    /// The kernel asked how large it is.
    Size(u32),
    /// The value.
    Value(Bytes),
}

impl Xattr {
    /// The answer for a caller with a buffer of `size` bytes; 0 asks for the size.
    pub(super) fn sized(value: Bytes, size: u32) -> Result<Xattr> {
        let len = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
        match size {
            0 => Ok(Xattr::Size(len)),
            _ if len > size => Err(Errno::RANGE),
            _ => Ok(Xattr::Value(value)),
        }
    }
}

macro_rules! answer {
    ($value:ty, $raw:ty, |$v:ident, $r:ident| $send:expr $(, handle: |$h:ident| $handle:expr)?) => {
        impl Answer for $value {
            type Raw = $raw;
            fn send(self, $r: $raw) {
                let $v = self;
                $send
            }
            fn fail(raw: $raw, errno: fuser::Errno) {
                raw.error(errno);
            }
            $(fn handle(&self) -> Option<u64> {
                let $h = self;
                Some($handle)
            })?
        }
    };
}

answer!((), fuser::ReplyEmpty, |_v, r| r.ok());
answer!(Data, fuser::ReplyData, |v, r| r.data(&v.0));
answer!(Written, fuser::ReplyWrite, |v, r| r.written(v.0));
answer!(Place, fuser::ReplyLseek, |v, r| r.offset(v.0));
answer!(Stat, fuser::ReplyAttr, |v, r| r.attr(&v.ttl, &file_attr(&v.attr)));
answer!(Opened, fuser::ReplyOpen, |v, r| r.opened(FileHandle(v.fh), open_flags(&v)), handle: |v| v.fh);
answer!(FileLock, fuser::ReplyLock, |v, r| r.locked(v.start, v.end, v.kind, v.pid));
answer!(Entry, fuser::ReplyEntry, |v, r| match v.attr {
    Some(attr) => r.entry_with_ttls(&v.attr_ttl, &v.entry_ttl, &file_attr(&attr), GENERATION),
    // Without a life in the kernel's cache, "no such name" is a plain error.
    None if v.entry_ttl.is_zero() => r.error(fuser::Errno::ENOENT),
    // Node number 0 is how FUSE says "no such name, and you may remember it".
    None => r.entry_with_ttls(&Duration::ZERO, &v.entry_ttl, &absent(), GENERATION),
});
answer!(Created, fuser::ReplyCreate, |v, r| match v.entry.attr {
    Some(attr) => r.created(
        &v.entry.entry_ttl,
        &file_attr(&attr),
        GENERATION,
        FileHandle(v.opened.fh),
        open_flags(&v.opened)
    ),
    None => r.error(fuser::Errno::EIO),
}, handle: |v| v.opened.fh);
answer!(StatFs, fuser::ReplyStatfs, |v, r| {
    r.statfs(v.blocks, v.bfree, v.bavail, v.files, v.ffree, v.bsize, v.namelen, v.bsize)
});
answer!(Xattr, fuser::ReplyXattr, |v, r| match v {
    Xattr::Size(size) => r.size(size),
    Xattr::Value(value) => r.data(&value),
});
answer!(Listing, fuser::ReplyDirectory, |v, r| {
    let mut r = r;
    let page = v.0;
    for (i, e) in page.entries.iter().enumerate().skip(page.from) {
        if r.add(INodeNo(e.ino), page.base + i as u64 + 1, file_type(e.kind), OsStr::from_bytes(&e.name)) {
            break;
        }
    }
    r.ok();
});
fn open_flags(o: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_DIRECT_IO, o.direct_io);
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, o.keep_cache);
    flags.set(FopenFlags::FOPEN_CACHE_DIR, o.cache_dir);
    flags
}

fn file_type(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn file_attr(a: &Attr) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: INodeNo(a.ino),
        size: a.size,
        blocks: a.blocks,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        crtime: UNIX_EPOCH,
        kind: file_type(a.mode),
        // Masked to 12 bits, which fit.
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        blksize: 4096,
        flags: 0,
    }
}

fn absent() -> fuser::FileAttr {
    fuser::FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
