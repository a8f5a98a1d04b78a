//! What the registry says, as one immutable value that decisions read without waiting.
//!
//! The registry itself is a database; asking it at every request would be slow. It changes seldom and only through this
//! process, so after each change a new value is read and swapped in. A decision made after the swap knows the change.

use std::collections::HashMap;

use mooring_policy::ids::{BucketName, Epoch, GrantId, ShareName, TenantId, VolumeId};
use mooring_policy::index::GrantIndex;
use mooring_policy::keys::KeySet;
use mooring_policy::revoke::Revocations;
use mooring_store::realm::{Bucket, Realm, RealmError};
use mooring_store::volume::Quota;

/// The bit that tells a share's door from a bucket's.
const SHARE_DOOR: u64 = 1 << 63;

/// A snapshot of the registry.
pub struct Registry {
    /// All grants.
    pub grants: std::sync::Arc<GrantIndex>,
    /// The names under which grants were accepted.
    pub accepted: HashMap<GrantId, ShareName>,
    /// Grants by the id of their door.
    pub by_door: HashMap<u64, GrantId>,
    /// Buckets by volume.
    pub by_volume: HashMap<VolumeId, Bucket>,
    /// Volumes by bucket.
    pub volumes: HashMap<(TenantId, BucketName), VolumeId>,
    /// Limits of tenants.
    pub quotas: HashMap<TenantId, Quota>,
    /// Key epochs of tenants.
    pub epochs: HashMap<TenantId, Epoch>,
    /// The operator's key epoch.
    pub realm_epoch: Epoch,
    /// What signs and verifies.
    pub keys: KeySet,
    /// What was revoked.
    pub revocations: Revocations,
}

impl Registry {
    /// Reads everything anew.
    pub async fn read(realm: &Realm) -> Result<Registry, RealmError> {
        let rows = realm.grants().await?;
        let revoked: Vec<GrantId> = rows.iter().filter(|r| r.revoked.is_some()).map(|r| r.grant.id).collect();
        let accepted = rows.iter().filter_map(|r| Some((r.grant.id, r.accepted.clone()?))).collect();
        let by_door = rows.iter().map(|r| (door_of(r.grant.id), r.grant.id)).collect();
        let grants = std::sync::Arc::new(GrantIndex::new(rows.into_iter().map(|r| r.grant), revoked));
        let buckets = realm.buckets(None).await?;
        let tenants = realm.tenants().await?;
        Ok(Registry {
            grants,
            accepted,
            by_door,
            volumes: buckets.iter().map(|b| ((b.owner.clone(), b.name.clone()), b.volume)).collect(),
            by_volume: buckets.into_iter().map(|b| (b.volume, b)).collect(),
            quotas: tenants.iter().map(|t| (t.name.clone(), t.quota)).collect(),
            epochs: tenants.into_iter().map(|t| (t.name, t.epoch)).collect(),
            realm_epoch: realm.realm_epoch().await?,
            keys: realm.signing_keys().await?,
            revocations: realm.revocations().await?,
        })
    }
}

/// The door of a share: random like its grant's id, and told apart from volumes by the top bit.
pub fn door_of(grant: GrantId) -> u64 {
    let bytes = grant.as_bytes();
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[8..]);
    u64::from_be_bytes(low) | SHARE_DOOR
}

/// Whether a door is a share's.
pub fn is_share(door: u64) -> bool {
    door & SHARE_DOOR != 0
}
