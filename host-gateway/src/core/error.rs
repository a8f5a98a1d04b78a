//! Why the core of the gateway cannot do something. Operations of guests have their own table
//! ([`Status`](mooring_protocol::status::Status)); these are for the operator.

use std::path::PathBuf;

use mooring_policy::ids::{BucketName, VolumeId};
use mooring_store::error::StoreError;
use mooring_store::realm::RealmError;
use thiserror::Error;

/// Why the core cannot do something.
#[derive(Debug, Error)]
pub enum CoreError {
    /// The registry failed or refuses.
    #[error(transparent)]
    Realm(#[from] RealmError),
    /// A volume failed.
    #[error("volume {volume}")]
    Volume {
        /// Which.
        volume: VolumeId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Sessions that have something of a volume cannot be waited for.
    #[error("volume {volume} is busy ({status}); try again")]
    Busy {
        /// Which.
        volume: VolumeId,
        /// What came instead.
        status: mooring_protocol::status::Status,
    },
    /// The bucket has no snapshot of that name.
    #[error("bucket {bucket} has no snapshot {name}")]
    NoSuchSnapshot {
        /// The bucket.
        bucket: BucketName,
        /// What was asked for.
        name: String,
    },
    /// No bucket has this volume.
    #[error("no bucket has volume {0}")]
    NoSuchVolume(VolumeId),
    /// The bucket lies in another S3 service, which alone knows and limits what it takes.
    #[error("volume {0} is in another S3 service: what it takes is known and limited there")]
    External(VolumeId),
    /// Session records cannot be kept.
    #[error("cannot keep session records in {path}: check that the directory is writable")]
    Records {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A volume's directory cannot be removed.
    #[error("cannot remove the directory of volume {volume}")]
    Remove {
        /// Which.
        volume: VolumeId,
        /// Why.
        #[source]
        source: mooring_store::backend::BackendError,
    },
}
