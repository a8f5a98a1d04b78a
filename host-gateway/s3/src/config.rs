//! Settings and bounds. Every bound of this crate stands here with its unit and reason.

use std::time::Duration;

/// How the S3 door presents itself.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// The region that signatures must name. Not `us-east-1`: there, boto3 presigns with SigV2.
    pub region: String,
    /// Host names under which `<bucket>.<domain>` is a bucket. Lower case, no port.
    pub domains: Vec<String>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for S3Config {
    fn default() -> Self {
        Self { region: "mooring-1".into(), domains: vec!["s3.localhost".into()], limits: Limits::default() }
    }
}

/// Bounds of a request and of the door.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests served at once by one router; others wait `queue_wait`, then get SlowDown. Times
    /// [`REQUEST_MEMORY`] this is the door's memory.
    pub requests: usize,
    /// How long a request may wait for its turn.
    pub queue_wait: Duration,
    /// Largest body of one PutObject or UploadPart, in bytes (AWS: 5 GiB).
    pub put_bytes: u64,
    /// Largest single silence while a body is read.
    pub body_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 256,
            queue_wait: Duration::from_secs(10),
            put_bytes: 5 << 30,
            body_stall: Duration::from_secs(60),
        }
    }
}

/// Bytes handed to the store at once, and read from it at once. The store's largest extent.
pub(crate) const BATCH: usize = 1 << 20;
/// What a streaming request holds at most: one batch on the way in, one being hashed and stored, one in the connection.
pub const REQUEST_MEMORY: usize = 4 * BATCH;
/// Batches read ahead of a slow GET.
pub(crate) const READ_AHEAD: usize = 2;
/// Batches larger than this are hashed off the reactor: MD5 takes about 0.1 ms for it.
pub(crate) const HASH_INLINE: usize = 64 << 10;

/// Names and values of all headers together. AWS allows 8 KiB and 2 KiB of user metadata; session tokens need room.
pub(crate) const HEADER_BYTES: usize = 24 << 10;
/// Headers of a request.
pub(crate) const HEADERS: usize = 100;
/// User metadata, names and values together, without the `x-amz-meta-` (AWS).
pub(crate) const METADATA_BYTES: usize = 2 << 10;
/// Longest key in bytes (AWS).
pub(crate) const KEY_BYTES: usize = 1024;
/// Longest bucket name as seen by a caller: `<owner>.<share>`, two labels of 63.
pub(crate) const BUCKET_BYTES: usize = 127;
/// Body of CreateBucket.
pub(crate) const CREATE_XML: usize = 16 << 10;
/// Body of DeleteObjects: 1,000 keys of 1,024 bytes, escaped.
pub(crate) const DELETE_XML: usize = 4 << 20;
/// Body of CompleteMultipartUpload: 10,000 parts with checksums.
pub(crate) const COMPLETE_XML: usize = 6 << 20;
/// Keys of one DeleteObjects (AWS).
pub(crate) const DELETE_KEYS: usize = 1000;
/// Deletes of one DeleteObjects under way at once.
pub(crate) const DELETE_PARALLEL: usize = 16;
/// Entries of one listing (AWS).
pub(crate) const LIST_KEYS: i32 = 1000;
/// Highest part number (AWS).
pub(crate) const PARTS: u16 = 10_000;
/// Smallest part but the last (AWS).
pub(crate) const PART_BYTES: u64 = 5 << 20;
/// Longest life of a presigned URL in seconds (AWS: 7 days).
pub(crate) const PRESIGN_SECS: u64 = 604_800;
/// One line of aws-chunked framing: a size, a signature, nothing else.
pub(crate) const CHUNK_LINE: usize = 256;
/// All trailers of a chunked body.
pub(crate) const TRAILER_BYTES: usize = 4 << 10;
