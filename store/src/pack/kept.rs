//! Packs as they are kept: what scrubs and checks read.
//!
//! A pack that an object store has is fetched from there whole, in one request, though a copy may be on this host: it is
//! what another host would get that is asked about. What does not check is fetched once more, alone, for what comes over
//! a network may be wrong once and right the next time.

use super::error::PackError;
use super::extent::{Entry, ExtentRef, PackId};
use super::fetch::{Handle, check_lengths, corrupt};
use super::medium::PackFile;
use super::recover::{self, Sealed};
use super::store::{PackStore, joined};
use crate::backend::Place;
use crate::seal::HashKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a whole pack may take to come. A request in which nothing moves is given up much sooner.
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// A pack to examine.
pub(crate) struct Kept {
    pack: PackId,
    path: PathBuf,
    handle: Arc<Handle>,
    /// Where it was fetched from.
    remote: Option<Arc<Handle>>,
    hash_key: HashKey,
}

impl PackStore {
    /// The part of the object store that has the packs, if they are in one.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.spool.as_ref().map(|spool| &spool.place)
    }

    /// A pack as it is kept.
    pub(crate) async fn kept(&self, pack: PackId) -> Result<Kept, PackError> {
        let sealed = self.state.lock().sealed.get(&pack).cloned();
        let hash_key = self.hash_key.clone();
        let Some((place, Sealed { path, .. })) =
            self.place().filter(|_| !self.is_only_here(pack)).zip(sealed)
        else {
            let handle = self.handle(pack)?;
            return Ok(Kept { pack, path: handle.path.clone(), handle, remote: None, hash_key });
        };
        let opened = |file| -> Result<Arc<Handle>, PackError> {
            let cipher = self.options.keys.pack(pack.0)?;
            Ok(Arc::new(Handle { file, cipher, path: path.clone(), volume: self.volume() }))
        };
        let remote = opened(PackFile::in_store(&path, pack, place)?)?;
        let _turn = remote.file.turn().await;
        let bytes = remote.file.fetch(FETCH_LIMIT).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PackError::Missing { pack },
            _ => PackError::io("fetch", &path, error),
        })?;
        let handle = opened(PackFile::Memory(bytes))?;
        Ok(Kept { pack, path, handle, remote: Some(remote), hash_key })
    }

    /// Its extents by its list, or by themselves when the list is damaged: then with what is wrong with it.
    pub(crate) async fn kept_entries(
        &self,
        kept: &Arc<Kept>,
    ) -> Result<(Vec<Entry>, Option<PackError>), PackError> {
        let inner = Arc::clone(kept);
        let read = tokio::task::spawn_blocking(move || inner.entries()).await;
        read.map_err(|error| joined(&self.options, error))?
    }

    /// Reads an extent from a pack that is examined, and holds its bytes against its hash.
    pub(crate) async fn verify_kept(&self, kept: &Arc<Kept>, extent: &ExtentRef) -> Result<(), PackError> {
        check_lengths(extent)?;
        let (inner, extent) = (Arc::clone(kept), *extent);
        let verified = tokio::task::spawn_blocking(move || inner.verify(&extent)).await;
        verified.map_err(|error| joined(&self.options, error))?
    }
}

impl Kept {
    fn entries(&self) -> Result<(Vec<Entry>, Option<PackError>), PackError> {
        let listed = recover::read_entries(&self.handle.file, &self.path, self.pack);
        let error = match listed {
            Ok(entries) => return Ok((entries, None)),
            Err(error @ PackError::Corrupt { .. }) => error,
            Err(error) => return Err(error),
        };
        if let Some(remote) = &self.remote
            && let Ok(entries) = recover::read_entries(&remote.file, &self.path, self.pack)
        {
            return Ok((entries, None));
        }
        let scanned = self.handle.file.all().map(|bytes| recover::scan_bytes(&bytes, self.pack));
        Ok((scanned.map_err(|error| PackError::io("read", &self.path, error))?, Some(error)))
    }

    fn verify(&self, extent: &ExtentRef) -> Result<(), PackError> {
        match (self.verify_by(&self.handle, extent), &self.remote) {
            (Err(PackError::Corrupt { .. }), Some(remote)) => self.verify_by(remote, extent),
            (verified, _) => verified,
        }
    }

    fn verify_by(&self, handle: &Handle, extent: &ExtentRef) -> Result<(), PackError> {
        match self.hash_key.hash(&handle.whole(extent)?) == extent.hash {
            true => Ok(()),
            false => Err(corrupt(extent, "the bytes have another hash")),
        }
    }
}
