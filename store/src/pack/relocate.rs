//! Moving extents to other packs.
//!
//! The bytes are opened and sealed again, for the seal binds pack and offset; they are not unpacked. What does not check
//! is not moved: damage must not get a new seal.

use super::error::PackError;
use super::extent::{Entry, PackId};
use super::fetch::corrupt;
use super::pin::Placed;
use super::ready::Ready;
use super::store::{PackStore, joined};
use std::sync::Arc;

/// What became of the extents that were to be moved, in their order.
pub type Moved = Vec<Result<Placed, PackError>>;

impl PackStore {
    /// Writes extents of complete packs again, to the open one. The old ones stay: nothing has changed until rows name
    /// the new places.
    ///
    /// # Errors
    /// An extent that cannot be read or does not check is an error of its own. The whole fails when the new bytes
    /// cannot be written.
    pub async fn relocate(self: &Arc<Self>, entries: Vec<Entry>) -> Result<Moved, PackError> {
        self.check()?;
        let store = Arc::clone(self);
        let moved = tokio::task::spawn_blocking(move || store.relocate_now(&entries)).await;
        moved.map_err(|error| joined(&self.options, error))?
    }

    fn relocate_now(self: &Arc<Self>, entries: &[Entry]) -> Result<Moved, PackError> {
        let mut damaged = Vec::new();
        let mut ready = Vec::with_capacity(entries.len());
        for entry in entries {
            let opened = self.open_stored(entry);
            damaged.push(opened.as_ref().err().cloned());
            ready.extend(opened);
        }
        let mut placed = self.write(&ready, true)?.into_iter();
        let missing = |entry: &Entry| PackError::Missing { pack: entry.extent.pack };
        let result = |(failed, entry): (Option<PackError>, &Entry)| match failed {
            Some(error) => Err(error),
            None => placed.next().ok_or_else(|| missing(entry)),
        };
        Ok(damaged.into_iter().zip(entries).map(result).collect())
    }

    /// The bytes of an extent as they are stored, proven to be those that its hash names.
    fn open_stored(&self, entry: &Entry) -> Result<Ready, PackError> {
        let extent = &entry.extent;
        let (encoded, raw) = self.handle(extent.pack)?.encoded(extent)?;
        if self.hash(&raw) != extent.hash {
            return Err(corrupt(extent, "the bytes are not those that its hash names"));
        }
        let Entry { domain, owner, .. } = *entry;
        Ok(Ready { domain, owner, hash: extent.hash, raw_len: extent.raw_len, encoded })
    }

    /// Completes a pack that is open, so that it can be rewritten and deleted: the current one, or one that could not be
    /// completed when it was full.
    pub async fn seal(self: &Arc<Self>, pack: PackId) -> Result<(), PackError> {
        let Some(open) = self.take_out(pack) else { return Ok(()) };
        let store = Arc::clone(self);
        let sealed = tokio::task::spawn_blocking(move || store.finish(&open)).await;
        sealed.map_err(|error| joined(&self.options, error))?
    }
}
