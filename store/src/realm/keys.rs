//! Signing keys, access keys, revocations.

use super::turns::Turn;
use super::{Realm, RealmError, TenantState, rows};
use crate::meta::Batch;
use mooring_policy::access::{AccessKey, CredentialKey};
use mooring_policy::ids::{Epoch, TenantId, TokenId};
use mooring_policy::keys::KeySet;
use mooring_policy::revoke::Revocations;
use mooring_policy::time::Timestamp;
use zeroize::Zeroizing;

pub(super) fn access_key_row(id: &str) -> Vec<u8> {
    rows::key(b'K', &[id.as_bytes()])
}

fn single(name: &str) -> Vec<u8> {
    rows::key(b'S', &[name.as_bytes()])
}

fn unusable(source: impl std::error::Error + Send + Sync + 'static) -> RealmError {
    RealmError::Keys(Box::new(source))
}

/// A row that holds secret bytes as policy encodes them.
fn secret_row(secret: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + secret.len());
    row.push(rows::VERSION);
    row.extend_from_slice(secret);
    row
}

impl Realm {
    /// The keys that sign tokens and grants; made at first use.
    pub async fn signing_keys(&self) -> Result<KeySet, RealmError> {
        match self.kept_signing_keys().await? {
            Some(keys) => Ok(keys),
            None => self.load_signing_keys(&self.turn().await?).await,
        }
    }

    async fn kept_signing_keys(&self) -> Result<Option<KeySet>, RealmError> {
        let key = single("signing");
        let Some(row) = self.meta.get(&key).await? else { return Ok(None) };
        KeySet::from_secret_bytes(rows::body(&key, &row)?).map(Some).map_err(unusable)
    }

    async fn load_signing_keys(&self, turn: &Turn) -> Result<KeySet, RealmError> {
        if let Some(keys) = self.kept_signing_keys().await? {
            return Ok(keys);
        }
        let keys = KeySet::generate(self.random.as_ref(), self.clock.now()).map_err(unusable)?;
        self.put_secret(turn, single("signing"), &keys.to_secret_bytes()).await?;
        Ok(keys)
    }

    /// Makes a new signing key; the old ones go on verifying.
    pub async fn rotate_signing_keys(&self) -> Result<KeySet, RealmError> {
        let turn = self.turn().await?;
        let mut keys = self.load_signing_keys(&turn).await?;
        keys.rotate(self.random.as_ref(), self.clock.now()).map_err(unusable)?;
        self.put_secret(&turn, single("signing"), &keys.to_secret_bytes()).await?;
        Ok(keys)
    }

    /// The key from which the secrets of session credentials follow; made at first use.
    pub async fn credential_key(&self) -> Result<CredentialKey, RealmError> {
        let turn = self.turn().await?;
        let key = single("credential");
        if let Some(row) = self.meta.get(&key).await? {
            return CredentialKey::from_secret_bytes(rows::body(&key, &row)?).map_err(unusable);
        }
        let credential = CredentialKey::generate(self.random.as_ref());
        self.put_secret(&turn, key, &credential.to_secret_bytes()).await?;
        Ok(credential)
    }

    async fn put_secret(
        &self,
        turn: &Turn,
        key: Vec<u8>,
        secret: &Zeroizing<Vec<u8>>,
    ) -> Result<(), RealmError> {
        let mut batch = Batch::new();
        batch.put(key, secret_row(secret));
        self.apply(turn, batch).await
    }

    /// Keeps a static access key.
    pub async fn access_key_put(&self, key: &AccessKey) -> Result<(), RealmError> {
        let turn = self.turn().await?;
        self.tenant(&key.tenant).await?;
        self.put_secret(&turn, access_key_row(&key.id), &key.to_secret_bytes().map_err(unusable)?).await
    }

    /// The static access key with this id. Whether it has ended is for policy to say.
    pub async fn access_key(&self, id: &str) -> Result<AccessKey, RealmError> {
        let key = access_key_row(id);
        let row = self.meta.get(&key).await?.ok_or_else(|| RealmError::NoSuchKey(id.to_owned()))?;
        AccessKey::from_secret_bytes(rows::body(&key, &row)?).map_err(unusable)
    }

    /// The static access keys of a tenant.
    pub async fn access_keys(&self, tenant: &TenantId) -> Result<Vec<AccessKey>, RealmError> {
        let mut found = Vec::new();
        for (key, row) in rows::all_raw(&*self.meta, b"K").await? {
            let access_key = AccessKey::from_secret_bytes(rows::body(&key, &row)?).map_err(unusable)?;
            found.extend(Some(access_key).filter(|access_key| access_key.tenant == *tenant));
        }
        Ok(found)
    }

    /// Deletes a static access key: it is refused from now on.
    pub async fn access_key_rm(&self, id: &str) -> Result<(), RealmError> {
        let turn = self.turn().await?;
        self.access_key(id).await?;
        let mut batch = Batch::new();
        batch.delete(access_key_row(id));
        self.apply(&turn, batch).await
    }

    /// Refuses one token from now on. Tokens that have ended are dropped from the list.
    pub async fn revoke_token(&self, id: TokenId, expires: Timestamp) -> Result<(), RealmError> {
        let turn = self.turn().await?;
        let now = self.clock.now();
        let mut batch = Batch::new();
        for (key, row) in rows::all_raw(&*self.meta, b"R").await? {
            if rows::decode::<(TokenId, Timestamp)>(&key, &row)?.1 <= now {
                batch.delete(key);
            }
        }
        rows::put(&mut batch, rows::key(b'R', &[id.to_string().as_bytes()]), &(id, expires))?;
        self.apply(&turn, batch).await
    }

    /// Makes every token of the operator worthless, and returns the new epoch.
    pub async fn raise_realm_epoch(&self) -> Result<Epoch, RealmError> {
        let turn = self.turn().await?;
        let epoch = self.realm_epoch().await?.next().ok_or(RealmError::Exhausted("epoch"))?;
        let mut batch = Batch::new();
        rows::put(&mut batch, single("epoch"), &epoch)?;
        self.apply(&turn, batch).await?;
        Ok(epoch)
    }

    /// The epoch of the operator's tokens.
    pub async fn realm_epoch(&self) -> Result<Epoch, RealmError> {
        Ok(rows::get(&*self.meta, &single("epoch")).await?.unwrap_or(Epoch(1)))
    }

    /// Everything that was revoked, for policy to check sessions with.
    pub async fn revocations(&self) -> Result<Revocations, RealmError> {
        let mut revocations = Revocations::new();
        revocations.require_realm_epoch(self.realm_epoch().await?);
        for tenant in self.tenants_ever().await? {
            let removed = tenant.state == TenantState::Removed;
            revocations.require_epoch(&tenant.name, if removed { Epoch(u64::MAX) } else { tenant.epoch });
        }
        for vm in self.vms_ever(None).await? {
            revocations.require_generation(&vm.tenant, &vm.name, vm.generation);
        }
        let now = self.clock.now();
        for (key, row) in rows::all_raw(&*self.meta, b"R").await? {
            let (id, expires) = rows::decode(&key, &row)?;
            revocations.revoke_token(id, expires, now);
        }
        Ok(revocations)
    }
}
