//! The local-directory store: where a volume lives on disk and who may open it.
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

mod dir;
mod error;
mod lock;

pub use dir::{DataDir, VolumeDir};
pub use error::BackendError;
pub use lock::DirLock;

pub(crate) use dir::{Shortage, SpaceGuard, sync_dir};

#[cfg(test)]
mod tests;
