//! Packs that somebody counts on before any row names them.
//!
//! Between the return of an append and the commit of the rows that name its extents nothing on disk says that the
//! bytes are wanted. Whoever appends holds a [`Pin`] from before the room is taken until its change is in or given up.
//! A complete pack gets no new extents, so once it has no pins it never has any again, and every commit that could
//! have named it has been applied.

use super::extent::{ExtentRef, PackId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Keeps a pack; see the module documentation.
#[derive(Clone, Debug)]
pub struct Pin {
    _count: Arc<()>,
}

/// An extent that was stored, and the pin on its pack.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it is.
    pub extent: ExtentRef,
    /// Keep it until the rows that name the extent are committed.
    pub pin: Pin,
}

/// The pins of packs made by this process. Those of earlier ones have none.
#[derive(Default)]
pub(super) struct Pins(Mutex<HashMap<PackId, Arc<()>>>);

impl Pins {
    /// Before room is taken in the pack.
    pub fn pin(&self, pack: PackId) -> Pin {
        Pin { _count: Arc::clone(self.0.lock().entry(pack).or_default()) }
    }

    /// Whether somebody holds a pin.
    pub fn is_pinned(&self, pack: PackId) -> bool {
        self.0.lock().get(&pack).is_some_and(|count| Arc::strong_count(count) > 1)
    }

    /// The pack is gone.
    pub fn forget(&self, pack: PackId) {
        self.0.lock().remove(&pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_pinned_until_the_last_copy_of_a_pin_goes() {
        let (pins, pack) = (Pins::default(), PackId(7));
        assert!(!pins.is_pinned(pack));
        let pin = pins.pin(pack);
        let copy = pin.clone();
        drop(pin);
        assert!(pins.is_pinned(pack));
        drop(copy);
        assert!(!pins.is_pinned(pack));
        pins.forget(pack);
        assert!(!pins.is_pinned(pack));
    }
}
