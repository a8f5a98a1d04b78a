//! What checking and rebuilding ask of packs.

use super::extent::ExtentRef;
use super::pin::Placed;
use super::store::PackStore;
use crate::seal::VolumeKeys;

impl PackStore {
    /// An extent that is there, for who is going to name it in a row again.
    pub(crate) fn found(&self, extent: ExtentRef) -> Placed {
        Placed { extent, pin: self.pins.pin(extent.pack) }
    }

    /// Where the files of packs are.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.options.dir
    }

    /// The keys of the volume.
    pub(crate) fn keys(&self) -> &VolumeKeys {
        &self.options.keys
    }
}
