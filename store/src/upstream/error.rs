//! What can go wrong with the log on the store.

use crate::backend::BackendError;
use crate::journal::JournalError;
use crate::seal::SealError;

/// A failure of the log on the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The last writer acknowledged changes on its host alone and did not close the volume.
    #[error(
        "volume {place} has durability `host`, and {owner} wrote it last without closing it: what that host has \
         acknowledged behind record {stored}, of {since}, is not in the store. Start the gateway there again, or give those changes \
         up with --accept-loss"
    )]
    HostOwns {
        /// The volume.
        place: String,
        /// The host that wrote it last.
        owner: String,
        /// The last record that is in the store.
        stored: u64,
        /// When that came there, by the store's clock.
        since: String,
    },
    /// The log is empty, and this host knows that it was not.
    #[error(
        "the store has nothing of {place}, though this host has used it: check the store's url, or remove {dir} to \
         begin anew"
    )]
    Vanished {
        /// The volume.
        place: String,
        /// What this host has of it.
        dir: String,
    },
    /// Others open the volume all the time.
    #[error("others keep taking over {place}; see which gateways use this store")]
    Contended {
        /// The volume.
        place: String,
    },
    /// An object is not what was written.
    #[error("object {object} of the log is damaged: {detail}")]
    Corrupt {
        /// The object.
        object: String,
        /// What does not check.
        detail: String,
    },
    /// Written by a newer release.
    #[error(
        "object {object} of the log has format {found}, this program reads up to {supported}; use a newer one"
    )]
    Version {
        /// The object.
        object: String,
        /// Its version.
        found: u16,
        /// What we read.
        supported: u16,
    },
    /// The store or the directory does not do what was asked.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The journal cannot be made anew.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A key is missing or wrong.
    #[error(transparent)]
    Seal(#[from] SealError),
}
