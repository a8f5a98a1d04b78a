//! Session tokens: who somebody is, for ten minutes.

use serde_json::{Map, Value, json};

use super::claims::{Claims, write_time};
use super::{CLOCK_LEEWAY, Realm, SESSION_LIFE, SESSION_TYPE, TokenError, open, sign};
use crate::ids::{Epoch, Generation, TokenId};
use crate::keys::{KeySet, PublicKeys, Thumbprint};
use crate::principal::Principal;
use crate::revoke::Revocations;
use crate::rng::Random;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Longest id of an access key in a subject, in bytes.
const MAX_KEY_ID_LEN: usize = 128;

/// Whom a session token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// Who it is.
    pub principal: Principal,
    /// The key epoch of its tenant (of the realm, for the operator).
    pub epoch: Epoch,
    /// What it is narrowed to; `None`: all that its rights allow.
    pub scope: Option<Scope>,
    /// The key whose holder alone may use it (`cnf.jkt`, RFC 9449).
    pub holder: Option<Thumbprint>,
}

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its own id.
    pub id: TokenId,
    /// Who it is.
    pub principal: Principal,
    /// The key epoch of its tenant (of the realm, for the operator).
    pub epoch: Epoch,
    /// When it was issued.
    pub issued: Timestamp,
    /// The first moment it is valid.
    pub not_before: Timestamp,
    /// The first moment it is no longer.
    pub expires: Timestamp,
    /// What it is narrowed to; `None`: all that the principal's rights allow.
    pub scope: Option<Scope>,
    /// The key whose holder alone may use it.
    pub holder: Option<Thumbprint>,
}

/// Issues a session token that lives for [`SESSION_LIFE`] from the present second.
///
/// # Errors
/// [`TokenError::TooLong`] when a scope makes it so, [`TokenError::Signing`] when the library fails.
pub fn mint_session(
    keys: &KeySet,
    realm: &Realm,
    request: SessionRequest,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(String, Session), TokenError> {
    let issued = Timestamp::from_secs(now.as_secs());
    let session = Session {
        id: TokenId::random(random),
        principal: request.principal,
        epoch: request.epoch,
        issued,
        not_before: issued,
        expires: issued.saturating_add(SESSION_LIFE),
        scope: request.scope,
        holder: request.holder,
    };
    let token = sign(keys, SESSION_TYPE, &write(realm, &session)?)?;
    Ok((token, session))
}

/// Verifies a session token for this realm at `now`, and that nothing ended it before its time.
///
/// Revocations are an argument so that no caller forgets them. An answer that is kept has to be asked again about
/// them ([`Revocations::check`]) and about its end whenever it is used.
///
/// # Errors
/// [`TokenError`] says for the log what is wrong.
pub fn verify_session(
    keys: &PublicKeys,
    realm: &Realm,
    revocations: &Revocations,
    token: &str,
    now: Timestamp,
) -> Result<Session, TokenError> {
    let (members, key) = open(keys, SESSION_TYPE, token)?;
    if let Some(retired) = key.retired.filter(|_| !key.verifies_sessions(now)) {
        return Err(TokenError::RetiredKey(retired));
    }
    let session = read(realm, Claims::new(members))?;
    check_times(&session, now)?;
    revocations.check(&session)?;
    Ok(session)
}

fn check_times(session: &Session, now: Timestamp) -> Result<(), TokenError> {
    let ordered = session.issued <= session.not_before && session.not_before < session.expires;
    if !ordered || session.expires > session.issued.saturating_add(SESSION_LIFE) {
        return Err(TokenError::Life);
    }
    if now >= session.expires {
        return Err(TokenError::Expired(session.expires));
    }
    // `iat` is not after `nbf`, so this covers both.
    if now.saturating_add(CLOCK_LEEWAY) < session.not_before {
        return Err(TokenError::NotYetValid(session.not_before));
    }
    Ok(())
}

fn write(realm: &Realm, session: &Session) -> Result<Map<String, Value>, TokenError> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", realm.issuer.clone().into());
    put("aud", realm.audience.clone().into());
    put("sub", session.principal.to_string().into());
    put("iat", write_time("iat", session.issued)?);
    put("nbf", write_time("nbf", session.not_before)?);
    put("exp", write_time("exp", session.expires)?);
    put("jti", session.id.to_string().into());
    put("epoch", session.epoch.get().into());
    if let Principal::Vm { generation, .. } = &session.principal {
        put("gen", generation.get().into());
    }
    if let Some(scope) = &session.scope {
        put("scope", serde_json::to_value(scope).map_err(|source| TokenError::value("scope", source))?);
    }
    if let Some(holder) = session.holder {
        put("cnf", json!({ "jkt": holder.to_string() }));
    }
    Ok(claims)
}

fn read(realm: &Realm, mut claims: Claims) -> Result<Session, TokenError> {
    let issuer = claims.text("iss")?;
    let audience = claims.text("aud")?;
    let subject = claims.text("sub")?;
    let generation = claims.optional_number("gen")?.map(Generation);
    let session = Session {
        id: claims.id("jti")?,
        principal: read_subject(&subject, generation)?,
        epoch: Epoch(claims.number("epoch")?),
        issued: claims.time("iat")?,
        not_before: claims.time("nbf")?,
        expires: claims.time("exp")?,
        scope: claims.optional_value("scope").map(read_scope).transpose()?,
        holder: claims.optional_value("cnf").map(read_holder).transpose()?,
    };
    claims.finish()?;
    if issuer != realm.issuer {
        return Err(TokenError::issuer(&issuer));
    }
    if audience != realm.audience {
        return Err(TokenError::audience(&audience));
    }
    Ok(session)
}

/// Reads `tenant/T`, `tenant/T/vm/V`, `tenant/T/key/K` or `admin`. A VM has a generation and nothing else has.
fn read_subject(subject: &str, generation: Option<Generation>) -> Result<Principal, TokenError> {
    let id = TokenError::id("sub");
    let parts: Vec<&str> = subject.splitn(5, '/').collect();
    let principal = match (parts.as_slice(), generation) {
        (["tenant", tenant, "vm", vm], Some(generation)) => {
            let tenant = tenant.parse().map_err(id)?;
            return Ok(Principal::Vm { tenant, vm: vm.parse().map_err(TokenError::id("sub"))?, generation });
        }
        (["tenant", _, "vm", _], None) => return Err(TokenError::MissingClaim("gen")),
        (["tenant", tenant], _) => Principal::Tenant { tenant: tenant.parse().map_err(id)? },
        (["tenant", tenant, "key", key], _) if is_key_id(key) => {
            Principal::External { tenant: tenant.parse().map_err(id)?, key: (*key).to_owned() }
        }
        (["admin"], _) => Principal::Admin,
        _ => return Err(TokenError::value("sub", "it names no tenant, VM, key or operator")),
    };
    match generation {
        None => Ok(principal),
        Some(_) => Err(TokenError::unknown_claim("gen")),
    }
}

fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn read_scope(value: Value) -> Result<Scope, TokenError> {
    if !value.is_array() {
        return Err(TokenError::ClaimType { claim: "scope", expected: "a list" });
    }
    serde_json::from_value(value).map_err(|source| TokenError::value("scope", source))
}

fn read_holder(value: Value) -> Result<Thumbprint, TokenError> {
    let Value::Object(mut members) = value else {
        return Err(TokenError::ClaimType { claim: "cnf", expected: "an object" });
    };
    let thumbprint = match members.remove("jkt") {
        Some(Value::String(text)) if members.is_empty() => Thumbprint::parse(&text),
        _ => None,
    };
    thumbprint
        .ok_or_else(|| TokenError::value("cnf", "it holds exactly one member jkt, the thumbprint of a key"))
}
