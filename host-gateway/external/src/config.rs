//! What says which bucket is served, and how it looks in a mount.

use std::time::Duration;

use zeroize::Zeroizing;

/// How long a change made behind our back may stay unseen unless the bucket says otherwise.
pub const REFRESH: Duration = Duration::from_secs(5);

/// Bytes of one bucket that may wait here to be uploaded, unless the bucket says otherwise.
pub const SPOOL_BYTES: u64 = 16 << 30;

/// Where a bucket is and who we are there.
#[derive(Clone)]
pub struct Place {
    /// Its endpoint, such as `https://s3.example.org`; none: AWS, by the region.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending with `/`.
    pub prefix: String,
    /// The bucket's name is part of the path, not of the host's name.
    pub path_style: bool,
    /// Whose rights are used.
    pub access_key: String,
    /// The secret of that key.
    pub secret: Zeroizing<String>,
}

/// How objects look as files, and what may wait here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Nothing may be changed.
    pub read_only: bool,
    /// How long a change made behind our back may stay unseen.
    pub refresh: Duration,
    /// Owner of everything.
    pub uid: u32,
    /// Group of everything.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Permission bits of directories.
    pub dir_mode: u16,
    /// Bytes that may wait here to be uploaded: also the largest file that can be written in a mount.
    pub spool_bytes: u64,
}

impl Default for Look {
    fn default() -> Look {
        let (file_mode, dir_mode) = (0o644, 0o755);
        Look {
            read_only: false,
            refresh: REFRESH,
            uid: 0,
            gid: 0,
            file_mode,
            dir_mode,
            spool_bytes: SPOOL_BYTES,
        }
    }
}
