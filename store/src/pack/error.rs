//! What can go wrong with packs.

use super::PackId;
use std::path::PathBuf;
use std::sync::Arc;

/// A failure of a pack.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Bytes on disk are not what was written. Never wrong bytes instead.
    #[error("pack {pack} is damaged at byte {offset}: {detail}")]
    Corrupt {
        /// The pack.
        pack: PackId,
        /// Where in its file.
        offset: u64,
        /// What does not check.
        detail: String,
    },
    /// No such pack: deleted, or never there.
    #[error("pack {pack} does not exist")]
    Missing {
        /// The pack.
        pack: PackId,
    },
    /// The disk is full. Nothing of this append can be referred to; later ones may work.
    #[error("no space left for packs in {path}")]
    NoSpace {
        /// The directory.
        path: PathBuf,
    },
    /// The extent is not acceptable.
    #[error("extent of {bytes} bytes; allowed are 1 to {limit}")]
    Size {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The pack is still being written and cannot be deleted.
    #[error("pack {pack} is still open")]
    Busy {
        /// The pack.
        pack: PackId,
    },
    /// Written by a newer release.
    #[error("pack {path} has format {found}, this program reads up to {supported}; use a newer one")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// What we read.
        supported: u16,
    },
    /// After a failed sync something does not read back as it was written. Reopen the volume, which finds out what is
    /// left.
    #[error("packs in {path} stopped after a failed sync: {reason}")]
    Stopped {
        /// The directory.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// The store takes no packs, and as much waits for it as may.
    #[error("{bytes} bytes wait for the store {store}, which does not take them; see that it can be reached")]
    Backlog {
        /// The store.
        store: String,
        /// The bound.
        bytes: u64,
    },
    /// The packs in the store cannot be listed.
    #[error("cannot list the packs in the store")]
    Remote(#[source] Arc<crate::backend::BackendError>),
    /// A file operation failed.
    #[error("cannot {op} pack file {path}: {source}")]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The filesystem does not say how much room it has.
    #[error("cannot ask for free space: {0}")]
    Space(Arc<crate::backend::BackendError>),
    /// A key cannot be made.
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
}

impl From<crate::backend::BackendError> for PackError {
    fn from(error: crate::backend::BackendError) -> Self {
        Self::Space(Arc::new(error))
    }
}

impl PackError {
    pub(super) fn io(op: &'static str, path: &std::path::Path, source: impl Into<std::io::Error>) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let source = source.into();
        if matches!(source.kind(), StorageFull | QuotaExceeded) {
            return Self::NoSpace { path: path.to_path_buf() };
        }
        Self::Io { op, path: path.to_path_buf(), source: Arc::new(source) }
    }
}
