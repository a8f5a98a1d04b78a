//! Rows of the registry: a family byte and names in the key, a version byte and postcard in the value.
//!
//! ```text
//! 00                         schema, as written by the first start
//! 01                         next volume id
//! 02                         realm id, signing keys, credential key
//! 10 tenant                  TenantRecord
//! 11 tenant 00 bucket        BucketRecord
//! 12 tenant 00 vm            VmRecord (also of detached VMs: the generation is remembered)
//! 13 grant id (16 bytes)     StoredGrant
//! 14 access key id           policy's stored form of the key
//! ```

use mooring_policy::ids::{BucketName, Epoch, Generation, GrantId, TenantId, VmId, VolumeId};
use mooring_policy::time::Timestamp;
use mooring_protocol::api::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RealmError;
use crate::seal::WrappedKey;

pub(super) const SCHEMA: &[u8] = &[0x00];
pub(super) const NEXT_VOLUME: &[u8] = &[0x01];
pub(super) const SECRETS: &[u8] = &[0x02];
pub(super) const TENANT: u8 = 0x10;
pub(super) const BUCKET: u8 = 0x11;
pub(super) const VM: u8 = 0x12;
pub(super) const GRANT: u8 = 0x13;
pub(super) const ACCESS_KEY: u8 = 0x14;

/// Version of every row's value.
const VERSION: u8 = 1;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its name.
    pub name: TenantId,
    /// When it was made.
    pub created: Timestamp,
    /// Its key epoch: tokens of earlier ones are refused.
    pub epoch: Epoch,
    /// Its data key under the master key; gone once it is removed.
    pub(super) key: Option<WrappedKey>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// Whose.
    pub owner: TenantId,
    /// Its name, unique within the tenant.
    pub name: BucketName,
    /// Its volume.
    pub volume: VolumeId,
    /// When it was made.
    pub created: Timestamp,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Its name, unique within the tenant.
    pub vm: VmId,
    /// How it is known; `None` after it was detached.
    pub channel: Option<Channel>,
    /// Raised by each attach and detach.
    pub generation: Generation,
}

/// A grant as stored: the statement is the truth, the rest is what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredGrant {
    pub statement: String,
    pub created: Timestamp,
    pub accepted: bool,
    pub revoked: Option<Timestamp>,
}

/// Realm id and secrets, in their own stored forms.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSecrets {
    pub id: String,
    pub signing: Vec<u8>,
    pub credential: Vec<u8>,
}

pub(super) fn tenant_key(name: &TenantId) -> Vec<u8> {
    named(TENANT, name.as_str(), None)
}

pub(super) fn bucket_key(owner: &TenantId, name: &BucketName) -> Vec<u8> {
    named(BUCKET, owner.as_str(), Some(name.as_str()))
}

pub(super) fn vm_key(tenant: &TenantId, vm: &VmId) -> Vec<u8> {
    named(VM, tenant.as_str(), Some(vm.as_str()))
}

pub(super) fn grant_key(id: GrantId) -> Vec<u8> {
    let mut key = vec![GRANT];
    key.extend_from_slice(id.to_string().as_bytes());
    key
}

pub(super) fn access_key(id: &str) -> Vec<u8> {
    named(ACCESS_KEY, id, None)
}

/// Names have no NUL, so the parts cannot run into each other.
fn named(family: u8, first: &str, second: Option<&str>) -> Vec<u8> {
    let mut key = vec![family];
    key.extend_from_slice(first.as_bytes());
    if let Some(second) = second {
        key.push(0);
        key.extend_from_slice(second.as_bytes());
    }
    key
}

pub(super) fn encode<T: Serialize>(family: &'static str, row: &T) -> Result<Vec<u8>, RealmError> {
    postcard::to_extend(row, vec![VERSION]).map_err(|_| RealmError::Row { family })
}

pub(super) fn decode<T: DeserializeOwned>(family: &'static str, value: &[u8]) -> Result<T, RealmError> {
    match value.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| RealmError::Row { family }),
        _ => Err(RealmError::Row { family }),
    }
}
