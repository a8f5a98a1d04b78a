//! What travels in a frame's body: the greeting, file operations, their replies, and what the gateway says unasked.
//!
//! The operations are shaped after FUSE, so that the agent translates and does not interpret. Bodies are encoded with
//! postcard; file data is never in a body: it is the frame's payload, handed on by reference.
//!
//! Every request names a *door* in its header (`volume`): a bucket by its volume id, a share by an id of its own with
//! the top bit set. The gateway looks up what the session may do behind that door at every request.
//!
//! Leases ride on replies. A reply may carry grants; they hold from the moment the agent reads that reply, in stream
//! order with [`Notice::Recall`], so a recall can never overtake the grant it recalls. The gateway grants what costs
//! nobody anything and waits only where the request says so ([`Request::Acquire`], opens for writing).

use mooring_policy::ids::{BucketName, ShareName, TenantId, VmId};
use serde::{Deserialize, Serialize};

use crate::types::{
    Allocate, Attr, DirEntry, Handle, Ino, LeaseGrant, LeaseMode, LockKind, LockRange, Name, NewNode,
    OpenMode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};

/// The agent's first words on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest protocol version the agent speaks.
    pub versions: (u8, u8),
    /// The agent's own version, for logs and `status`.
    pub agent: String,
    /// Random per boot of the guest (`/proc/sys/kernel/random/boot_id`), so that a restart is told from a reconnect.
    pub boot: [u8; 16],
    /// One-shot enrolment value, where the gateway hands one out.
    pub enrolment: Option<Vec<u8>>,
    /// A token, on channels that do not identify the VM by themselves (TCP).
    pub token: Option<String>,
    /// The session to go on with after a reconnect.
    pub resume: Option<Resume>,
}

/// Which session to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Its id.
    pub session: u64,
    /// Its epoch as last seen.
    pub epoch: u64,
}

/// The gateway's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both speak from here on.
    pub version: u8,
    /// The session's id; random, needed to resume.
    pub session: u64,
    /// The session's epoch: raised by each resume; goes in every later header.
    pub epoch: u64,
    /// How the old session, if one was named, goes on.
    pub resumed: Resumed,
    /// Who the gateway takes the guest for.
    pub tenant: TenantId,
    /// The VM, when the channel is one VM's.
    pub vm: Option<VmId>,
    /// Session token for the S3 and API doors.
    pub token: String,
    /// When the token ends, milliseconds since the Unix epoch.
    pub token_until_ms: u64,
    /// The gateway's clock, for stamping times.
    pub now: Time,
    /// Requests the agent may have unanswered at once.
    pub max_in_flight: u32,
    /// Largest payload in bytes, either way.
    pub max_payload: u32,
    /// What can be mounted now. Later changes come as [`Notice::Doors`].
    pub doors: Vec<Door>,
}

/// The fate of the session named in [`Hello::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resumed {
    /// A new session; nothing was to be resumed.
    Fresh,
    /// The gateway still has it: leases, handles and locks stand; resend what was not answered.
    Kept,
    /// The gateway restarted: reclaim handles, locks and leases with [`Request::Reclaim`], then resend.
    Reclaim,
    /// Evicted: unsent writes are refused, handles are dead; this is a new session.
    Lost,
}

/// Something that can be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Goes in the header's `volume` field.
    pub id: u64,
    /// What it is.
    pub kind: DoorKind,
    /// Its root directory.
    pub root: Ino,
    /// No operation behind it can change anything.
    pub read_only: bool,
}

/// A bucket or a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoorKind {
    /// One of the tenant's own buckets.
    Bucket {
        /// Its name.
        name: BucketName,
    },
    /// An accepted share of another tenant.
    Share {
        /// Whose bucket it is in.
        owner: TenantId,
        /// The share's name.
        name: ShareName,
    },
}

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
    /// After a gateway restart: what the agent still holds behind this door. [`Reply::Reclaimed`].
    Reclaim {
        /// Open files.
        handles: Vec<HeldHandle>,
        /// Leases.
        leases: Vec<LeaseGrant>,
        /// fcntl locks.
        locks: Vec<HeldLock>,
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

/// Answer to a [`Request`] that succeeded; a failure is a status in the header with an empty body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked for.
    pub reply: Reply,
    /// Leases granted with it. Hold from the moment this is read.
    pub leases: Vec<LeaseGrant>,
}

/// What a request brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing but success.
    Done,
    /// An entry's inode.
    Entry {
        /// Its attributes.
        attr: Attr,
    },
    /// Attributes.
    Attr {
        /// After the operation.
        attr: Attr,
    },
    /// An open file.
    Opened {
        /// Use this handle.
        handle: Handle,
        /// Attributes after open (and truncation).
        attr: Attr,
        /// The file was made by this request.
        created: bool,
    },
    /// The payload is the data.
    Data {
        /// The read ended at the end of the file.
        eof: bool,
        /// The inode's version the data belongs to.
        version: u64,
    },
    /// Bytes were written or copied.
    Written {
        /// How many.
        count: u64,
        /// Attributes after it; of an append, `attr.size` is where it ended.
        attr: Attr,
    },
    /// Small bytes: symlink target, extended attribute.
    Bytes {
        /// The bytes.
        value: Vec<u8>,
    },
    /// A page of a directory.
    Entries {
        /// In cursor order.
        entries: Vec<DirEntry>,
        /// Nothing follows.
        end: bool,
    },
    /// Space.
    Stat {
        /// Of the volume.
        stat: VolumeStat,
    },
    /// A place in a file.
    Offset {
        /// In bytes.
        offset: u64,
    },
    /// The conflicting lock, or none.
    Lock {
        /// Kind, range and pid of the holder.
        holder: Option<(LockKind, LockRange, u32)>,
    },
    /// What could be reclaimed; anything not in here is gone.
    Reclaimed {
        /// Handles that live on.
        handles: Vec<Handle>,
        /// Leases that live on (with new sequence numbers).
        leases: Vec<LeaseGrant>,
    },
}

/// What the gateway says unasked, behind one door (header `volume`), or to the session (`volume` 0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Reduce a lease to `to`: hand over what is dirty, publish, invalidate the kernel, then [`Ack::Recalled`].
    Recall {
        /// The grant that is recalled; a newer grant on the same inode is not meant.
        grant: LeaseGrant,
        /// What may be kept: `Read` after a downgrade, else `None`.
        to: LeaseMode,
        /// Milliseconds until the session is evicted.
        deadline_ms: u32,
    },
    /// Hand over everything gathered up to now (of one inode, or all), keep the leases, then [`Ack::Barrier`].
    Barrier {
        /// Named in the acknowledgement.
        id: u64,
        /// One inode, or everything behind the door.
        ino: Option<Ino>,
        /// Milliseconds until the session is evicted.
        deadline_ms: u32,
    },
    /// The right behind this door ended: drop everything, fail what is open; then [`Ack::Revoked`].
    Revoked {
        /// Milliseconds until the session is fenced.
        deadline_ms: u32,
    },
    /// What can be mounted now, all of it.
    Doors {
        /// The full list.
        doors: Vec<Door>,
    },
    /// A fresh session token for the S3 and API doors.
    Token {
        /// The token.
        token: String,
        /// When it ends, milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// The session is evicted: nothing it sends is taken any more.
    Fenced {
        /// Why, for the log.
        reason: String,
    },
    /// The gateway is about to stop in good order; reconnect afterwards.
    Goodbye,
}

/// The agent's answer to a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ack {
    /// The recall is done.
    Recalled {
        /// The inode.
        ino: Ino,
        /// The recalled grant's sequence.
        seq: u64,
    },
    /// Everything gathered before the barrier was handed over.
    Barrier {
        /// Its id.
        id: u64,
    },
    /// Pages and state of the door are dropped.
    Revoked,
}
