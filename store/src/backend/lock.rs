//! One opener at a time.

use super::BackendError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An exclusive flock on a `LOCK` file, given up when dropped and by the kernel when the process dies. The file
/// stays: removing it would let two openers each lock their own.
#[derive(Debug)]
pub struct DirLock {
    path: PathBuf,
    file: File,
}

impl DirLock {
    /// Takes the lock at once or fails with [`BackendError::Locked`], which names the holder.
    pub fn take(path: &Path) -> Result<Self, BackendError> {
        let io = |source| BackendError::io("lock", path, source);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(path, &mut file)),
            Err(error) => return Err(BackendError::io("lock", path, error)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DirLock {
    /// Unlocks rather than only closing: a process that is being started elsewhere in this program has a copy of the
    /// descriptor until it runs, and with it the lock.
    fn drop(&mut self) {
        // Nothing to do about a failure; closing follows.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn held(path: &Path, file: &mut File) -> BackendError {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    let pid = match (read, text.trim()) {
        (Ok(_), pid) if !pid.is_empty() => pid.to_owned(),
        _ => "unknown".to_owned(),
    };
    BackendError::Locked { path: path.to_path_buf(), pid }
}
