//! The guest that tests and demo boot.
//!
//! # What is built
//!
//! Three files, all a pure function of packages and recipe:
//!
//! - **kernel**: Debian's cloud kernel, unpacked to its ELF form. QEMU starts that through its PVH entry and so
//!   skips the kernel's own decompression, which under software emulation takes longer than the rest of the boot.
//! - **initrd**: a static busybox, the kernel modules this guest needs in loading order, and one script that
//!   mounts the root and hands over to it. Uncompressed, for the same reason.
//! - **root**: an EROFS image of a trimmed Debian userland. It is mounted read-only below a writable layer in
//!   memory, so that one file serves any number of guests at once and nothing a guest does outlives it.
//!
//! Programs under test are not part of them. They come as a [`Layer`]: a second small EROFS image that the guest
//! lays over the root. Changing the agent therefore costs one small file, never a new base.
//!
//! # How it stays the same
//!
//! Packages are fetched by apt, with its signatures checked, into a private state under the cache folder; the
//! system's own package lists are not touched. The first build writes a lock file (name, version, SHA-256) for
//! each set of packages; later builds use that and ask no mirror. The digest of locks, recipe and tools names
//! the folder of the result, so a build that has been done is found and not repeated. File times, owners and
//! identifiers are fixed; no maintainer script runs.
//!
//! Several processes may build at once: a lock file serialises them, and results appear by rename.

mod apt;
mod build;
mod cpio;
mod error;
mod kernel;
mod layer;
mod packages;
mod recipe;
mod root;
mod run;
mod store;
mod wheels;

pub use build::{GuestImage, GuestSpec};
pub use error::Error;
pub use layer::Layer;
pub use recipe::{EXEC_PORT, KernelSeries, ROOT_SERIAL};

/// The result of building.
pub type Result<T, E = Error> = std::result::Result<T, E>;
