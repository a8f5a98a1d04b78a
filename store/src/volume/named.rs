//! The packs, as what the rows of a volume name.

use crate::journal;
use crate::keys::extent;
use crate::meta::{Data, DataError};
use crate::pack::PackStore;
use std::sync::Arc;

/// The packs of a volume, to its metadata.
pub(super) struct Named(pub(super) Arc<PackStore>);

impl journal::Data for Named {
    fn sync(&self) -> Result<(), DataError> {
        self.0.sync_now().map_err(|error| Arc::new(error) as DataError)
    }
}

impl Data for Named {
    /// Extents' rows alone say where bytes are, and every commit that refers to an extent writes its row.
    fn is_there(&self, key: &[u8], value: &[u8]) -> Result<bool, DataError> {
        if !key.starts_with(&extent::prefix()) {
            return Ok(true);
        }
        let place = extent::parse(key).and_then(|id| extent::decode(id, value));
        let place = place.map_err(|error| Arc::new(error) as DataError)?.place;
        self.0.survived(&place).map_err(|error| Arc::new(error) as DataError)
    }
}
