//! Session tokens, S3 credentials, access keys: minted and checked over the registry's keys.

use async_trait::async_trait;
use mooring_policy::access::is_session_key_id;
use mooring_policy::action::ActionSet;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::principal::Principal;
use mooring_policy::resource::Prefix;
use mooring_policy::scope::{Scope, ScopeEntry};
use mooring_policy::token::{Session, SessionRequest, TokenError, mint_session, verify_session};
use mooring_s3::{CredentialError, Credentials, Found, Identity, SecretKey};
use mooring_store::realm::RealmError;
use std::sync::Arc;
use thiserror::Error;

use crate::core::Core;
use crate::gateway::Gateway;

/// Why a token cannot be made.
#[derive(Debug, Error)]
pub enum MintError {
    /// The tenant is gone.
    #[error(transparent)]
    Realm(#[from] RealmError),
    /// Signing failed, or the scope makes it too long.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Mints a session token for `principal`.
///
/// # Errors
/// [`MintError`].
pub async fn mint(
    core: &Core,
    principal: Principal,
    scope: Option<Scope>,
) -> Result<(String, Session), MintError> {
    let registry = core.registry();
    let epoch = match principal.tenant() {
        Some(tenant) => core.realm().tenant(tenant).await?.epoch,
        None => registry.realm_epoch,
    };
    let request = SessionRequest { principal, epoch, scope, holder: None };
    Ok(mint_session(&registry.keys, core.token_realm(), request, core.random(), core.now())?)
}

/// Verifies a session token, revocations included.
///
/// # Errors
/// [`CredentialError`] as the outside may see it; the log has the reason.
pub fn verify(core: &Core, token: &str) -> Result<Session, CredentialError> {
    let registry = core.registry();
    let verified =
        verify_session(registry.keys.public(), core.token_realm(), &registry.revocations, token, core.now());
    verified.map_err(|e| {
        tracing::info!(reason = %e, "token refused");
        match e {
            TokenError::Expired(_) => CredentialError::Expired,
            _ => CredentialError::InvalidToken,
        }
    })
}

/// Reads scopes of a command line: `read:photos/2026/`.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_scope(owner: &TenantId, texts: &[String]) -> Result<Option<Scope>, String> {
    if texts.is_empty() {
        return Ok(None);
    }
    let entry = |text: &String| -> Result<ScopeEntry, String> {
        let (rights, place) =
            text.split_once(':').ok_or(format!("`{text}` is no scope: use RIGHTS:BUCKET/PREFIX"))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        Ok(ScopeEntry {
            actions: ActionSet::from_rights(rights).map_err(|e| e.to_string())?,
            owner: Some(owner.clone()),
            bucket: Some(BucketName::try_from(bucket).map_err(|e| e.to_string())?),
            prefix: Prefix::try_from(prefix).map_err(|e| e.to_string())?,
        })
    };
    let entries = texts.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    Scope::new(entries).map(Some).map_err(|e| e.to_string())
}

fn identity(session: Session) -> Identity {
    Identity { principal: session.principal, scope: session.scope.map(Arc::new) }
}

/// A credential shown over a VM's channel must be that VM's or its tenant's: one stolen from another VM is worth
/// nothing there.
fn belongs(principal: &Principal, peer: Option<&Principal>) -> bool {
    match (principal, peer) {
        (_, None) => true,
        (Principal::Vm { .. }, Some(peer)) => principal == peer,
        (_, Some(peer)) => principal.tenant().is_some() && principal.tenant() == peer.tenant(),
    }
}

/// S3's question who signed, answered from the registry.
pub struct RealmCredentials {
    gateway: Arc<Gateway>,
}

impl RealmCredentials {
    /// Over this gateway's registry.
    pub fn new(gateway: Arc<Gateway>) -> RealmCredentials {
        RealmCredentials { gateway }
    }
}

#[async_trait]
impl Credentials for RealmCredentials {
    async fn find(
        &self,
        access_key: &str,
        session_token: Option<&str>,
        peer: Option<&Principal>,
    ) -> Result<Found, CredentialError> {
        if is_session_key_id(access_key) {
            let token = session_token.ok_or(CredentialError::InvalidToken)?;
            let session = verify(&self.gateway.core, token)?;
            let secret = self.gateway.credential_key().check(access_key, &session);
            let secret = secret.map_err(|_| CredentialError::InvalidToken)?;
            if !belongs(&session.principal, peer) {
                return Err(CredentialError::InvalidToken);
            }
            return Ok(Found {
                secret: SecretKey::new(secret.expose().to_owned()),
                identity: identity(session),
            });
        }
        let key = match self.gateway.core.realm().access_key(access_key).await {
            Ok(key) => key,
            Err(RealmError::NoSuchKey(_)) => return Err(CredentialError::UnknownKey),
            Err(other) => return Err(CredentialError::Unavailable(Box::new(other))),
        };
        key.check(self.gateway.core.now()).map_err(|_| CredentialError::Expired)?;
        if session_token.is_some() {
            return Err(CredentialError::InvalidToken);
        }
        if !belongs(&key.principal(), peer) {
            return Err(CredentialError::UnknownKey);
        }
        let identity = Identity { principal: key.principal(), scope: key.scope.clone().map(Arc::new) };
        Ok(Found { secret: SecretKey::new(key.secret.expose().to_owned()), identity })
    }

    async fn bearer(&self, token: &str, peer: Option<&Principal>) -> Result<Identity, CredentialError> {
        let session = verify(&self.gateway.core, token)?;
        if belongs(&session.principal, peer) {
            Ok(identity(session))
        } else {
            Err(CredentialError::InvalidToken)
        }
    }
}
