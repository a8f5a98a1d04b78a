//! Why an operation of a volume fails: one enum for every door, turned into errno or an S3 code by the protocol's table.

use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;
use thiserror::Error;

/// Any error that comes from below the namespace, kept as the source.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why an operation of a volume failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nothing of that name, or nothing the caller may know of.
    #[error("not found")]
    NotFound,
    /// The caller knows of it but may not do this.
    #[error("access denied: {0}")]
    AccessDenied(String),
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// A path component is not a directory.
    #[error("not a directory")]
    NotDir,
    /// The operation is not for directories.
    #[error("is a directory")]
    IsDir,
    /// The directory has entries.
    #[error("directory is not empty")]
    NotEmpty,
    /// The arguments make no sense together; says which.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// A name or key is too long.
    #[error("name too long")]
    NameTooLong,
    /// A link or rename would cross a share's boundary or a volume's.
    #[error("crosses the boundary of a share or volume")]
    CrossDevice,
    /// The inode has 2^31 names.
    #[error("too many links")]
    TooManyLinks,
    /// The inode is gone, or no longer under the share it was opened through.
    #[error("stale inode {0}")]
    Stale(Ino),
    /// No such extended attribute.
    #[error("no such extended attribute")]
    NoAttribute,
    /// An offset beyond what there is (`ENXIO`).
    #[error("offset beyond the end")]
    Range,
    /// A file, value or list over its bound; says which bound.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// The volume cannot do this; says what.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// Nothing can be changed here: a snapshot.
    #[error("read-only: a snapshot cannot be changed")]
    ReadOnly,
    /// A condition of the request does not hold.
    #[error("precondition failed")]
    PreconditionFailed,
    /// No such multipart upload.
    #[error("no such upload")]
    NoSuchUpload,
    /// A part named at completion is missing, out of order or too small; says which.
    #[error("invalid part {number}: {why}")]
    InvalidPart {
        /// The part's number.
        number: u16,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tenant's or bucket's quota is used up.
    #[error("quota exceeded")]
    QuotaExceeded,
    /// The store has no room.
    #[error("no space left in the store: free space where the data directory lives")]
    NoSpace(#[source] Cause),
    /// Stored bytes did not pass their check. Only the range named is affected.
    #[error("damaged data in inode {ino} at byte {offset}")]
    Damaged {
        /// The file.
        ino: Ino,
        /// Where the damage begins.
        offset: u64,
        /// What the check found.
        #[source]
        source: Cause,
    },
    /// The volume has no such head: it was removed, or made after the state the volume was rebuilt from.
    #[error(
        "the volume has no head {0}: it was removed, or cloned after the state that the volume was rebuilt from"
    )]
    NoSuchHead(u64),
    /// Another gateway has taken the volume over.
    #[error("the volume was taken over by another gateway")]
    Fenced,
    /// The volume is being closed.
    #[error("the volume is closed")]
    Closed,
    /// The store underneath is away, slow or overloaded: it may work later.
    #[error("the store cannot be reached now")]
    Unavailable(#[source] Cause),
    /// The store underneath failed.
    #[error("the store failed")]
    Store(#[source] Cause),
}

impl StoreError {
    /// The row of the protocol's table that every door answers with.
    pub fn status(&self) -> Status {
        match self {
            Self::NotFound => Status::NotFound,
            Self::AccessDenied(_) => Status::AccessDenied,
            Self::Exists => Status::Exists,
            Self::NotDir => Status::NotDir,
            Self::IsDir => Status::IsDir,
            Self::NotEmpty => Status::NotEmpty,
            Self::Invalid(_) | Self::InvalidPart { .. } => Status::Invalid,
            Self::NameTooLong => Status::NameTooLong,
            Self::CrossDevice => Status::CrossDevice,
            Self::TooManyLinks => Status::TooManyLinks,
            Self::Stale(_) => Status::Stale,
            Self::NoAttribute => Status::NoAttribute,
            Self::Range => Status::NoSuchOffset,
            Self::TooLarge(_) => Status::FileTooLarge,
            Self::Unsupported(_) => Status::Unsupported,
            Self::ReadOnly => Status::ReadOnly,
            Self::PreconditionFailed => Status::PreconditionFailed,
            Self::NoSuchUpload => Status::NoSuchUpload,
            Self::QuotaExceeded => Status::QuotaExceeded,
            Self::NoSpace(_) => Status::NoSpace,
            Self::Damaged { .. } => Status::Corrupt,
            Self::Fenced => Status::Moved,
            Self::Closed | Self::Unavailable(_) => Status::Unavailable,
            Self::Store(_) | Self::NoSuchHead(_) => Status::Io,
        }
    }
}

impl From<crate::meta::MetaError> for StoreError {
    fn from(error: crate::meta::MetaError) -> StoreError {
        use crate::meta::MetaError;
        match error {
            MetaError::NoSpace { .. } => StoreError::NoSpace(Box::new(error)),
            MetaError::Closed { .. } => StoreError::Closed,
            MetaError::Fenced { .. } => StoreError::Fenced,
            MetaError::Journal(crate::journal::JournalError::Waiting { .. }) => {
                StoreError::Unavailable(Box::new(error))
            }
            other => StoreError::Store(Box::new(other)),
        }
    }
}

impl From<crate::keys::RowError> for StoreError {
    fn from(error: crate::keys::RowError) -> StoreError {
        StoreError::Store(Box::new(error))
    }
}

impl From<crate::pack::PackError> for StoreError {
    fn from(error: crate::pack::PackError) -> StoreError {
        match error {
            crate::pack::PackError::NoSpace { .. } => StoreError::NoSpace(Box::new(error)),
            crate::pack::PackError::Backlog { .. } => StoreError::Unavailable(Box::new(error)),
            other => StoreError::Store(Box::new(other)),
        }
    }
}

impl From<crate::upstream::UpstreamError> for StoreError {
    fn from(error: crate::upstream::UpstreamError) -> StoreError {
        StoreError::Store(Box::new(error))
    }
}
