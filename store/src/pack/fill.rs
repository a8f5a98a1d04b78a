//! Bringing a pack back from the store, when it is read again and again.
//!
//! A read of a pack that is not here is a request for just those bytes. When these have cost more than the whole pack would,
//! it is fetched in the background and becomes a copy ([`super::copies`]): nobody knows how often it will be read yet, and
//! so hardly more than twice of what was needed is paid (the ski rental problem). A small request costs as much as
//! [`REQUEST_BYTES`], so that a few reads of a large pack, far apart, do not fetch it; nor does one read of all of it. It is written beside, opened from front to back, and only then given its name: what came wrong over the network, or was
//! cut off by a stop, is never read from. Whatever goes wrong, reads go on asking the store.

use super::error::PackError;
use super::extent::PackId;
use super::fetch::Handle;
use super::medium::{PackFile, READ_LIMIT, RemotePack};
use super::recover;
use super::store::PackStore;
use object_store::ObjectStoreExt;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a store takes as long for as for a request: some milliseconds at a hundred MiB in a second.
const REQUEST_BYTES: u64 = 256 << 10;

/// Bytes of one request.
const PIECE: u64 = 4 << 20;

/// What the name of an unfinished copy ends with.
pub(super) const UNFINISHED: &str = "fetch";

impl PackStore {
    /// Something is about to be read; if it comes from the store, perhaps the pack should.
    pub(super) fn consider(self: &Arc<Self>, pack: PackId, handle: &Arc<Handle>) {
        let Some(spool) = &self.spool else { return };
        let PackFile::Remote(remote) = &handle.file else { return spool.copies.read(pack) };
        let Some(bytes) = self.state.lock().sealed.get(&pack).map(|sealed| sealed.bytes) else { return };
        let (reads, read) = remote.asked();
        let worth = reads.saturating_mul(REQUEST_BYTES).saturating_add(read) >= bytes + bytes / 4;
        if !worth || bytes > spool.copies.bound() {
            return;
        }
        // One at a time; who is turned away comes again with the next read.
        let Ok(turn) = Arc::clone(&spool.filling).try_lock_owned() else { return };
        let (store, handle) = (Arc::clone(self), Arc::clone(handle));
        tokio::spawn(async move {
            if let Err(error) = store.fill(pack, &handle, bytes).await {
                tracing::warn!(%pack, %error, "a pack was not brought back from the store; reads go on asking it");
            }
            drop(turn);
        });
    }

    async fn fill(self: &Arc<Self>, pack: PackId, handle: &Arc<Handle>, bytes: u64) -> Result<(), PackError> {
        let (Some(spool), PackFile::Remote(remote)) = (&self.spool, &handle.file) else { return Ok(()) };
        if !self.has_room(bytes)? {
            return Ok(());
        }
        let beside = handle.path.with_extension(UNFINISHED);
        let fetched = self.fetch(pack, (handle, remote), &beside, bytes).await;
        let named = match fetched {
            Ok(()) => self.name(pack, &beside, &handle.path),
            Err(error) => Err(error),
        };
        match named {
            Ok(true) => spool.copies.add(pack, handle.path.clone(), bytes, spool.handles()),
            other => {
                let _ = std::fs::remove_file(&beside);
                return other.map(drop);
            }
        }
        if !self.state.lock().sealed.contains_key(&pack) {
            // Deleted since, file and all.
            spool.copies.forget(pack);
        }
        // Whoever reads next finds the file.
        spool.handles().invalidate(&pack);
        Ok(())
    }

    async fn fetch(
        &self,
        pack: PackId,
        (handle, remote): (&Arc<Handle>, &RemotePack),
        beside: &Path,
        bytes: u64,
    ) -> Result<(), PackError> {
        let io = |error: std::io::Error| PackError::io("write", beside, error);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(beside);
        let file = Arc::new(file.map_err(io)?);
        for from in (0..bytes).step_by(PIECE as usize) {
            let range = from..bytes.min(from + PIECE);
            let _turn = handle.file.turn().await;
            let get = || remote.place.store().get_range(&remote.key, range.clone());
            let failed =
                |error| PackError::Remote(Arc::new(remote.place.backing.error("read a pack in", error)));
            let piece = remote.place.within(READ_LIMIT, get).await.map_err(failed)?;
            let to = Arc::clone(&file);
            self.waiting(move || to.write_all_at(&piece, from)).await?.map_err(io)?;
        }
        let here = Handle {
            file: PackFile::Local(file),
            cipher: self.options.keys.pack(pack.0)?,
            path: beside.to_path_buf(),
            volume: self.volume(),
        };
        self.waiting(move || check(pack, &here)).await?
    }

    /// Gives a whole copy its name, if the pack is still wanted.
    fn name(&self, pack: PackId, beside: &Path, path: &PathBuf) -> Result<bool, PackError> {
        let state = self.state.lock();
        // Deletion takes it out of the list under the same lock, and then removes the file.
        if !state.sealed.contains_key(&pack) {
            return Ok(false);
        }
        std::fs::rename(beside, path).map_err(|error| PackError::io("name", beside, error))?;
        Ok(true)
    }

    async fn waiting<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PackError> {
        let joined = tokio::task::spawn_blocking(work).await;
        joined.map_err(|error| PackError::io("fetch", &self.options.dir, std::io::Error::other(error)))
    }
}

/// Everything in it opens. Synced, so that it is whole also after a loss of power. Blocking.
fn check(pack: PackId, here: &Handle) -> Result<(), PackError> {
    for entry in recover::read_entries(&here.file, &here.path, pack)? {
        here.whole(&entry.extent)?;
    }
    match &here.file {
        PackFile::Local(file) => file.sync_data().map_err(|error| PackError::io("sync", &here.path, error)),
        PackFile::Memory(_) | PackFile::Remote(_) => Ok(()),
    }
}
