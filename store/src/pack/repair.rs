//! What checking and rebuilding ask of packs.

use super::error::PackError;
use super::extent::{Entry, ExtentRef, PackId};
use super::pin::Placed;
use super::recover;
use super::store::{PackStore, joined};
use crate::seal::VolumeKeys;

impl PackStore {
    /// The reverse map of a complete pack, made anew from its extents: for when its own is damaged. Reads all of it.
    pub async fn scanned(&self, pack: PackId) -> Result<Vec<Entry>, PackError> {
        let path = self.state.lock().sealed.get(&pack).map(|sealed| sealed.path.clone());
        let path = path.ok_or(PackError::Missing { pack })?;
        let scan = tokio::task::spawn_blocking(move || recover::scan_entries(&path, pack)).await;
        scan.map_err(|error| joined(&self.options, error))?
    }

    /// An extent that is there, for who is going to name it in a row again.
    pub(crate) fn found(&self, extent: ExtentRef) -> Placed {
        Placed { extent, pin: self.pins.pin(extent.pack) }
    }

    /// The keys of the volume.
    pub(crate) fn keys(&self) -> &VolumeKeys {
        &self.options.keys
    }
}
