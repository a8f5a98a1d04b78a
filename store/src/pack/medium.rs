//! What a pack is read from: a file, or an object of the store.

use super::error::PackError;
use super::extent::PackId;
use crate::backend::Place;
use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a read asks a store that does not answer.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(20);

/// A request for fewer bytes takes a store longer to begin than to answer.
const SMALL: usize = 64 << 10;

/// A pack to read from.
pub(super) enum PackFile {
    /// On this host.
    Local(Arc<File>),
    /// In the store.
    Remote(RemotePack),
    /// Fetched from there.
    Memory(Bytes),
}

/// A pack in the store.
pub(super) struct RemotePack {
    pub place: Place,
    pub key: Key,
    runtime: tokio::runtime::Handle,
    /// Small requests so far, and bytes that all asked for.
    asked: (AtomicU64, AtomicU64),
}

impl PackFile {
    /// The file at `path`, or the store's object of that name when there is no such file.
    pub fn open(path: &Path, pack: PackId, place: Option<&Place>) -> Result<Self, PackError> {
        match File::open(path) {
            Ok(file) => Ok(Self::Local(Arc::new(file))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::in_store(path, pack, place.ok_or(PackError::Missing { pack })?)
            }
            Err(error) => Err(PackError::io("open", path, error)),
        }
    }

    /// The object of the store, whatever is here.
    pub fn in_store(path: &Path, pack: PackId, place: &Place) -> Result<Self, PackError> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(PackError::Missing { pack })?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| PackError::io("open", path, std::io::Error::other(error)))?;
        let asked = Default::default();
        Ok(Self::Remote(RemotePack { place: place.clone(), key: key(place, name), runtime, asked }))
    }

    /// All of it, within `limit` when it comes from the store.
    pub async fn fetch(&self, limit: Duration) -> std::io::Result<Bytes> {
        match self {
            Self::Remote(remote) => {
                let get = || async { remote.place.store().get(&remote.key).await?.bytes().await };
                remote.place.within(limit, get).await.map_err(to_io)
            }
            _ => self.all(),
        }
    }

    /// All of it. Blocking like [`Self::read_exact_at`].
    pub fn all(&self) -> std::io::Result<Bytes> {
        if let Self::Memory(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(std::io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }

    /// Reads all of `buffer`. Blocking; for a pack in the store, not on a thread of the runtime.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        match self {
            Self::Local(file) => file.read_exact_at(buffer, offset),
            Self::Remote(remote) => remote.read_exact_at(buffer, offset),
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).ok();
                let part = from.and_then(|from| bytes.get(from..from.checked_add(buffer.len())?));
                buffer.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Its length. Blocking like [`Self::read_exact_at`].
    pub fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::Local(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::Remote(remote) => {
                let head = || remote.place.store().head(&remote.key);
                let asked = remote.runtime.block_on(remote.place.within(READ_LIMIT, head));
                Ok(asked.map_err(to_io)?.size)
            }
        }
    }

    /// Waits for a turn to read from the store; a file needs none.
    pub async fn turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        match self {
            Self::Local(_) | Self::Memory(_) => None,
            // The semaphore is never closed.
            Self::Remote(remote) => Arc::clone(&remote.place.backing.reads).acquire_owned().await.ok(),
        }
    }
}

impl RemotePack {
    /// Requests for a few bytes of it so far, and how many bytes were asked for by all.
    pub fn asked(&self) -> (u64, u64) {
        (self.asked.0.load(Ordering::Relaxed), self.asked.1.load(Ordering::Relaxed))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.asked.0.fetch_add(u64::from(buffer.len() < SMALL), Ordering::Relaxed);
        self.asked.1.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let range = offset..offset + buffer.len() as u64;
        let get = || self.place.store().get_range(&self.key, range.clone());
        let bytes = self.runtime.block_on(self.place.within(READ_LIMIT, get)).map_err(to_io)?;
        if bytes.len() != buffer.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer.copy_from_slice(&bytes);
        Ok(())
    }
}

/// The object of a pack whose file is called `name`.
pub(super) fn key(place: &Place, name: &str) -> Key {
    place.path("packs").join(name)
}

fn to_io(error: Error) -> std::io::Error {
    match error {
        Error::NotFound { .. } => std::io::Error::new(std::io::ErrorKind::NotFound, error),
        error => std::io::Error::other(error),
    }
}
