//! Checks, scrubs, damage, rebuilding.

use mooring_policy::ids::{BucketName, TenantId};
use serde::{Deserialize, Serialize};

/// `POST /v1/buckets/{name}/check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckStart {
    /// Also read every byte and hold it against its hash.
    #[serde(default)]
    pub data: bool,
}

/// `POST /v1/buckets/{name}/scrub`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubStart {
    /// Bytes in a second; as fast as it goes when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// A check or scrub that was started: how far it is, and in the end what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job<T> {
    /// Still under way.
    pub running: bool,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to be read; 0 while that is not known.
    pub total: u64,
    /// What it found, when it is over.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub report: Option<T>,
    /// Why it could not be carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Files, directories and the like.
    pub inodes: u64,
    /// Of those, without a name: open or about to go.
    pub orphans: u64,
    /// Runs of bytes, each stored once.
    pub extents: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes that were read and hashed.
    pub bytes_read: u64,
    /// How many findings there are.
    pub total: u64,
    /// How many were mended.
    pub mended: u64,
    /// How many could be mended.
    pub repairable: u64,
    /// The first thousand.
    pub findings: Vec<Finding>,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `rows`, `namespace`, `extents`, `counters`, `packs` or `data`.
    pub kind: String,
    /// What does not agree.
    pub what: String,
    /// The files it hurts; at most ten.
    pub paths: Vec<String>,
}

/// What a scrub did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Packs that were read.
    pub packs: u64,
    /// Extents that were read.
    pub extents: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged extents among them; `bucket damage` lists them.
    pub damaged: u64,
}

/// What a rebuild came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// When the checkpoint was taken that it began with, RFC 3339; none when there was none that opens.
    pub checkpoint: Option<String>,
    /// Checkpoints that do not open, and why.
    pub unreadable: Vec<String>,
    /// The journal reached back to it: nothing is missing.
    pub journal: bool,
    /// Why the journal was of no use, where that is an error.
    pub journal_error: Option<String>,
    /// Rows there were to begin with.
    pub rows: u64,
    /// Extents found at another place than their rows said.
    pub moved: u64,
    /// Extents that no pack has.
    pub lost: u64,
    /// Files that got newer bytes.
    pub extended: u64,
    /// Files put into `lost+found/`.
    pub found: u64,
    /// What a check says at the end.
    pub findings: u64,
    /// Where the metadata of before is kept.
    pub aside: String,
}

/// An extent whose bytes do not check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Whose.
    pub owner: TenantId,
    /// Which bucket.
    pub bucket: BucketName,
    /// The pack.
    pub pack: String,
    /// Where in it.
    pub offset: u32,
    /// Bytes that cannot be read.
    pub bytes: u32,
    /// The files it hurts, as far as they were met.
    pub paths: Vec<String>,
    /// What does not check.
    pub detail: String,
    /// When it was first met, RFC 3339.
    pub since: String,
}
