//! Where volumes live: a directory, or an object store with a directory beside it; and who may open them.
//!
//! The directory:
//!
//! ```text
//! <data>/                       0700, ours
//!   realm/                      the registry: one metadata database
//!     LOCK  meta/  journal/
//!   tenants/<tenant>/<volume>/  volume id in sixteen hexadecimal digits
//!     LOCK                      flock; holds the opener's process id
//!     meta/                     the engine's tables and manifests
//!     journal/                  redo records of metadata commits
//!     packs/                    extents
//! ```
//!
//! Directories are made with mode 0700 and synced up to the first that was there before, so a volume that was
//! reported as created is there after loss of power.
//!
//! With an object store ([`object`]) the same tree holds what is on its way there: journal and packs of each volume that
//! are not in the store yet. On the store:
//!
//! ```text
//! <url>/
//!   probe                       what the store was found to do; see [`Backing::probed`]
//!   realm/                      key  log/  meta/
//!   tenants/<tenant>/<volume>/
//!     log/                      redo records, numbered; see [`crate::upstream`]
//!     meta/                     the engine's tables and manifests
//!     packs/                    extents
//! ```

mod dir;
mod error;
mod http;
mod lock;
mod object;
mod probe;

pub use dir::{DataDir, VolumeDir};
pub use error::BackendError;
pub use lock::DirLock;
pub use object::{Backing, Place, StoreConfig, host_name};

pub(crate) use dir::{Shortage, SpaceGuard, sync_dir, write_durably};
pub(crate) use object::{Given, OPEN_LIMIT};

#[cfg(test)]
mod tests;
