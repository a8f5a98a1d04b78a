//! What a gateway is doing.

use mooring_policy::ids::{BucketName, TenantId};
use serde::{Deserialize, Serialize};

use super::Damage;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Version of the program.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Sessions of before the last start are still awaited; nothing that conflicts with theirs is granted.
    pub in_grace: bool,
    /// Volumes now open.
    pub volumes: Vec<VolumeStatus>,
    /// Sessions now known.
    pub sessions: Vec<SessionStatus>,
    /// Bytes that cannot be read, of volumes now open.
    #[serde(default)]
    pub damage: Vec<Damage>,
    /// Copies on the disk of what the object store has, where one holds the buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_disk: Option<CacheDisk>,
    /// Which gateway answers here, where several share a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<HomeStatus>,
    /// Why nothing is served any more: another gateway has taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// Room on the disk that may be taken back at any time, in [`GatewayStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDisk {
    /// Bytes of copies there are.
    pub bytes: u64,
    /// The most there may be.
    pub bound: u64,
}

/// The gateway that is home, in [`GatewayStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// Its name.
    pub gateway: String,
    /// Raised with each take-over.
    pub epoch: u64,
    /// The other gateways that are connected to it.
    pub connected: Vec<String>,
}

/// A volume in [`GatewayStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// 16 hex digits.
    pub volume: String,
    /// Whose.
    pub owner: TenantId,
    /// Which bucket.
    pub bucket: BucketName,
    /// Operations applied in memory.
    pub received: u64,
    /// Operations that survive the death of the gateway.
    pub journalled: u64,
    /// Operations that survive power loss; `journalled - stored` would be lost with the host now.
    pub stored: u64,
    /// Leases out.
    pub leases: u64,
}

/// A session in [`GatewayStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// `tenant/vm`.
    pub who: String,
    /// `active` or `disconnected`.
    pub state: String,
    /// Open handles.
    pub handles: u64,
    /// Buckets and shares it has open.
    pub doors: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests so far.
    pub requests: u64,
}
