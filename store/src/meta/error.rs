//! What can go wrong with metadata, one variant per thing the caller can do about it.

use std::path::PathBuf;

/// A failure of the metadata engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The batch itself is not acceptable. Nothing was applied.
    #[error("metadata batch refused: {0}")]
    Batch(String),
    /// The disk is full, or below the reserve kept so that deletes and flushes still work. Nothing was applied.
    #[error(
        "no space left for metadata in {path}: {free} bytes free, {need} needed; free space or delete files"
    )]
    NoSpace {
        /// The directory whose filesystem is full.
        path: PathBuf,
        /// Bytes free to this process.
        free: u64,
        /// Bytes needed, reserve included.
        need: u64,
    },
    /// The disk fails at the moment. Nothing of the batch took place, what was committed is kept, reads go on; it works
    /// again when the disk does.
    #[error("the disk under {path} fails")]
    Disk {
        /// The volume's directory.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The volume is closed, by its owner or after an earlier failure. Reopen it.
    #[error("metadata of {path} is closed: {reason}")]
    Closed {
        /// The volume's directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The tables are gone from the store, and there were rows: opened, they would pass for an empty volume.
    #[error(
        "the metadata of {place} is gone from the store, and what it named is there; bring back what is missing below \
         its meta/, from versions or a copy of the store, or run `mooring-gateway bucket rebuild`. Nothing is deleted \
         meanwhile"
    )]
    Lost {
        /// The volume's part of the store.
        place: String,
    },
    /// Another writer took the volume over. Drop everything cached and do not reopen.
    #[error("metadata of {path} was taken over by another writer")]
    Fenced {
        /// The volume's directory.
        path: PathBuf,
    },
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// The directory cannot be used: locked by another process, wrong permissions, read-only.
    #[error(transparent)]
    Backend(#[from] crate::backend::BackendError),
    /// A key is missing or wrong.
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
    /// The engine failed.
    #[error("metadata engine failed in {path}")]
    Engine {
        /// The volume's directory.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MetaError {
    /// Whether the same may work later: the disk fails or is full, nothing is known to be lost.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Disk { .. } | Self::NoSpace { .. } => true,
            Self::Journal(error) => error.may_pass(),
            _ => false,
        }
    }
}
