//! Bytes on their way out: a file without a name on this host's disk, only for us to open.
//!
//! An object is written whole, so what a program writes piece by piece waits here until it is complete. The file has
//! mode 0600 and no name from the start, and is sealed under a key that is in memory only ([`SealedFile`]): when the
//! gateway dies, the kernel takes the file away, and what the disk still holds of it opens to nobody. All spools of a bucket
//! together have a bound, counted by length, so that a file with a hole cannot promise what could never be uploaded.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mooring_policy::rng::SystemRandom;
use mooring_store::api::Result;
use mooring_store::error::StoreError;
use parking_lot::Mutex;
use thiserror::Error;

use crate::sealed::SealedFile;

/// The bucket's room for spools is used up.
#[derive(Debug, Error)]
#[error("{used} bytes wait to be uploaded, {limit} may: wait, or give the bucket more with --spool")]
struct Full {
    used: u64,
    limit: u64,
}

/// Where spools are made, and how much they may hold in all.
pub struct Spools {
    dir: PathBuf,
    limit: u64,
    used: Mutex<u64>,
}

impl Spools {
    /// Spools in this directory, which is made if need be.
    pub fn new(dir: &Path, limit: u64) -> Result<Arc<Spools>> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed)?;
        Ok(Arc::new(Spools { dir: dir.to_owned(), limit, used: Mutex::new(0) }))
    }

    fn charge(&self, before: u64, after: u64) -> Result<()> {
        let mut used = self.used.lock();
        let total = (*used - before).saturating_add(after);
        if after > before && total > self.limit {
            return Err(StoreError::NoSpace(Box::new(Full { used: *used, limit: self.limit })));
        }
        *used = total;
        Ok(())
    }

    /// An empty one.
    pub fn make(self: &Arc<Spools>) -> Result<Arc<Spool>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(rustix::fs::OFlags::TMPFILE.bits() as i32);
        let file = options.open(&self.dir).and_then(|file| SealedFile::new(file, &SystemRandom));
        let file = file.map_err(failed)?;
        Ok(Arc::new(Spool { file, size: Mutex::new(0), all: Arc::clone(self) }))
    }
}

fn failed(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::NoSpace(Box::new(error))
        }
        _ => StoreError::Store(Box::new(error)),
    }
}

/// The bytes of one file.
pub struct Spool {
    file: SealedFile,
    /// Its length. Held while it changes, so that the count is exact.
    size: Mutex<u64>,
    all: Arc<Spools>,
}

impl Spool {
    /// Bytes in it.
    pub fn size(&self) -> u64 {
        *self.size.lock()
    }

    /// Grows it to at least this length, or says that there is no room.
    fn reach(&self, end: u64) -> Result<()> {
        let mut size = self.size.lock();
        if end > *size {
            self.all.charge(*size, end)?;
            *size = end;
        }
        Ok(())
    }

    /// Writes at an offset.
    pub async fn write(self: &Arc<Spool>, offset: u64, data: Bytes) -> Result<()> {
        let this = Arc::clone(self);
        blocking(move || {
            let before = this.size();
            this.reach(offset + data.len() as u64)?;
            let written = this.file.write_all_at(&data, offset).map_err(failed);
            if written.is_err() {
                this.set_len(before)?;
            }
            written
        })
        .await
    }

    /// Bytes from an offset, fewer only at the end.
    pub async fn read(self: &Arc<Spool>, offset: u64, size: usize) -> Result<Bytes> {
        let this = Arc::clone(self);
        blocking(move || {
            let left = this.size().saturating_sub(offset);
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
            this.file.read_at(offset, size).map(Bytes::from).map_err(failed)
        })
        .await
    }

    /// Cuts it, or extends it with a hole.
    pub async fn resize(self: &Arc<Spool>, to: u64) -> Result<()> {
        let this = Arc::clone(self);
        blocking(move || this.set_len(to)).await
    }

    fn set_len(&self, to: u64) -> Result<()> {
        let mut size = self.size.lock();
        self.all.charge(*size, to)?;
        let before = std::mem::replace(&mut *size, to);
        if let Err(error) = self.file.set_len(to) {
            *size = before;
            self.all.charge(to, before)?;
            return Err(failed(error));
        }
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let mut used = self.all.used.lock();
        *used -= *self.size.get_mut();
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Store(Box::new(error)))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_spool_holds_what_was_written_counts_it_and_leaves_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::new(dir.path(), 1000).unwrap();
        let spool = spools.make().unwrap();
        spool.write(10, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(spool.read(8, 100).await.unwrap().as_ref(), b"\0\0hello");
        assert!(matches!(spool.write(1000, Bytes::from_static(b"x")).await, Err(StoreError::NoSpace(_))));
        assert_eq!((spool.size(), *spools.used.lock()), (15, 15));
        spool.resize(12).await.unwrap();
        spool.resize(14).await.unwrap();
        assert_eq!(spool.read(10, 100).await.unwrap().as_ref(), b"he\0\0");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(spool);
        assert_eq!(*spools.used.lock(), 0);
    }
}
