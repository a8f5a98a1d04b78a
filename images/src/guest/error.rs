//! What can go wrong while building a guest; every message says what to change.

use std::io;
use std::path::PathBuf;

/// Why a guest could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as in "reading".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A tool is not installed or could not be started.
    #[error("cannot start `{program}`; `cargo xtask setup` installs it")]
    Start {
        /// The tool.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A tool ran and failed.
    #[error("`{command}` failed ({status}): {words}")]
    Failed {
        /// The whole command.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error.
        words: String,
    },
    /// The machine's apt knows no Debian mirror to fetch from.
    #[error(
        "no Debian mirror found in this machine's apt sources for `{suite}`; \
         add one (see sources.list(5)) and run `apt-get update`"
    )]
    NoMirror {
        /// The suite whose mirror was looked for.
        suite: String,
    },
    /// No package of the archive has a name that fits.
    #[error("the mirror offers no package named like `{pattern}`")]
    NoSuchPackage {
        /// The pattern of the name.
        pattern: String,
    },
    /// A fetched file does not have the digest its lock names.
    #[error("{} has digest {found}, its lock says {expected}; delete the file and its lock to fetch it anew", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the lock says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A lock file does not parse.
    #[error("{}:{line}: not `name version sha256 file`; delete the lock to make it anew", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
    /// The kernel has no such driver, neither built in nor as a module.
    #[error("kernel {release} has no module `{module}`")]
    NoModule {
        /// The kernel's release.
        release: String,
        /// The module.
        module: String,
    },
    /// The kernel file is not what this code can unpack.
    #[error("{}: {reason}", path.display())]
    Kernel {
        /// The kernel file.
        path: PathBuf,
        /// What is odd about it.
        reason: &'static str,
    },
    /// A path of a layer would land outside of the guest's root.
    #[error("`{}` is not an absolute guest path of plain names", path.display())]
    GuestPath {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// Makes the closure for `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
