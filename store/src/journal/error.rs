//! What can go wrong with the journal.

use std::path::PathBuf;

/// A failure of the journal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A record does not check, and no crash leaves it like that. It was an acknowledged change, so
    /// nothing is dropped silently: restore the file, or give the volume up to a checkpoint.
    #[error(
        "journal {path} is damaged at byte {offset}: {detail}; it held acknowledged changes, restore the file"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the bad record begins.
        offset: u64,
        /// What does not check.
        detail: String,
    },
    /// The files do not form one sequence: one is missing or comes from another volume.
    #[error("journal in {path} has a gap: {detail}")]
    Gap {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// Written by a newer release.
    #[error("journal {path} has format {found}, this program reads up to {supported}; use a newer one")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// What we read.
        supported: u16,
    },
    /// The record does not fit a journal file. Nothing happened.
    #[error("record of {bytes} bytes; a journal file takes {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No room for the next journal file.
    #[error("no space left for the journal in {path}")]
    NoSpace {
        /// The directory.
        path: PathBuf,
    },
    /// What was written earlier is not there any more, so nothing more is written. Opening anew finds out what is left.
    #[error("journal {path} stopped after an earlier failure: {reason}")]
    Stopped {
        /// The directory.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// The disk fails at the moment. Nothing of what was asked happened; it works again when the disk does.
    #[error("journal {path} waits for its disk: {reason}")]
    Fault {
        /// The directory.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// Its owner closed it.
    #[error("journal {path} is closed")]
    Closed {
        /// The directory.
        path: PathBuf,
    },
    /// Another gateway has taken the volume over.
    #[error(
        "another gateway has taken over the volume in {path}; {left} changes made here are not in the store"
    )]
    Fenced {
        /// The directory.
        path: PathBuf,
        /// Records that the store does not have.
        left: u64,
    },
    /// The store has records that the journal here has lost.
    #[error("the journal in {path} ends at record {have}, and the store has {stored}")]
    Behind {
        /// The directory.
        path: PathBuf,
        /// Its last record.
        have: u64,
        /// The store's.
        stored: u64,
    },
    /// The store does not answer. What was to be made durable is kept here and goes there when it does.
    #[error(
        "what the journal in {path} holds does not come to the store {store}; see that it can be reached"
    )]
    Waiting {
        /// The directory.
        path: PathBuf,
        /// The store.
        store: String,
    },
    /// A file operation failed.
    #[error("cannot {op} journal {path}: {source}")]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said. Shared, because every waiter of one fdatasync gets it.
        source: std::sync::Arc<std::io::Error>,
    },
    /// What the records name could not be made durable, so neither can they.
    #[error("cannot sync the data that journal {path} names: {source}")]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the data's store said.
        source: super::DataError,
    },
    /// The journal's key cannot be made, or a record does not open.
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
}
