//! Bounds of the core that an installation or a test may set; those of the protocol are in [`caps`].

use std::time::Duration;

use mooring_protocol::caps;

/// What one guest may take before it is cut off, or given no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A guest that takes none of what is sent to it for this long is cut off.
    pub stalled: Duration,
    /// Leases of one session behind one door; near it the oldest are recalled for the newest.
    pub leases: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { stalled: Duration::from_secs(30), leases: caps::MAX_LEASES }
    }
}
