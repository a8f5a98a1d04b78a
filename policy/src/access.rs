//! Credentials for S3 clients.
//!
//! A client of S3 wants an access key id and a secret to sign with. There are two kinds:
//!
//! - *Session credentials* are computed from a session token and kept nowhere. The id is a hash over who the session
//!   is for and its token's id, the secret an HMAC of the id under a key of the tenant's epoch, and the session token
//!   is the JWT itself. A request brings id and token, the gateway verifies the token, works out both again, and
//!   holds the signature against the secret. Without the token the id leads nowhere, with another's token it does
//!   not fit, and raising the epoch makes every secret worthless.
//! - *Static keys* are for programs outside of any VM. They are random, kept by the realm, and can be narrowed and
//!   made to end.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ids::{Epoch, TenantId};
use crate::principal::Principal;
use crate::rng::Random;
use crate::scope::Scope;
use crate::time::Timestamp;
use crate::token::Session;

/// How the id of session credentials begins.
pub const SESSION_KEY_PREFIX: &str = "MRS";

/// How the id of a static key begins.
pub const STATIC_KEY_PREFIX: &str = "MRK";

/// Digits of an id after its prefix: 120 bits.
const ID_DIGITS: usize = 24;

/// The alphabet of RFC 4648, section 6: ids survive being read aloud and any change of case is a change.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

const SECRET_LEN: usize = 32;

/// A secret text. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself, for signing and for the one answer that hands it out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn encode(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)))
    }
}

/// In a time that does not tell where two secrets differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// Why S3 credentials are refused, for the log. The outside is told one thing for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The access key id does not belong to the session token.
    #[error("the access key id does not belong to the session token")]
    ForeignId,
    /// A static key that has ended.
    #[error("the access key expired at {0}")]
    Expired(Timestamp),
    /// Bytes that are no stored key.
    #[error("the stored access key is damaged or of an unknown version")]
    Damaged,
}

/// What an S3 client needs for the rest of a session; the session token that goes with it is the JWT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCredentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: Secret,
    /// When they end: with the session.
    pub expires: Timestamp,
}

/// The realm's secret from which the secrets of all session credentials follow. Not the key that signs tokens.
#[derive(Clone)]
pub struct CredentialKey(Zeroizing<[u8; SECRET_LEN]>);

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey([redacted])")
    }
}

impl CredentialKey {
    /// A new key.
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        random.fill(&mut *bytes);
        Self(bytes)
    }

    /// A key as it was stored.
    ///
    /// # Errors
    /// [`CredentialError::Damaged`] when it has not 32 bytes.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CredentialError> {
        let bytes: &[u8; SECRET_LEN] = bytes.try_into().map_err(|_| CredentialError::Damaged)?;
        Ok(Self(Zeroizing::new(*bytes)))
    }

    /// The bytes to store: seal them first.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_vec())
    }

    /// The credentials that go with a session. The same for the same session, on every gateway of the realm.
    pub fn mint(&self, session: &Session) -> SessionCredentials {
        let access_key_id = session_key_id(session);
        let secret = self.secret_of(&session.principal, session.epoch, &access_key_id);
        SessionCredentials { access_key_id, secret, expires: session.expires }
    }

    /// The secret that a request with this access key id and this *verified and unrevoked* session was signed with.
    ///
    /// # Errors
    /// [`CredentialError::ForeignId`] when id and session do not belong together.
    pub fn check(&self, access_key_id: &str, session: &Session) -> Result<Secret, CredentialError> {
        let expected = session_key_id(session);
        constant_time::verify_slices_are_equal(expected.as_bytes(), access_key_id.as_bytes())
            .map_err(|_| CredentialError::ForeignId)?;
        Ok(self.secret_of(&session.principal, session.epoch, &expected))
    }

    fn secret_of(&self, principal: &Principal, epoch: Epoch, id: &str) -> Secret {
        let epoch_key = self.epoch_key(principal.tenant(), epoch);
        Secret::encode(hmac::sign(&epoch_key, id.as_bytes()).as_ref())
    }

    /// The key of a tenant's epoch: an HMAC under the realm's key, as in HKDF-Expand (RFC 5869) with one block.
    fn epoch_key(&self, tenant: Option<&TenantId>, epoch: Epoch) -> hmac::Key {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0));
        context.update(b"mooring session credentials 1\0");
        // A name has no NUL, and the operator's empty one is no tenant's.
        context.update(tenant.map_or("", TenantId::as_str).as_bytes());
        context.update(b"\0");
        context.update(&epoch.get().to_be_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
    }
}

/// Whether an access key id is that of a session, so that a session token has to come with it.
pub fn is_session_key_id(access_key_id: &str) -> bool {
    access_key_id.starts_with(SESSION_KEY_PREFIX)
}

/// The id is bound to who the session is for and to its token.
fn session_key_id(session: &Session) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"mooring access key id 1\0");
    hash.update(session.principal.to_string().as_bytes());
    hash.update(b"\0");
    if let Principal::Vm { generation, .. } = &session.principal {
        hash.update(&generation.get().to_be_bytes());
    }
    hash.update(session.id.as_bytes());
    key_id(SESSION_KEY_PREFIX, hash.finish().as_ref())
}

/// `prefix` and [`ID_DIGITS`] digits, five bits of each byte.
fn key_id(prefix: &str, bytes: &[u8]) -> String {
    let digits = bytes.iter().take(ID_DIGITS).map(|byte| char::from(BASE32[usize::from(byte & 31)]));
    prefix.chars().chain(digits).collect()
}

/// A static access key of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The tenant on whose rights it acts.
    pub tenant: TenantId,
    /// What it is narrowed to; `None`: all that the tenant's rights allow.
    pub scope: Option<Scope>,
    /// The first moment it no longer works; `None`: it does not end by itself.
    pub until: Option<Timestamp>,
}

/// The stored form of an [`AccessKey`]: apart, so that nothing serialises a secret by accident.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    id: &'a str,
    secret: &'a str,
    tenant: TenantId,
    scope: Option<Scope>,
    until: Option<Timestamp>,
}

impl AccessKey {
    /// A new key with a random id and secret.
    pub fn generate(
        random: &dyn Random,
        tenant: TenantId,
        scope: Option<Scope>,
        until: Option<Timestamp>,
    ) -> Self {
        let mut id = [0; ID_DIGITS];
        random.fill(&mut id);
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        random.fill(&mut *secret);
        Self { id: key_id(STATIC_KEY_PREFIX, &id), secret: Secret::encode(&*secret), tenant, scope, until }
    }

    /// Whether the key still works.
    ///
    /// # Errors
    /// [`CredentialError::Expired`] from its last moment on.
    pub fn check(&self, now: Timestamp) -> Result<(), CredentialError> {
        match self.until.filter(|until| now >= *until) {
            Some(until) => Err(CredentialError::Expired(until)),
            None => Ok(()),
        }
    }

    /// Whoever signs with it.
    pub fn principal(&self) -> Principal {
        Principal::External { tenant: self.tenant.clone(), key: self.id.clone() }
    }

    /// The key as bytes, secret included: seal them before they are stored.
    ///
    /// # Errors
    /// None that can happen for a key of this type; the serialiser has them.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let stored = Stored {
            id: &self.id,
            secret: self.secret.expose(),
            tenant: self.tenant.clone(),
            scope: self.scope.clone(),
            until: self.until,
        };
        // The secret is near the front: room for it before the first byte means no copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        serde_json::to_writer(&mut *bytes, &stored)?;
        Ok(bytes)
    }

    /// The inverse of [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// [`CredentialError::Damaged`] for bytes that are no stored key.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CredentialError> {
        let stored: Stored<'_> = serde_json::from_slice(bytes).map_err(|_| CredentialError::Damaged)?;
        let secret = Secret(Zeroizing::new(stored.secret.to_owned()));
        Ok(Self {
            id: stored.id.to_owned(),
            secret,
            tenant: stored.tenant,
            scope: stored.scope,
            until: stored.until,
        })
    }
}

#[cfg(test)]
mod tests;
