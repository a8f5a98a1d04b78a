//! Why the registry refuses or fails.

use std::path::PathBuf;

use mooring_policy::ids::{BucketName, GrantId, TenantId, VmId};
use thiserror::Error;

use crate::backend::BackendError;
use crate::meta::MetaError;
use crate::seal::SealError;

/// Why the registry refuses or fails.
#[derive(Debug, Error)]
pub enum RealmError {
    /// No such tenant.
    #[error("no tenant {0}")]
    NoTenant(TenantId),
    /// The tenant is there.
    #[error("tenant {0} already exists")]
    TenantExists(TenantId),
    /// It still has buckets or VMs.
    #[error("tenant {tenant} still has {buckets} buckets and {vms} VMs")]
    TenantInUse {
        /// Which.
        tenant: TenantId,
        /// How many buckets.
        buckets: usize,
        /// How many VMs.
        vms: usize,
    },
    /// No such bucket.
    #[error("no bucket {bucket} of tenant {owner}")]
    NoBucket {
        /// Whose.
        owner: TenantId,
        /// Which.
        bucket: BucketName,
    },
    /// The bucket is there.
    #[error("bucket {bucket} of tenant {owner} already exists")]
    BucketExists {
        /// Whose.
        owner: TenantId,
        /// Which.
        bucket: BucketName,
    },
    /// No such VM.
    #[error("no VM {vm} of tenant {tenant}")]
    NoVm {
        /// Whose.
        tenant: TenantId,
        /// Which.
        vm: VmId,
    },
    /// Another VM is known by this channel.
    #[error("the channel already is that of VM {tenant}/{vm}")]
    ChannelTaken {
        /// Whose.
        tenant: TenantId,
        /// Which.
        vm: VmId,
    },
    /// No such grant.
    #[error("no grant {0}")]
    NoGrant(GrantId),
    /// The id is taken (by itself or by the door derived from it).
    #[error("grant {0} already exists")]
    GrantExists(GrantId),
    /// The grantee has a share of that name from that owner.
    #[error("tenant {grantee} already has a share named {name} of {owner}: choose another name")]
    ShareNameTaken {
        /// Who gives.
        owner: TenantId,
        /// Who would have two.
        grantee: TenantId,
        /// The name.
        name: mooring_policy::ids::ShareName,
    },
    /// A statement does not verify.
    #[error("the grant's statement does not verify")]
    Statement(#[source] mooring_policy::token::TokenError),
    /// A row cannot be read: damaged, or of a version this program does not know.
    #[error("a row of the registry ({family}) cannot be read: it is damaged or written by a newer version")]
    Row {
        /// Which kind of row.
        family: &'static str,
    },
    /// The key file of the registry cannot be read or written.
    #[error("cannot use the registry's key file {path}")]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Signing keys.
    #[error("the registry's signing keys cannot be used")]
    Keys(#[from] mooring_policy::keys::KeyError),
    /// Keys and their wrapping.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The directory.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The engine.
    #[error(transparent)]
    Meta(#[from] MetaError),
}
