//! What an agent asks for.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Reply;
#[cfg(doc)]
use crate::types::DirEntry;
use crate::types::{
    Allocate, Handle, Ino, LeaseGrant, LeaseMode, LockKind, LockRange, Name, NewNode, OpenMode, RenameMode,
    Seek, SetAttr, Time, XattrMode,
};

/// One operation behind a door. Replies are named beside each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Find a name. [`Reply::Entry`], with read leases on parent and child where free.
    Lookup {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// Attributes of an inode. [`Reply::Attr`].
    GetAttr {
        /// The inode.
        ino: Ino,
    },
    /// Change attributes, truncate. [`Reply::Attr`].
    SetAttr {
        /// The inode.
        ino: Ino,
        /// What to change.
        set: SetAttr,
        /// The handle of an `ftruncate`: its right to write was settled at open.
        handle: Option<Handle>,
    },
    /// Target of a symlink. [`Reply::Bytes`].
    ReadLink {
        /// The symlink.
        ino: Ino,
    },
    /// Make something. [`Reply::Entry`], or [`Reply::Opened`] for a file made open (with a write lease on it).
    Create {
        /// The directory.
        parent: Ino,
        /// The new name.
        name: Name,
        /// Permission bits, umask already applied.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group; a set-group-id parent overrides it.
        gid: u32,
        /// What to make.
        node: NewNode,
        /// With an open regular file: fail if the name exists (`O_EXCL`), instead of opening what is there.
        exclusive: bool,
    },
    /// Remove a name that is not a directory. [`Reply::Done`].
    Unlink {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// Remove an empty directory. [`Reply::Done`].
    RmDir {
        /// The parent.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// Rename, atomically and in constant time for files and directories. [`Reply::Done`].
    Rename {
        /// Directory it is in.
        parent: Ino,
        /// Its name.
        name: Name,
        /// Directory it goes to.
        new_parent: Ino,
        /// Name it gets.
        new_name: Name,
        /// What happens to an existing target.
        mode: RenameMode,
    },
    /// Another name for a file. [`Reply::Entry`].
    Link {
        /// The file.
        ino: Ino,
        /// Directory of the new name.
        parent: Ino,
        /// The new name.
        name: Name,
    },
    /// Open a file. [`Reply::Opened`]; for writing it waits for the write lease.
    Open {
        /// The file.
        ino: Ino,
        /// How.
        mode: OpenMode,
    },
    /// Read bytes; fewer than asked for only at the end of the file. [`Reply::Data`] with the bytes as payload.
    Read {
        /// The file.
        ino: Ino,
        /// An open handle, so that an unlinked file can be read.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// How many, at most `max_payload`.
        size: u32,
        /// Ask for a read lease with the answer.
        want_lease: bool,
    },
    /// Write the payload. [`Reply::Written`].
    Write {
        /// The file.
        ino: Ino,
        /// An open handle with the right to write.
        handle: Handle,
        /// First byte; ignored when appending.
        offset: u64,
        /// At the end of the file, picked by the gateway.
        append: bool,
        /// When the program wrote it, in the gateway's time; clamped above the inode's ctime.
        stamp: Option<Time>,
        /// Drop setuid and setgid as a write by an unprivileged program does.
        clear_suid_sgid: bool,
    },
    /// Close a handle; releases its locks. [`Reply::Done`].
    Release {
        /// The handle.
        handle: Handle,
        /// fcntl lock owner whose locks on the inode end with this close.
        lock_owner: Option<u64>,
    },
    /// Make everything of this inode that was handed over durable, and the namespace operations before it. [`Reply::Done`].
    Fsync {
        /// File or directory.
        ino: Ino,
    },
    /// A page of a directory. [`Reply::Entries`]; with a read lease on the directory where free.
    ReadDir {
        /// The directory.
        ino: Ino,
        /// Cursor of the last entry seen ([`DirEntry::cursor`]), empty to start.
        after: Vec<u8>,
        /// At most this many entries.
        limit: u32,
        /// With attributes and read leases on the children where free.
        plus: bool,
    },
    /// Space and inodes. [`Reply::Stat`].
    StatFs,
    /// An extended attribute. [`Reply::Bytes`].
    GetXattr {
        /// The inode.
        ino: Ino,
        /// Full name with namespace, 1 to 255 bytes.
        name: Vec<u8>,
    },
    /// All names of extended attributes, each ended by NUL. [`Reply::Bytes`].
    ListXattr {
        /// The inode.
        ino: Ino,
    },
    /// Set an extended attribute. [`Reply::Done`].
    SetXattr {
        /// The inode.
        ino: Ino,
        /// Full name with namespace, 1 to 255 bytes.
        name: Vec<u8>,
        /// Its value, at most 64 KiB.
        value: Vec<u8>,
        /// Create, replace or either.
        mode: XattrMode,
    },
    /// Remove an extended attribute. [`Reply::Done`].
    RemoveXattr {
        /// The inode.
        ino: Ino,
        /// Its name.
        name: Vec<u8>,
    },
    /// Reserve, punch or zero. [`Reply::Attr`].
    Allocate {
        /// The file.
        ino: Ino,
        /// An open handle with the right to write.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What to do.
        how: Allocate,
    },
    /// Find data or a hole. [`Reply::Offset`].
    Seek {
        /// The file.
        ino: Ino,
        /// Where to start.
        offset: u64,
        /// What to find.
        what: Seek,
    },
    /// Copy bytes inside the volume without moving them. [`Reply::Written`].
    CopyRange {
        /// From this file.
        source: Ino,
        /// From this byte.
        source_offset: u64,
        /// Into this file.
        target: Ino,
        /// At this byte.
        target_offset: u64,
        /// How many.
        length: u64,
    },
    /// Who holds a conflicting fcntl lock. [`Reply::Lock`].
    LockGet {
        /// The file.
        ino: Ino,
        /// The asker.
        owner: u64,
        /// Which bytes.
        range: LockRange,
        /// Which kind it wants.
        kind: LockKind,
    },
    /// Take or release an fcntl lock. [`Reply::Done`].
    LockSet {
        /// The file.
        ino: Ino,
        /// The lock owner of the guest's kernel.
        owner: u64,
        /// The process, shown to others by `LockGet`.
        pid: u32,
        /// Which bytes.
        range: LockRange,
        /// Which kind.
        kind: LockKind,
        /// Wait until it is free (cancelled by a `Cancel` frame).
        wait: bool,
    },
    /// Get a lease, waiting until others gave theirs up. [`Reply::Attr`] with the grant.
    Acquire {
        /// The inode.
        ino: Ino,
        /// Which kind.
        mode: LeaseMode,
    },
    /// Give leases up unasked (cache pressure). [`Reply::Done`].
    Return {
        /// Which grants.
        leases: Vec<LeaseGrant>,
    },
    /// After a gateway restart: what the agent still holds behind this door, before anything else is asked there. Made
    /// by [`reclaim_in_parts`](super::reclaim_in_parts). [`Reply::Reclaimed`].
    Reclaim {
        /// Open files.
        handles: Vec<HeldHandle>,
        /// Leases.
        leases: Vec<LeaseGrant>,
        /// fcntl locks.
        locks: Vec<HeldLock>,
        /// It did not fit into one frame, and the rest follows: others wait until it has come.
        more: bool,
    },
    /// Make everything handed over behind this door durable (`syncfs`). [`Reply::Done`].
    SyncFs,
}

/// An open file to be reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldHandle {
    /// The number it had and keeps.
    pub handle: Handle,
    /// The file.
    pub ino: Ino,
    /// How it was opened.
    pub mode: OpenMode,
}

/// A lock to be reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// The file.
    pub ino: Ino,
    /// The guest kernel's lock owner.
    pub owner: u64,
    /// The process.
    pub pid: u32,
    /// Which bytes.
    pub range: LockRange,
    /// Which kind.
    pub kind: LockKind,
}
