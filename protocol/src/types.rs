//! The words both sides share: inodes, attributes, names, leases.
//!
//! Everything here is a plain value. A [`Name`] can only be made of bytes that are a legal directory entry, so no
//! code behind the decoder meets `..`, a slash or a NUL.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// An inode of a volume as a door shows it: 48 bits that are given out once and never reused, and above them 16 bits
/// that name the view it is seen in. View 0 is the head, the tree as it is now; others are snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ino(u64);

impl TryFrom<u64> for Ino {
    type Error = InoError;

    fn try_from(raw: u64) -> Result<Ino, InoError> {
        Ino::new(raw).ok_or(InoError(raw))
    }
}

impl From<Ino> for u64 {
    fn from(ino: Ino) -> u64 {
        ino.0
    }
}

/// A number that is no inode.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is no inode number: its lower 48 bits must not be 0")]
pub struct InoError(pub u64);

impl Ino {
    /// The root directory of every volume.
    pub const ROOT: Ino = Ino(1);
    /// Largest inode number of the head.
    pub const MAX: u64 = (1 << 48) - 1;

    /// An inode in a view, or `None` when its lower 48 bits are 0.
    pub const fn new(raw: u64) -> Option<Ino> {
        if raw & Self::MAX == 0 { None } else { Some(Ino(raw)) }
    }

    /// The view it is seen in; 0 is the head.
    pub const fn view(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The same inode in another view.
    #[must_use]
    pub const fn in_view(self, view: u16) -> Ino {
        Ino((self.0 & Self::MAX) | (view as u64) << 48)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ino:{}", self.0)
    }
}

/// The kind of a file, as `st_mode & S_IFMT` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix domain socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// A moment: seconds since the Unix epoch (years before 1970 and past 2038 included) and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: u64) -> Time {
        Time { secs: (ms / 1000) as i64, nanos: (ms % 1000) as u32 * 1_000_000 }
    }

    /// Milliseconds since the Unix epoch; moments before it are 0.
    pub const fn as_millis(self) -> u64 {
        if self.secs < 0 { 0 } else { self.secs as u64 * 1000 + (self.nanos / 1_000_000) as u64 }
    }
}

/// What `stat` tells of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky (`st_mode & 0o7777`).
    pub mode: u16,
    /// Number of names.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Device number of a device node (`st_rdev`, Linux encoding), else 0.
    pub rdev: u32,
    /// Length in bytes; of a symlink, the length of its target.
    pub size: u64,
    /// Bytes that are not holes, in units of 512 (`st_blocks`).
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
    /// Birth.
    pub btime: Time,
    /// Change counter of the inode: moves with every change of data or attributes. ETags and leases use it, never clocks.
    pub version: u64,
}

/// Why bytes are no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Empty.
    #[error("a name must have at least one byte")]
    Empty,
    /// Longer than [`Name::MAX`] bytes.
    #[error("a name may have at most 255 bytes; this one has {0}")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("`.` and `..` cannot be used as names")]
    Dots,
    /// Has a slash or a NUL byte.
    #[error("a name cannot contain `/` or a NUL byte")]
    Separator,
}

/// One directory entry's name: 1 to 255 bytes of any encoding, no slash, no NUL, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The directory of snapshots: reachable by this name where there is one, and in no listing.
    pub const SNAPSHOTS: &'static [u8] = b".snapshots";

    /// Longest name in bytes (Linux `NAME_MAX`).
    pub const MAX: usize = 255;

    /// Checks `bytes` and makes a name of them.
    pub fn new(bytes: &[u8]) -> Result<Name, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            b if b.len() > Self::MAX => Err(NameError::TooLong(b.len())),
            b if b.iter().any(|&c| c == b'/' || c == 0) => Err(NameError::Separator),
            b => Ok(Name(b.into())),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
        let bytes = Box::<[u8]>::deserialize(d)?;
        Name::new(&bytes).map_err(serde::de::Error::custom)
    }
}

/// New values for some attributes; `None` keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permission bits, `& 0o7777`.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncate or extend to this length.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Drop setuid, and setgid of group-executable files, in the same step (a write or truncate by an unprivileged caller).
    pub clear_suid_sgid: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    /// The gateway's now.
    Now,
    /// This moment.
    At(Time),
}

/// What to make under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewNode {
    /// A regular file; with `open` it is also opened (FUSE `CREATE`) and the reply carries a handle.
    File {
        /// Open it in the same step.
        open: Option<OpenMode>,
    },
    /// A directory.
    Dir,
    /// A symbolic link to these bytes (1 to 4,095, no NUL).
    Symlink {
        /// The target, stored as given.
        target: Vec<u8>,
    },
    /// A named pipe, socket or device node.
    Special {
        /// Which.
        kind: FileKind,
        /// Device number for devices, else 0.
        rdev: u32,
    },
}

/// How a handle may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMode {
    /// Reads allowed.
    pub read: bool,
    /// Writes allowed.
    pub write: bool,
    /// Every write goes to the end, which the gateway picks.
    pub append: bool,
    /// Truncate to zero at open.
    pub truncate: bool,
}

/// An open file at the gateway; the FUSE file handle of the guest is this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handle(pub u64);

/// Permission to cache an inode's data and attributes, or a directory's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseMode {
    /// Nothing may be cached.
    None,
    /// Shared: what was read may be kept until recalled.
    Read,
    /// Exclusive: may also be changed locally.
    Write,
}

/// A lease as granted: the sequence number lets a recall name exactly the grant it recalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// The inode, or the directory whose entries are meant.
    pub ino: Ino,
    /// What is allowed from now on.
    pub mode: LeaseMode,
    /// Grows with every grant or downgrade on this (volume, session).
    pub seq: u64,
}

/// One row of a directory listing. The listing goes by the bytes of `name`, with a `/` added for directories (S3's
/// order); that string is the cursor to continue after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// The entry's name.
    pub name: Name,
    /// The inode it names.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// Its attributes, when asked for (`readdirplus`).
    pub attr: Option<Attr>,
}

impl DirEntry {
    /// The cursor that continues a listing after this entry.
    pub fn cursor(&self) -> Vec<u8> {
        let mut c = self.name.as_bytes().to_vec();
        if self.kind == FileKind::Dir {
            c.push(b'/');
        }
        c
    }
}

/// What `statfs` tells of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStat {
    /// Bytes that may be stored in all (quota, or the store's own capacity).
    pub total_bytes: u64,
    /// Bytes still free.
    pub free_bytes: u64,
    /// Inodes that may exist in all.
    pub total_inodes: u64,
    /// Inodes still free.
    pub free_inodes: u64,
}

/// How `fallocate` changes a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocate {
    /// Promise space; grows the file unless `keep_size`.
    Reserve {
        /// Leave the length as it is.
        keep_size: bool,
    },
    /// Make a hole; never changes the length.
    PunchHole,
    /// Reads as zeros afterwards; grows the file unless `keep_size`.
    ZeroRange {
        /// Leave the length as it is.
        keep_size: bool,
    },
}

/// How `rename` treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// Replace it, as rename(2) does.
    Replace,
    /// Fail with `EEXIST`.
    NoReplace,
    /// Swap the two.
    Exchange,
}

/// How `setxattr` treats an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// Create or replace.
    Set,
    /// Fail when it exists.
    Create,
    /// Fail when it does not exist.
    Replace,
}

/// A byte range with inclusive ends, as fcntl locks use it; `end` = `u64::MAX` reaches to any end of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

/// The kind of an fcntl lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// Release.
    Unlock,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seek {
    /// Start of the next data at or after the offset.
    Data,
    /// Start of the next hole at or after the offset (the end of the file counts as one).
    Hole,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        assert_eq!(Name::new(b""), Err(NameError::Empty));
        assert_eq!(Name::new(b".."), Err(NameError::Dots));
        assert_eq!(Name::new(b"."), Err(NameError::Dots));
        assert_eq!(Name::new(b"a/b"), Err(NameError::Separator));
        assert_eq!(Name::new(b"a\0"), Err(NameError::Separator));
        assert_eq!(Name::new(&[b'x'; 256]), Err(NameError::TooLong(256)));
        assert!(Name::new(&[0xff; 255]).is_ok());
    }

    #[test]
    fn a_hostile_encoding_cannot_smuggle_a_name() {
        let bytes = postcard::to_stdvec(&b"../../etc".to_vec()).unwrap();
        assert!(postcard::from_bytes::<Name>(&bytes).is_err());
    }

    #[test]
    fn an_inode_has_a_number_and_a_view() {
        assert_eq!(Ino::new(0), None);
        assert_eq!(Ino::new(Ino::MAX + 1), None, "a view of nothing");
        let ino = Ino::new(Ino::MAX).unwrap();
        assert_eq!((ino.view(), ino.in_view(7).view(), ino.in_view(7).in_view(0)), (0, 7, ino));
    }
}
