//! What this crate asks of the gateway: who the caller is and which bucket is meant. Nothing of `s3s` is named here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mooring_policy::principal::Principal;
use mooring_policy::scope::Scope;
use mooring_protocol::types::Time;
use mooring_store::api::{Caller, Objects};
use mooring_store::error::StoreError;
use thiserror::Error;
use zeroize::Zeroizing;

/// Who the channel says is at the other end (a VM's vsock, a unix socket's owner). An HTTP extension.
#[derive(Clone, Debug)]
pub struct Peer(pub Principal);

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// What its token narrows it to; `None` narrows nothing.
    pub scope: Option<Arc<Scope>>,
}

/// One row of ListBuckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketEntry {
    /// Name: of an own bucket, or `<owner>.<share>`.
    pub name: String,
    /// When it was made, or the share accepted.
    pub created: Time,
}

/// Buckets as the caller sees them. What the caller may not know of is [`StoreError::NotFound`].
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Own buckets, and shares as `<owner>.<share>`, ordered by name.
    async fn list(&self, who: &Identity) -> Result<Vec<BucketEntry>, StoreError>;
    /// The bucket's tree and the context its methods take. The caller's authority is asked anew by every method.
    async fn open(&self, who: &Identity, bucket: &str) -> Result<(Arc<dyn Objects>, Caller), StoreError>;
    /// Makes a bucket of the caller's tenant. [`StoreError::Exists`] when there is one.
    async fn create(&self, who: &Identity, bucket: &str) -> Result<(), StoreError>;
    /// Removes an empty bucket. [`StoreError::NotEmpty`] when it has objects.
    async fn delete(&self, who: &Identity, bucket: &str) -> Result<(), StoreError>;
}

/// The secret half of an access key. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

impl SecretKey {
    /// Takes the secret.
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret itself, for deriving signing keys.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// An access key that is known, in force, and the peer's to use.
#[derive(Clone, Debug)]
pub struct Found {
    /// What requests are signed with.
    pub secret: SecretKey,
    /// Whose it is.
    pub identity: Identity,
}

/// Why a key or token is refused.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// No such access key (or none this peer may use: the answer is the same).
    #[error("the access key is not known here")]
    UnknownKey,
    /// The session token is missing, forged, revoked or not of this access key.
    #[error("the session token is not valid for this access key")]
    InvalidToken,
    /// The token or key was good once.
    #[error("the token has expired: get new credentials")]
    Expired,
    /// The registry could not be asked.
    #[error("credentials cannot be checked now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Turns what a request presents into an identity.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The secret and owner of an access key. A session key needs its token, and the token must be of this key; a static
    /// key must come without one. With a `peer`, a session key must belong to that peer.
    async fn find(
        &self,
        access_key: &str,
        session_token: Option<&str>,
        peer: Option<&Principal>,
    ) -> Result<Found, CredentialError>;
    /// Who an `Authorization: Bearer` token stands for.
    async fn bearer(&self, token: &str, peer: Option<&Principal>) -> Result<Identity, CredentialError>;
}
