//! What a request brings back.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Request;
use crate::types::{Attr, DirEntry, Handle, LeaseGrant, LockKind, LockRange, VolumeStat};

/// Answer to a [`Request`] that succeeded; a failure is a status in the header with an empty body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked for.
    pub reply: Reply,
    /// Leases granted with it. Hold from the moment this is read.
    pub leases: Vec<LeaseGrant>,
    /// Attributes of the directories that the request changed, as it left them: whoever makes a file is asked for them
    /// next. True for who has held the directory's lease without a break since it asked.
    pub also: Vec<Attr>,
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
