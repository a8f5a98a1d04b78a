//! A disk that can be made to fail: a folder seen through FUSE, with faults that are switched while programs use it.
//!
//! Everything but the faults is the folder below it, so what a program wrote is there when the disk is taken away. Reads
//! and writes go around the kernel's page cache, so that each of them meets the fault that is set.

mod through;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use through::Through;

/// What the disk does to who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Nothing.
    None,
    /// There is no room: whatever takes more of it is `ENOSPC`.
    Full,
    /// Whatever writes is `EIO`.
    Writes,
    /// `fsync` and `fdatasync` are `EIO`.
    Syncs,
    /// Reads are `EIO`.
    Reads,
    /// Writes put half of their bytes, and say so.
    Short,
    /// Writes and syncs take a while.
    Slow,
}

impl Fault {
    const ALL: [Fault; 7] =
        [Fault::None, Fault::Full, Fault::Writes, Fault::Syncs, Fault::Reads, Fault::Short, Fault::Slow];
}

/// Which fault is set, and how often it struck.
#[derive(Debug, Default)]
struct Switch {
    fault: AtomicU8,
    struck: AtomicU64,
}

impl Switch {
    /// Whether one of these is set.
    fn is(&self, faults: &[Fault]) -> bool {
        let set = self.fault.load(Ordering::Acquire);
        let hit = faults.iter().any(|fault| *fault as u8 == set);
        self.struck.fetch_add(u64::from(hit), Ordering::Relaxed);
        hit
    }
}

/// See the module's documentation. Dropping it takes the mount out of the tree; it ends with the last open file.
pub struct Disk {
    at: PathBuf,
    switch: Arc<Switch>,
    _session: fuser::BackgroundSession,
    _folder: TempDir,
}

impl Disk {
    /// A disk over the folder `at`, with what is in the folder on it.
    pub fn over(at: &Path) -> Result<Disk> {
        let folder = tempfile::Builder::new().prefix("mdk-").tempdir().context("the folder below a disk")?;
        let below = folder.path().join("disk");
        let copied = std::process::Command::new("cp").arg("-a").arg(at).arg(&below).status()?;
        anyhow::ensure!(copied.success(), "copying {} to the disk: {copied}", at.display());
        let switch = Arc::new(Switch::default());
        let mut config = fuser::Config::default();
        config.mount_options = vec![
            fuser::MountOption::FSName("faulty".to_owned()),
            fuser::MountOption::DefaultPermissions,
            fuser::MountOption::NoAtime,
        ];
        config.acl = fuser::SessionACL::All;
        config.n_threads = Some(4);
        let through = Through::new(&below, switch.clone()).context("opening the folder below a disk")?;
        let session = fuser::Session::new(through, at, &config).context("mounting a disk")?;
        let session = session.spawn().context("serving a disk")?;
        Ok(Disk { at: at.to_owned(), switch, _session: session, _folder: folder })
    }

    /// From now on the disk does this.
    pub fn set(&self, fault: Fault) {
        self.switch.struck.store(0, Ordering::Relaxed);
        self.switch.fault.store(fault as u8, Ordering::Release);
    }

    /// How often the fault struck since it was set.
    pub fn struck(&self) -> u64 {
        self.switch.struck.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = self.switch.fault.load(Ordering::Relaxed);
        write!(f, "Disk({}, {:?})", self.at.display(), Fault::ALL.get(usize::from(set)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.set(Fault::None);
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}
