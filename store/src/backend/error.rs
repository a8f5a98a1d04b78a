//! What can be wrong with a directory before a byte of a volume is read.

use std::path::{Path, PathBuf};

/// A directory that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Another process, or another opener in this one, holds the volume.
    #[error("{path} is in use by process {pid}; stop it or choose another data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it; "unknown" when it has not yet.
        pid: String,
    },
    /// Others may read or write the directory.
    #[error("{path} has mode {mode:04o}, which lets other users in; run chmod 0700 on it")]
    Permissions {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user owns the directory.
    #[error("{path} belongs to uid {owner}, this process runs as uid {us}; change the owner or run as it")]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// The directory cannot be written: read-only filesystem or missing permission.
    #[error("{path} is not writable")]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The path exists and is not a directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The configuration of the object store makes no sense.
    #[error("the store {url:?} cannot be used: {detail}")]
    StoreConfig {
        /// As configured.
        url: String,
        /// What would be right.
        detail: String,
    },
    /// The object store does not do what was asked.
    #[error("cannot {op} the store {url}")]
    Store {
        /// The operation, as a verb.
        op: &'static str,
        /// Its URL.
        url: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object store answers, and not as volumes need it.
    #[error("the store {url} cannot hold volumes: it {fault} (it answered: {answer}); {remedy}")]
    Unfit {
        /// Its URL.
        url: String,
        /// What it does wrong.
        fault: &'static str,
        /// Its answer.
        answer: String,
        /// What to change.
        remedy: &'static str,
    },
    /// Any other failure of a file operation.
    #[error("cannot {op} {path}")]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl BackendError {
    /// Sorts an error of the system into the variant that says what to do.
    pub(crate) fn io(op: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        use std::io::ErrorKind as Kind;
        let (path, source) = (path.to_path_buf(), source.into());
        match source.kind() {
            Kind::ReadOnlyFilesystem | Kind::PermissionDenied => Self::ReadOnly { path, source },
            Kind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { op, path, source },
        }
    }
}
