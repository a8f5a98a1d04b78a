//! Mounting: options, kernel capabilities, read-ahead, and taking it down again.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{InitFlags, KernelConfig};
use thiserror::Error;
use tokio::runtime::Handle;

use super::adapter::Adapter;
use super::filesystem::Filesystem;
use super::notify::Notifier;
use super::reply::Counters;
use super::wait::WaitTable;

/// Bytes of one write or read request: what the kernel allows (`fs.fuse.max_pages_limit`, 256 pages).
pub const MAX_WRITE: u32 = 1 << 20;
/// Requests the kernel sends ahead of answers for read-ahead and asynchronous writes.
const MAX_BACKGROUND: u16 = 64;
/// Threads that take requests from the kernel. They never wait, so a second is for a second core.
const THREADS: usize = 2;

/// Capabilities asked for where the kernel has them.
///
/// Not here on purpose: the write-back cache (it hides dirty pages from us for 30 s), `AUTO_INVAL_DATA` (it
/// drops pages whenever a time stamp moves; leases say when pages end), `ATOMIC_O_TRUNC` (a read-only open of a
/// running program would truncate it before the kernel says "text file busy"), `FLOCK_LOCKS` (the library does not say which
/// kind of lock is meant), `SETXATTR_EXT` (changes a layout the library reads), `DO_READDIRPLUS` (each entry is a lookup,
/// with attributes; the library cannot leave them out, and made-up ones would show as the file's own).
const WANTED: &[InitFlags] = &[
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_POSIX_LOCKS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_MAX_PAGES,
];

/// Why a file system could not be mounted or unmounted.
#[derive(Debug, Error)]
pub enum MountError {
    /// The kernel refused.
    #[error("cannot mount on {path}; is /dev/fuse there, and may this user mount (root, or fusermount3)?")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The helper threads could not be started.
    #[error("cannot start the threads of the mount on {path}")]
    Threads {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Unmounting failed.
    #[error("cannot unmount {path}; is it still in use?")]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Shown as the source in `mount` and `df`.
    pub source: String,
    /// Refuse all changes in the kernel.
    pub read_only: bool,
    /// Other users may use the mount (permissions still count). Needs root, or `user_allow_other`.
    pub allow_other: bool,
    /// Read-ahead in KiB; raised after mounting where permitted (the kernel starts with 128).
    pub read_ahead_kib: u32,
    /// The longest a program waits for one request; `None` waits for ever (it can still be killed).
    pub deadline: Option<Duration>,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: "mooring".to_owned(),
            read_only: false,
            allow_other: rustix::process::geteuid().is_root(),
            read_ahead_kib: 4096,
            deadline: Some(Duration::from_secs(300)),
        }
    }
}

/// A mounted file system. Dropping it detaches the mount.
pub struct Mount {
    path: PathBuf,
    session: Option<fuser::BackgroundSession>,
    notifier: Notifier,
    counters: Arc<Counters>,
}

impl Mount {
    /// Mounts `fs` on the directory `path`; its futures run on `runtime`.
    ///
    /// # Errors
    /// When the kernel refuses the mount or threads cannot be started.
    pub fn new<F: Filesystem>(
        fs: Arc<F>,
        path: &Path,
        options: &MountOptions,
        runtime: &Handle,
        waits: &WaitTable,
    ) -> Result<Mount, MountError> {
        let counters = Arc::new(Counters::default());
        let adapter =
            Adapter::new(fs.clone(), runtime.clone(), waits.clone(), counters.clone(), options.deadline);
        let mount_error = |source| MountError::Mount { path: path.to_owned(), source };
        let thread_error = |source| MountError::Threads { path: path.to_owned(), source };

        let session = fuser::Session::new(adapter, path, &config(options)).map_err(mount_error)?;
        let device = session.as_fd().try_clone_to_owned().map_err(thread_error)?;
        let notifier = Notifier::new(session.notifier(), device, runtime.clone());
        fs.mounted(notifier.clone());
        let session = session.spawn().map_err(thread_error)?;
        if let Err(error) = raise_read_ahead(path, options.read_ahead_kib) {
            tracing::info!(path = %path.display(), %error, "read-ahead stays at the kernel's default");
        }
        Ok(Mount { path: path.to_owned(), session: Some(session), notifier, counters })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For invalidating what the kernel caches of this mount.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Requests so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether the kernel still has the mount (it may have been unmounted by hand).
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.session.as_ref().is_some_and(|s| !s.guard.is_finished())
    }

    /// Unmounts and waits until the last request is answered. Must not be called on a thread of the runtime that
    /// answers requests.
    ///
    /// # Errors
    /// When files are open; the mount then stays.
    pub fn unmount(mut self) -> Result<(), MountError> {
        // A first try without force, so that open files are an error and not a surprise.
        if self.is_mounted() {
            rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::empty())
                .map_err(|e| MountError::Unmount { path: self.path.clone(), source: e.into() })?;
        }
        match self.session.take() {
            // Not `umount_and_join`: it would unmount a second time (its test of what is mounted reads POLLERR the
            // wrong way round) and report that as an error.
            Some(session) => {
                session.join().map_err(|source| MountError::Unmount { path: self.path.clone(), source })
            }
            None => Ok(()),
        }
    }

    /// Takes the mount out of the tree at once; it ends when its last open file is closed.
    pub fn detach(&mut self) {
        if self.is_mounted() {
            let flags = rustix::mount::UnmountFlags::DETACH;
            if let Err(error) = rustix::mount::unmount(&self.path, flags) {
                tracing::warn!(path = %self.path.display(), %error, "cannot detach the mount");
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.session.is_some() {
            self.detach();
        }
    }
}

fn config(options: &MountOptions) -> fuser::Config {
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName(options.source.clone()),
        fuser::MountOption::Subtype("mooring".to_owned()),
        fuser::MountOption::DefaultPermissions,
        fuser::MountOption::NoAtime,
        fuser::MountOption::CUSTOM(format!("max_read={MAX_WRITE}")),
    ];
    if rustix::process::geteuid().is_root() {
        config.mount_options.push(fuser::MountOption::Suid);
    }
    if options.read_only {
        config.mount_options.push(fuser::MountOption::RO);
    }
    config.acl = if options.allow_other { fuser::SessionACL::All } else { fuser::SessionACL::Owner };
    config.n_threads = Some(THREADS);
    // One queue: a cloned descriptor halves neither copies nor wake-ups and binds answers to its thread.
    config.clone_fd = false;
    config
}

/// Called at the handshake.
pub(super) fn negotiate(config: &mut KernelConfig) {
    for &flag in WANTED {
        if config.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "the kernel lacks a capability");
        }
    }
    // All of these clamp to what the kernel has; the nearest value is fine.
    if let Err(nearest) = config.set_max_write(MAX_WRITE) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(u32::MAX) {
        let _ = config.set_max_readahead(nearest);
    }
    let _ = config.set_max_background(MAX_BACKGROUND);
}

/// The kernel starts every FUSE mount with 128 KiB of read-ahead, whatever was negotiated.
fn raise_read_ahead(path: &Path, kib: u32) -> std::io::Result<()> {
    let stat = rustix::fs::lstat(path)?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string())
}
