//! What can go wrong with the registry.

use crate::backend::BackendError;
use crate::meta::MetaError;
use crate::seal::SealError;
use mooring_policy::ids::{BucketName, GrantId, TenantId, VmId};

/// A failure of the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealmError {
    /// No tenant of this name.
    #[error("tenant {0} does not exist")]
    NoSuchTenant(TenantId),
    /// The name is taken.
    #[error("tenant {0} exists already")]
    TenantExists(TenantId),
    /// It still owns something.
    #[error("tenant {tenant} still has {what}; remove them first")]
    TenantNotEmpty {
        /// The tenant.
        tenant: TenantId,
        /// "buckets" or "VMs".
        what: &'static str,
    },
    /// No bucket of this name.
    #[error("bucket {1} of tenant {0} does not exist")]
    NoSuchBucket(TenantId, BucketName),
    /// The name is taken.
    #[error("bucket {1} of tenant {0} exists already")]
    BucketExists(TenantId, BucketName),
    /// No VM of this name is attached.
    #[error("VM {1} of tenant {0} is not attached")]
    NoSuchVm(TenantId, VmId),
    /// Another VM is reached through the same channel.
    #[error("this channel already leads to VM {vm} of tenant {tenant}; detach it first")]
    ChannelInUse {
        /// Its tenant.
        tenant: TenantId,
        /// The VM.
        vm: VmId,
    },
    /// No such grant.
    #[error("grant {0} does not exist")]
    NoSuchGrant(GrantId),
    /// A grant with this id exists.
    #[error("grant {0} exists already")]
    GrantExists(GrantId),
    /// No such access key.
    #[error("access key {0} does not exist")]
    NoSuchKey(String),
    /// Ids of this kind have run out.
    #[error("there are no more {0} ids")]
    Exhausted(&'static str),
    /// A row does not read.
    #[error("a row of the registry ({row}) does not read")]
    Row {
        /// Which row.
        row: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row was written by a newer release.
    #[error(
        "a row of the registry ({row}) has version {found}, this program reads {supported}; use a newer one"
    )]
    Version {
        /// Which row.
        row: String,
        /// Its version.
        found: u8,
        /// What we read.
        supported: u8,
    },
    /// The key ring does not read, in all its copies.
    #[error(
        "the key ring {place} is damaged: {detail}; restore it or its copy from a backup, without it no data opens"
    )]
    Ring {
        /// The file or object.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is sealed data, and no key ring.
    #[error("the key ring {place} is missing, and sealed data exists; restore it from a backup")]
    RingMissing {
        /// Where it should be.
        place: String,
    },
    /// Somebody else has changed the key ring in the store since it was read here.
    #[error("the key ring {place} was changed by another gateway; this one must be started again")]
    RingChanged {
        /// The object.
        place: String,
    },
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The disk failed when the change was under way, which nothing takes back.
    #[error(
        "the registry's disk fails; the change waits for it and is made once the disk is well: look before you repeat it"
    )]
    InDoubt(#[source] MetaError),
    /// A key is missing or wrong.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The directory cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The log in the store cannot be used.
    #[error(transparent)]
    Upstream(#[from] crate::upstream::UpstreamError),
    /// The signing keys cannot be made or read.
    #[error("the realm's signing keys are not usable")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
}
