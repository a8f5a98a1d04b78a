//! The trash of buckets.

use serde::{Deserialize, Serialize};

/// `GET /v1/buckets/{name}/trash`: a page of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashPage {
    /// How long it keeps; `null`: what is removed now is gone.
    pub keep_seconds: Option<u64>,
    /// What is in it, in no order that means anything.
    pub entries: Vec<TrashEntry>,
    /// Ask for `?after=` this for more.
    pub next: Option<u64>,
}

/// Something in the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Names it, also when others were called the same.
    pub id: u64,
    /// Where it was; only the name where its directory is gone for good.
    pub path: String,
    /// Its directory is gone for good: it can be restored into another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub homeless: bool,
    /// It is a directory.
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// When it was removed, RFC 3339.
    pub removed: String,
}

/// `POST /v1/buckets/{name}/trash`: how long it keeps, `null` for no trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrashSet {
    /// Seconds.
    pub keep_seconds: Option<u64>,
}

/// `POST /v1/buckets/{name}/trash/restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrashRestore {
    /// Its number, or the path it had: then the newest that had it.
    pub what: String,
    /// The directory to put it into, instead of the one it was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRestored {
    /// Where it is.
    pub path: String,
    /// Files and directories.
    pub restored: u64,
    /// Those that stay in the trash because something else has their name.
    pub skipped: u64,
}

/// `DELETE /v1/buckets/{name}/trash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashEmptied {
    /// Files and directories that are gone for good.
    pub removed: u64,
}
