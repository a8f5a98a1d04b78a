//! What can go wrong with keys and sealed bytes.

use std::path::PathBuf;

/// A failure to seal or open. None of them carries key material or plain text.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There is sealed data and no master key to open it with.
    #[error("master key {path} is missing, and sealed data exists; restore the file or name its place")]
    MasterMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there and is no key.
    #[error("master key {path} is not usable: {detail}")]
    MasterMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The key is not the one that wrapped this data key.
    #[error("the master key does not open the data key of {owner}: wrapped by {wrapped_by}, have {have}")]
    MasterWrong {
        /// Whose key it is.
        owner: String,
        /// Fingerprint of the key that wrapped it.
        wrapped_by: String,
        /// Fingerprint of the key we have.
        have: String,
    },
    /// No place had the key that is needed.
    #[error(
        "master key {id} is needed, which wraps the keys of {owner}; looked: {looked}; name the place of that key with --master-key or --more-master-keys"
    )]
    MasterNeeded {
        /// Whose keys it wraps.
        owner: String,
        /// Its fingerprint.
        id: String,
        /// Where was looked, and what was there.
        looked: String,
    },
    /// No place had any key, and a new installation needs one.
    #[error(
        "a master key is needed to begin with; looked: {looked}; name the place of one with --master-key"
    )]
    MasterNone {
        /// Where was looked, and what was there.
        looked: String,
    },
    /// A data key of this generation is not there (any more).
    #[error("sealed by data key {generation}, which its owner does not have")]
    NoGeneration {
        /// Which.
        generation: u16,
    },
    /// A wrapped key has an unknown form.
    #[error("wrapped key has format {found}, this program reads {supported}")]
    Version {
        /// Its version byte.
        found: u8,
        /// What we read.
        supported: u8,
    },
    /// Bytes do not open: changed on disk, moved from another place, or sealed by another key.
    #[error("sealed bytes do not open: changed, moved or sealed with another key")]
    Open,
    /// The cipher refused to seal; only a plain text over its limit does this.
    #[error("cannot seal {len} bytes")]
    Seal {
        /// Length of the plain text.
        len: usize,
    },
    /// A nonce counter ran out. The caller opens a new file, which has a new key.
    #[error("this key has sealed as much as is safe; a new file is needed")]
    Exhausted,
    /// A file operation on a key failed.
    #[error("cannot {op} {path}: {source}")]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: std::sync::Arc<std::io::Error>,
    },
}
