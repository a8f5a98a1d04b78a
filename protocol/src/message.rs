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

use crate::types::{Ino, Time};

mod notice;
mod reclaim;
mod reply;
mod request;

pub use notice::{Ack, Notice};
pub use reclaim::reclaim_in_parts;
pub use reply::{Answer, Reply};
pub use request::{HeldHandle, HeldLock, Request};

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
