//! The values that cross the boundary between the kernel and a file system.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::hold::Hold;

/// A kernel node number: view (16 bits) and inode id (48 bits). 1 is the root of a mount.
pub type NodeId = u64;

/// The node number of a mount's root.
pub const ROOT: NodeId = 1;

/// Who asked, as the kernel tells it. The thread id is in the namespace of the process that mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Thread id, or 0 for work of the kernel's own (read-ahead, release).
    pub tid: u32,
}

/// Attributes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The node number that `stat` shows.
    pub ino: NodeId,
    /// Bytes.
    pub size: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of content.
    pub mtime: SystemTime,
    /// Last change of anything.
    pub ctime: SystemTime,
}

/// A name that was looked up or made: what it is, and how long the kernel may believe so.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `None`: there is no such name, and the kernel may remember that for `entry_ttl`.
    pub attr: Option<Attr>,
    /// How long the kernel may keep name -> node.
    pub entry_ttl: Duration,
    /// How long the kernel may keep the attributes.
    pub attr_ttl: Duration,
    /// What the lives rest on, until the answer is written.
    pub hold: Option<Hold>,
}

/// Attributes with their life in the kernel.
#[derive(Clone, Debug)]
pub struct Stat {
    /// The attributes.
    pub attr: Attr,
    /// How long the kernel may keep them.
    pub ttl: Duration,
    /// What that rests on, until the answer is written.
    pub hold: Option<Hold>,
}

/// An open file or directory, and how the kernel may cache it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opened {
    /// Comes back with every request on this open file.
    pub fh: u64,
    /// Reads and writes bypass the page cache.
    pub direct_io: bool,
    /// Pages cached by earlier opens stay valid.
    pub keep_cache: bool,
    /// The kernel may cache the directory's entries.
    pub cache_dir: bool,
}

/// The reply to `create`.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new name.
    pub entry: Entry,
    /// The open file.
    pub opened: Opened,
}

/// One entry of a directory listing.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Node number.
    pub ino: NodeId,
    /// File type bits (`S_IFMT`).
    pub kind: u32,
    /// The name.
    pub name: Bytes,
}

/// A piece of a listing: the entries from `from` on. The cookie of entry `i` is `base + i + 1`, so a
/// listing can be resumed anywhere; as many are sent as fit in the kernel's buffer.
#[derive(Clone, Debug)]
pub struct DirPage {
    /// Entries, shared with the open directory.
    pub entries: std::sync::Arc<Vec<DirEntry>>,
    /// First entry to send.
    pub from: usize,
    /// Cookie of the place before the first of `entries`.
    pub base: u64,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSet {
    /// The time now, as the file system sees it.
    Now,
    /// This time.
    At(SystemTime),
}

/// What `setattr` changes; `None` is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length: truncates or extends.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<TimeSet>,
    /// Modification time.
    pub mtime: Option<TimeSet>,
    /// The open file the change came through, if any.
    pub fh: Option<u64>,
}

/// One write.
#[derive(Clone, Debug)]
pub struct WriteIn {
    /// Where.
    pub offset: u64,
    /// What.
    pub data: Bytes,
    /// Comes from the page cache (a shared mapping); the open file is a guess of the kernel's.
    pub from_cache: bool,
    /// Set-user-id and set-group-id bits must go.
    pub kill_priv: bool,
    /// Flags of the open file.
    pub flags: i32,
}

/// A byte-range lock request or its answer (`struct flock` with absolute, inclusive bounds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub kind: i32,
    /// Process that holds or asks.
    pub pid: u32,
}

/// One side of `copy_file_range`.
#[derive(Clone, Copy, Debug)]
pub struct CopyEnd {
    /// The file.
    pub ino: NodeId,
    /// Its open file.
    pub fh: u64,
    /// Where to begin.
    pub offset: u64,
}

/// Capacity figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFs {
    /// Size of the file system in blocks of `bsize`.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// Nodes.
    pub files: u64,
    /// Free nodes.
    pub ffree: u64,
    /// Block size.
    pub bsize: u32,
    /// Longest name.
    pub namelen: u32,
}
