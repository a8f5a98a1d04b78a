//! Bodies of the HTTP API (docs/api.md), shared by both programs so that neither writes them twice.
//!
//! Field names are the wire's; unknown fields of requests are refused, so that a misspelt option is an error and not a
//! default.

mod durability;
mod keys;
mod snapshots;
mod space;
mod status;
mod trash;

pub use durability::Durability;
pub use keys::{DataKey, KeyRotated, MasterKeyPlace, MasterKeyRotate, MasterKeyRotated, MasterKeyStatus};
pub use snapshots::{BucketClone, Snapshot, SnapshotCreate, SnapshotSchedule};
pub use space::{BucketShow, GcAction, GcDone, GcRequest, GcShow, Limit, QuotaChange, QuotaUse};
pub use status::{CacheDisk, GatewayStatus, HomeStatus, SessionStatus, VolumeStatus};
pub use trash::{TrashEmptied, TrashEntry, TrashPage, TrashRestore, TrashRestored, TrashSet};

use mooring_policy::ids::{BucketName, GrantId, ShareName, TenantId, VmId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};

mod integrity;

pub use integrity::{CheckReport, CheckStart, Damage, Finding, Job, Rebuilt, ScrubReport, ScrubStart};

/// Every error's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorInfo,
}

/// What went wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// Stable word: `not_found`, `denied`, `invalid`, `exists`, `conflict`, `unauthenticated`, `unavailable`, `internal`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// The next command to try, where there is one.
    #[serde(rename = "try", default, skip_serializing_if = "Option::is_none")]
    pub try_: Option<String>,
    /// Appears in the gateway's log.
    pub request_id: String,
}

/// `GET /v1/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The tenant; none for the operator.
    pub tenant: Option<TenantId>,
    /// The VM, when asked over a VM's channel.
    pub vm: Option<VmId>,
    /// The gateway's clock, RFC 3339.
    pub now: String,
}

/// A bucket's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its owner.
    pub owner: TenantId,
    /// Its name, unique within the tenant.
    pub name: BucketName,
    /// Its volume, 16 hex digits.
    pub volume: String,
    /// RFC 3339.
    pub created: String,
    /// A clone's: the volume it shares with the bucket it was cloned from, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Where it is, when it lies in another S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

/// A bucket that lies in another S3 service, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// `s3://BUCKET/PREFIX`.
    pub url: String,
    /// The service; none: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Whose rights are used.
    pub access_key: String,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Milliseconds after which a change made behind the gateway's back is seen.
    pub refresh_ms: u64,
}

/// An existing bucket of another S3 service, to be served as it is. Only the operator may ask for it: the gateway's host
/// will connect to the endpoint.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalCreate {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// `http://` or `https://` and a host; none: AWS, by the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Whose rights are used.
    pub access_key: String,
    /// The secret of that key.
    pub secret_key: String,
    /// The bucket is part of the path, not of the host's name; by default where an endpoint is given.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Nothing can be changed.
    #[serde(default)]
    pub read_only: bool,
    /// Milliseconds after which a change made behind the gateway's back is seen; 5,000 by default.
    #[serde(default)]
    pub refresh_ms: Option<u64>,
    /// Owner of everything; 0 by default.
    #[serde(default)]
    pub uid: u32,
    /// Group of everything; 0 by default.
    #[serde(default)]
    pub gid: u32,
    /// Permission bits of files; 0644 by default.
    #[serde(default)]
    pub file_mode: Option<u16>,
    /// Permission bits of directories; 0755 by default.
    #[serde(default)]
    pub dir_mode: Option<u16>,
    /// Bytes that may wait at the gateway to be uploaded; 16 GiB by default.
    #[serde(default)]
    pub spool_bytes: Option<u64>,
}

impl std::fmt::Debug for ExternalCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalCreate").field("url", &self.url).finish_non_exhaustive()
    }
}

/// `POST /v1/buckets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketCreate {
    /// Its name.
    pub name: BucketName,
    /// It is in another S3 service already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalCreate>,
    /// When a reply says durable; fixed from here on.
    #[serde(default)]
    pub durability: Durability,
    /// Its limits; the operator's to set.
    #[serde(default, skip_serializing_if = "QuotaChange::is_empty")]
    pub quota: QuotaChange,
}

/// Which side of sharing is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the tenant gave.
    Out,
    /// What the tenant was given.
    In,
    /// Both.
    #[default]
    All,
}

/// Where a share stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareState {
    /// Given, not yet accepted.
    Offered,
    /// In use.
    Accepted,
    /// Its time is over.
    Expired,
    /// Taken back.
    Revoked,
}

/// What the grantee will see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sees {
    /// As an S3 bucket: `<owner>.<name>`.
    pub bucket: String,
    /// In the mount.
    pub path: String,
}

/// A share as both sides see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its id.
    pub id: GrantId,
    /// Who gave it.
    pub owner: TenantId,
    /// In which bucket.
    pub bucket: BucketName,
    /// Which part of it; empty for all.
    pub prefix: String,
    /// Who may use it.
    pub with: TenantId,
    /// `read,list` and so on.
    pub rights: String,
    /// When it ends, RFC 3339, or `forever`.
    pub until: String,
    /// The name the grantee sees.
    pub name: ShareName,
    /// Free text.
    pub note: String,
    /// How many times it can be passed on.
    pub reshare: u8,
    /// Where it stands.
    pub state: ShareState,
    /// When it was given, RFC 3339.
    pub created: String,
    /// What the grantee sees.
    pub sees: Sees,
    /// The command that takes it back.
    pub undo: String,
}

/// `POST /v1/shares`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareCreate {
    /// The bucket, or a share of ours as `<owner>.<name>` when passing it on.
    pub bucket: String,
    /// A prefix of whole components such as `photos/2026/`; empty for the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// The tenant it is for.
    pub with: TenantId,
    /// `read`, `write`, `list`, `delete`, or several with commas. Default `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<String>,
    /// `7d`, `12h`, a date, a moment, or `forever`. Default `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The name the grantee sees. Default: the last component of the prefix, or the bucket's name.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub as_: Option<ShareName>,
    /// Free text.
    #[serde(default)]
    pub note: String,
    /// How many times the grantee may pass it on.
    #[serde(default)]
    pub reshare: u8,
    /// Check everything, store nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// `DELETE /v1/shares/{id}`: what taking back did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revoked {
    /// The share.
    pub id: GrantId,
    /// From the request to the last confirmation, milliseconds.
    pub took_ms: f64,
    /// Sessions that had it open and confirmed that they dropped it.
    pub confirmed: Vec<String>,
    /// Sessions that did not answer in time and were cut off.
    pub fenced: Vec<String>,
}

/// `POST /v1/shares/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Who would do it.
    pub tenant: TenantId,
    /// `read`, `write`, `list`, `delete` or `share`.
    pub action: String,
    /// In which bucket of the asking tenant.
    pub bucket: BucketName,
    /// On which key; empty for the bucket.
    #[serde(default)]
    pub key: String,
}

/// The decision, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whether it would be allowed now.
    pub allowed: bool,
    /// The rule that decided.
    pub rule: String,
    /// The command that would change the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// Narrow to these rights on this bucket or prefix: `read:photos/2026/`; several allowed.
    #[serde(default)]
    pub scope: Vec<String>,
    /// For this VM of the tenant's, to come in with over TLS. The operator alone may ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
}

/// A session token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// When it ends, RFC 3339.
    pub until: String,
}

/// `GET /v1/credentials`: the container-credentials form that every AWS SDK reads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// Session token; required with the key.
    pub token: String,
    /// When they end, RFC 3339.
    pub expiration: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// A tenant's row (admin API).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// RFC 3339.
    pub created: String,
    /// How many buckets.
    pub buckets: u64,
    /// How many VMs are attached.
    pub vms: u64,
}

/// `POST /v1/tenants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantCreate {
    /// Its name.
    pub name: TenantId,
    /// Its limits, over all its buckets.
    #[serde(default, skip_serializing_if = "QuotaChange::is_empty")]
    pub quota: QuotaChange,
}

/// How a VM reaches the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Hybrid vsock: guest port P arrives at the unix socket `<path>_P` (Firecracker, Cloud Hypervisor,
    /// QEMU with vhost-device-vsock).
    Hybrid(String),
    /// Kernel vsock: this context id.
    Cid(u32),
    /// A unix socket of the VM's own at this path.
    Unix(String),
    /// TCP with TLS; the VM shows a token.
    Tcp,
}

/// `POST /v1/vms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmAttach {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, unique within the tenant.
    pub vm: VmId,
    /// How it reaches the gateway.
    pub channel: Channel,
}

/// A VM's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub vm: VmId,
    /// How it reaches the gateway.
    pub channel: Channel,
    /// Raised with each attach.
    pub generation: u64,
    /// Sessions now open.
    pub sessions: u64,
    /// The gateway of its host, where several share a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// `POST /v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// Whose rights it carries.
    pub tenant: TenantId,
    /// `30d` and so on; default 30 days, `forever` must be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A static access key. The secret is shown once, when it is made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Access key id.
    pub id: String,
    /// Secret; only in the answer to its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whose rights it carries.
    pub tenant: TenantId,
    /// When it ends, RFC 3339, or `forever`.
    pub until: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// A moment as the API writes it: RFC 3339, or `forever` for none.
pub fn until_text(until: Option<Timestamp>) -> String {
    until.map_or_else(|| "forever".to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests;
