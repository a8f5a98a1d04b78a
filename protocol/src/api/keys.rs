//! Bodies about master keys and data keys. Never a key itself: ids and places.

use mooring_policy::ids::TenantId;
use serde::{Deserialize, Serialize};

/// `GET /v1/master-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKeyStatus {
    /// Id of the master key that wraps everything.
    pub id: String,
    /// The master keys the gateway has.
    pub at_hand: Vec<MasterKeyPlace>,
    /// Every data key.
    pub keys: Vec<DataKey>,
}

/// A master key that the gateway has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKeyPlace {
    /// Its id.
    pub id: String,
    /// Where it was read.
    pub place: String,
}

/// One data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// The tenant; none for the realm's own.
    pub tenant: Option<TenantId>,
    /// Its number among the owner's.
    pub generation: u16,
    /// It seals what is written now.
    pub current: bool,
    /// When it was made, RFC 3339.
    pub made: String,
    /// Id of the master key that wraps it.
    pub master: String,
}

/// `POST /v1/master-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasterKeyRotate {
    /// Place of the new master key, as the gateway sees it: a file, `env:NAME` or `command:LINE`.
    pub to: String,
    /// Make a new key in that file first.
    #[serde(default)]
    pub generate: bool,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKeyRotated {
    /// Id of the master key that wraps everything now.
    pub id: String,
    /// Where it was read.
    pub place: String,
    /// Id of the one before, which is not needed any more.
    pub before: String,
    /// How many keys were wrapped anew.
    pub keys: u64,
}

/// Answer of `POST /v1/tenants/{name}/rotate-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// Whose.
    pub tenant: TenantId,
    /// Number of the data key that seals from now on.
    pub generation: u16,
}
