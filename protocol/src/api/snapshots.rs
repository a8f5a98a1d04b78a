//! Snapshots and clones of buckets.

use super::QuotaChange;
use mooring_policy::ids::BucketName;
use serde::{Deserialize, Serialize};

/// `POST /v1/buckets/{name}/snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// Its name; without one it is called after the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/buckets/{name}/clone`: another bucket that shows the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketClone {
    /// What it is called.
    pub name: BucketName,
    /// What the bucket was in this snapshot; without one what it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What it may take; none: no limit of its own.
    #[serde(default, skip_serializing_if = "QuotaChange::is_empty")]
    pub quota: QuotaChange,
}

/// A snapshot of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name: the directory below `.snapshots/` in the mount, the version id in S3.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// Files and directories it has.
    pub files: u64,
    /// Bytes they have blocks for.
    pub bytes: u64,
}

/// `PUT /v1/buckets/{name}/schedule`: snapshots that are taken by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSchedule {
    /// Seconds between two.
    pub every_seconds: u64,
    /// How many of them are kept; the oldest goes first. Those with a name of their own are never removed.
    pub keep: u32,
}
