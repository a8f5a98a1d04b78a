//! Grants: signed statements, and what became of them.

use mooring_policy::grant::Grant;
use mooring_policy::ids::GrantId;
use mooring_policy::index::GrantIndex;
use mooring_policy::time::Timestamp;
use mooring_policy::token::{sign_grant, verify_grant};

use super::rows::{self, StoredGrant};
use super::{Realm, RealmError};
use crate::meta::Batch;

/// A grant and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// What was granted.
    pub grant: Grant,
    /// The signed statement, verifiable anywhere.
    pub statement: String,
    /// When it was stored.
    pub created: Timestamp,
    /// The grantee accepted it: it is mounted.
    pub accepted: bool,
    /// When it was taken back.
    pub revoked: Option<Timestamp>,
}

/// The id under which a share is addressed on the wire: the top bit and 63 bits of the grant's id.
pub fn door_of(id: GrantId) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&id.as_bytes()[8..]);
    u64::from_be_bytes(low) | 1 << 63
}

impl GrantRecord {
    pub(super) fn new(grant: Grant, row: StoredGrant) -> GrantRecord {
        GrantRecord {
            grant,
            statement: row.statement,
            created: row.created,
            accepted: row.accepted,
            revoked: row.revoked,
        }
    }

    fn row(&self) -> StoredGrant {
        StoredGrant {
            statement: self.statement.clone(),
            created: self.created,
            accepted: self.accepted,
            revoked: self.revoked,
        }
    }

    /// The id under which it is addressed on the wire.
    pub fn door(&self) -> u64 {
        door_of(self.grant.id)
    }
}

impl Realm {
    /// Signs and stores a grant on an existing bucket, for an existing tenant.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`], [`RealmError::NoBucket`], [`RealmError::GrantExists`], [`RealmError::ShareNameTaken`].
    pub async fn grant_put(&self, grant: Grant) -> Result<GrantRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let now = self.now();
        self.bucket(&grant.owner, &grant.bucket)?;
        {
            let state = self.state.read();
            state.tenant(&grant.grantee)?;
            if state.grants.keys().any(|id| door_of(*id) == door_of(grant.id)) {
                return Err(RealmError::GrantExists(grant.id));
            }
            let alive = |r: &&GrantRecord| r.revoked.is_none() && r.grant.until.is_none_or(|u| now < u);
            let same = |r: &GrantRecord| {
                r.grant.grantee == grant.grantee && r.grant.owner == grant.owner && r.grant.name == grant.name
            };
            if state.grants.values().filter(alive).any(same) {
                return Err(RealmError::ShareNameTaken {
                    owner: grant.owner.clone(),
                    grantee: grant.grantee.clone(),
                    name: grant.name.clone(),
                });
            }
        }
        let statement =
            sign_grant(&self.keys(), &self.token_realm(), &grant).map_err(RealmError::Statement)?;
        let grant = verify_grant(self.keys().public(), &self.token_realm(), &statement)
            .map_err(RealmError::Statement)?;
        let record = GrantRecord { grant, statement, created: now, accepted: false, revoked: None };
        self.put_grant(record.clone()).await?;
        Ok(record)
    }

    /// The grantee takes it up, or gives it back.
    ///
    /// # Errors
    /// [`RealmError::NoGrant`].
    pub async fn grant_accept(&self, id: GrantId, accepted: bool) -> Result<GrantRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let record = GrantRecord { accepted, ..self.grant(id)? };
        self.put_grant(record.clone()).await?;
        Ok(record)
    }

    /// Takes it back. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`RealmError::NoGrant`].
    pub async fn grant_revoke(&self, id: GrantId) -> Result<GrantRecord, RealmError> {
        let _turn = self.writing.lock().await;
        self.revoke_in_turn(id).await
    }

    /// [`Self::grant_revoke`] for callers that have the turn.
    pub(super) async fn revoke_in_turn(&self, id: GrantId) -> Result<GrantRecord, RealmError> {
        let old = self.grant(id)?;
        if old.revoked.is_some() {
            return Ok(old);
        }
        let record = GrantRecord { revoked: Some(self.now()), ..old };
        self.put_grant(record.clone()).await?;
        Ok(record)
    }

    /// One grant.
    ///
    /// # Errors
    /// [`RealmError::NoGrant`].
    pub fn grant(&self, id: GrantId) -> Result<GrantRecord, RealmError> {
        self.state.read().grants.get(&id).cloned().ok_or(RealmError::NoGrant(id))
    }

    /// All grants, in the order they were given.
    pub fn grants(&self) -> Vec<GrantRecord> {
        let mut all: Vec<_> = self.state.read().grants.values().cloned().collect();
        all.sort_by_key(|r| (r.created, r.grant.id));
        all
    }

    /// All grants arranged for deciding.
    pub fn grant_index(&self) -> GrantIndex {
        let state = self.state.read();
        let revoked = state.grants.values().filter(|r| r.revoked.is_some()).map(|r| r.grant.id);
        GrantIndex::new(state.grants.values().map(|r| r.grant.clone()), revoked)
    }

    async fn put_grant(&self, record: GrantRecord) -> Result<(), RealmError> {
        let mut batch = Batch::new();
        batch.put(rows::grant_key(record.grant.id), rows::encode("grant", &record.row())?);
        self.write(batch, |state| {
            state.grants.insert(record.grant.id, record);
        })
        .await
    }
}
