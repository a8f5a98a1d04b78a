//! The cache folder: named by digest, filled by rename, one builder at a time.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::{Error, Result};

/// Held while building; released when dropped, also by a killed process.
#[derive(Debug)]
pub struct BuildLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl BuildLock {
    /// Waits for other builders in this cache to finish.
    pub fn take(cache: &Path) -> Result<BuildLock> {
        make_dir(cache)?;
        let path = cache.join("building.lock");
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io("locking", &path)(e.into()))?;
        Ok(BuildLock(file))
    }
}

/// Creates a folder and those above it.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("creating", path))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("reading", path))
}

/// Writes a whole file.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).map_err(Error::io("writing", path))
}

/// The folder `cache/kind/digest`: as it is when it exists, otherwise filled by `make` and put there whole.
/// The work happens beside it, so that the final rename stays within one file system.
pub fn once(
    cache: &Path,
    kind: &str,
    digest: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let shelf = cache.join(kind);
    let home = shelf.join(digest);
    if home.is_dir() {
        return Ok(home);
    }
    make_dir(&shelf)?;
    let work = tempfile::Builder::new().prefix(".building-").tempdir_in(&shelf);
    let work = work.map_err(Error::io("creating a folder in", &shelf))?;
    make(work.path())?;
    match fs::rename(work.path(), &home) {
        Ok(()) => {
            // Renamed away; there is nothing left for the guard to remove.
            let _gone = work.keep();
            Ok(home)
        }
        // Another process was as quick; its result is the same.
        Err(_) if home.is_dir() => Ok(home),
        Err(source) => Err(Error::Io { action: "naming", path: home, source }),
    }
}

/// SHA-256 of a file in hex, as Debian's indexes and pip's locks write it.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("reading", path))?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A digest over parts, each with its length, so that moving bytes between parts changes it.
#[derive(Default)]
pub struct Key(blake3::Hasher);

impl Key {
    /// Adds one part.
    pub fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Key {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        self
    }

    /// A name of 32 hex digits: enough that two never meet by accident.
    pub fn name(&self) -> String {
        self.0.finalize().to_hex().chars().take(32).collect()
    }
}
