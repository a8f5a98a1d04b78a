//! Directories: made, checked, synced.

use super::{BackendError, DirLock};
use mooring_policy::ids::{TenantId, VolumeId};
use parking_lot::Mutex;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The data directory of one installation.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Makes the directory if need be and checks that it is ours alone and can be written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, BackendError> {
        let root = root.into();
        make_dirs(&root)?;
        check_private(&root)?;
        check_writable(&root)?;
        Ok(Self { root })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Bytes of its filesystem that are free.
    pub fn free(&self) -> Result<u64, BackendError> {
        Ok(space_of(&self.root)?.0)
    }

    /// Where the master key lives unless the configuration names another place.
    #[must_use]
    pub fn master_key(&self) -> PathBuf {
        self.root.join("master.key")
    }

    /// The realm's directory.
    #[must_use]
    pub fn realm(&self) -> VolumeDir {
        VolumeDir { root: self.root.join("realm") }
    }

    /// A volume's directory. Nothing is touched yet.
    #[must_use]
    pub fn volume(&self, tenant: &TenantId, volume: VolumeId) -> VolumeDir {
        VolumeDir { root: self.root.join("tenants").join(tenant.as_str()).join(volume.to_string()) }
    }

    /// Whether anything sealed may lie here, so that a missing master key is a loss and not a first start.
    #[must_use]
    pub fn has_data(&self) -> bool {
        let realm = self.root.join("realm");
        let sealed =
            ["keyring", "keyring.copy", "key", "meta/db"].iter().any(|name| realm.join(name).exists());
        sealed || self.root.join("tenants").exists()
    }
}

/// The directory of one volume (or of the realm, which is one without packs).
#[derive(Clone, Debug)]
pub struct VolumeDir {
    root: PathBuf,
}

impl VolumeDir {
    /// Takes a directory as it is, for tools and tests.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The engine's tables.
    #[must_use]
    pub fn meta(&self) -> PathBuf {
        self.root.join("meta")
    }

    /// The journal's files.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The packs.
    #[must_use]
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// Copies of all rows, for when the tables are lost.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Makes the directory of checkpoints.
    pub(crate) fn prepare_checkpoints(&self) -> Result<(), BackendError> {
        make_dirs(&self.checkpoints())?;
        check_private(&self.checkpoints())
    }

    /// Where tables and journal are put aside while a volume is rebuilt. There is one only then.
    #[must_use]
    pub(crate) fn rebuilding(&self) -> PathBuf {
        self.root.join("rebuilding")
    }

    /// Makes what is missing, durably, and checks what is there.
    pub fn prepare(&self) -> Result<(), BackendError> {
        for path in [self.meta(), self.journal(), self.packs()] {
            make_dirs(&path)?;
            check_private(&path)?;
        }
        check_private(&self.root)?;
        check_writable(&self.root)
    }

    /// Takes the volume's lock, or says who has it. Hold the result as long as anything of the volume is open.
    pub fn lock(&self) -> Result<DirLock, BackendError> {
        DirLock::take(&self.root.join("LOCK"))
    }

    /// Removes the whole volume. The lock must be held by the caller, who gives it up with this.
    pub fn remove(&self, lock: DirLock) -> Result<(), BackendError> {
        self.remove_rest()?;
        // A rename first: a crash in the middle leaves something that no id leads to.
        std::fs::rename(&self.root, self.removed())
            .map_err(|source| BackendError::io("remove", &self.root, source))?;
        drop(lock);
        self.remove_rest()
    }

    /// Removes what a stop in the middle of [`Self::remove`] left.
    pub fn remove_rest(&self) -> Result<(), BackendError> {
        match std::fs::remove_dir_all(self.removed()) {
            Ok(()) => self.root.parent().map_or(Ok(()), sync_dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(BackendError::io("remove", &self.removed(), source)),
        }
    }

    fn removed(&self) -> PathBuf {
        self.root.with_extension("removed")
    }
}

/// Makes `path` and its missing parents with mode 0700 and syncs each new entry into its parent.
pub(super) fn make_dirs(path: &Path) -> Result<(), BackendError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_dirs(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_dir(parent.unwrap_or(Path::new("."))),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(BackendError::NotADirectory { path: path.to_path_buf() })
        }
        Err(error) => Err(BackendError::io("create", path, error)),
    }
}

fn check_private(path: &Path) -> Result<(), BackendError> {
    let data = std::fs::metadata(path).map_err(|error| BackendError::io("look at", path, error))?;
    let us = rustix::process::geteuid().as_raw();
    if data.uid() != us {
        return Err(BackendError::Owner { path: path.to_path_buf(), owner: data.uid(), us });
    }
    let mode = data.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(BackendError::Permissions { path: path.to_path_buf(), mode });
    }
    Ok(())
}

/// Root may write against the mode bits but not against a read-only mount, so only a write tells.
fn check_writable(path: &Path) -> Result<(), BackendError> {
    let probe = path.join(".probe");
    let io = |error| BackendError::io("write", &probe, error);
    let read_only = |error: std::io::Error| match BackendError::io("write", &probe, error) {
        BackendError::ReadOnly { source, .. } => BackendError::ReadOnly { path: path.to_path_buf(), source },
        other => other,
    };
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe).map_err(read_only)?;
    std::fs::remove_file(&probe).map_err(io)
}

/// Writes a small file whole or not at all, durably.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), BackendError> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(|error| BackendError::io("write", path, error))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), BackendError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| BackendError::io("sync", path, error))
}

/// Bytes of `path`'s filesystem that this process may still use, and all there are.
fn space_of(path: &Path) -> Result<(u64, u64), BackendError> {
    let stat =
        rustix::fs::statvfs(path).map_err(|error| BackendError::io("ask for free space of", path, error))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Free space is asked for again after this many bytes.
const SPACE_CHECK_EVERY: u64 = 1 << 20;

/// Keeps writers from taking the last room of a filesystem, which deletes and the engine's own work need. Asks the
/// system once per [`SPACE_CHECK_EVERY`].
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    path: PathBuf,
    reserve: u64,
    /// Bytes that may be taken before asking again.
    credit: Mutex<u64>,
}

/// The reserve would be touched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortage {
    pub free: u64,
    pub need: u64,
}

impl SpaceGuard {
    /// Keeps `reserve` bytes free.
    pub fn new(path: PathBuf, reserve: u64) -> Self {
        Self { path, reserve, credit: Mutex::new(0) }
    }

    /// Keeps `reserve` bytes free, at most a third of a small filesystem.
    pub fn at_most_a_third(path: PathBuf, reserve: u64) -> Result<Self, BackendError> {
        let (_, total) = space_of(&path)?;
        Ok(Self::new(path, reserve.min(total / 3)))
    }

    /// Whether `bytes` may be taken.
    pub fn take(&self, bytes: u64) -> Result<Option<Shortage>, BackendError> {
        let mut credit = self.credit.lock();
        if let Some(left) = credit.checked_sub(bytes) {
            *credit = left;
            return Ok(None);
        }
        let wanted = SPACE_CHECK_EVERY.max(bytes);
        let (free, need) = (self.free()?, self.reserve + wanted);
        if free < need {
            return Ok(Some(Shortage { free, need }));
        }
        *credit = wanted - bytes;
        Ok(None)
    }

    /// Bytes free.
    pub fn free(&self) -> Result<u64, BackendError> {
        Ok(space_of(&self.path)?.0)
    }
}
