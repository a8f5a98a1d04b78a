//! Grant statements: a grant, signed by the realm on behalf of its owner.

use serde_json::{Map, Value};

use super::claims::{Claims, write_time};
use super::{GRANT_TYPE, Realm, TokenError, open, sign};
use crate::grant::Grant;
use crate::keys::{KeySet, PublicKeys};
use crate::resource::Prefix;

/// Signs a grant. What is signed is the grant to the millisecond, and nothing else.
///
/// # Errors
/// [`TokenError::Grant`] for a grant that makes no sense by itself, [`TokenError::ClaimValue`] for a moment after
/// the year 9999, [`TokenError::TooLong`], [`TokenError::Signing`].
pub fn sign_grant(keys: &KeySet, realm: &Realm, grant: &Grant) -> Result<String, TokenError> {
    grant.validate()?;
    sign(keys, GRANT_TYPE, &write(realm, grant)?)
}

/// Verifies a grant statement of this realm: that the realm signed exactly this grant.
///
/// Whether it is in force is another question, which [`crate::index::GrantIndex`] answers: statements also of
/// grants that have ended or not begun are genuine. Any key of the map will do, however old.
///
/// # Errors
/// [`TokenError`] says for the log what is wrong.
pub fn verify_grant(keys: &PublicKeys, realm: &Realm, token: &str) -> Result<Grant, TokenError> {
    let (members, _) = open(keys, GRANT_TYPE, token)?;
    let grant = read(realm, Claims::new(members))?;
    grant.validate()?;
    Ok(grant)
}

fn write(realm: &Realm, grant: &Grant) -> Result<Map<String, Value>, TokenError> {
    let prefix = serde_json::to_value(&grant.prefix).map_err(|source| TokenError::value("prefix", source))?;
    let actions =
        serde_json::to_value(grant.actions).map_err(|source| TokenError::value("actions", source))?;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", realm.issuer.clone().into());
    put("jti", grant.id.to_string().into());
    put("owner", grant.owner.to_string().into());
    put("grantee", grant.grantee.to_string().into());
    put("bucket", grant.bucket.to_string().into());
    put("prefix", prefix);
    put("actions", actions);
    put("nbf", write_time("nbf", grant.not_before)?);
    if let Some(until) = grant.until {
        put("exp", write_time("exp", until)?);
    }
    put("depth", grant.depth.into());
    if let Some(parent) = grant.parent {
        put("parent", parent.to_string().into());
    }
    put("name", grant.name.to_string().into());
    if !grant.note.is_empty() {
        put("note", grant.note.clone().into());
    }
    Ok(claims)
}

fn read(realm: &Realm, mut claims: Claims) -> Result<Grant, TokenError> {
    let issuer = claims.text("iss")?;
    let depth = claims.number("depth")?;
    let parent = claims.optional_text("parent")?;
    let grant = Grant {
        id: claims.id("jti")?,
        owner: claims.id("owner")?,
        grantee: claims.id("grantee")?,
        bucket: claims.id("bucket")?,
        prefix: read_prefix(claims.text("prefix")?)?,
        actions: match claims.optional_value("actions") {
            None => return Err(TokenError::MissingClaim("actions")),
            Some(list @ Value::Array(_)) => {
                serde_json::from_value(list).map_err(|source| TokenError::value("actions", source))?
            }
            Some(_) => return Err(TokenError::ClaimType { claim: "actions", expected: "a list" }),
        },
        not_before: claims.time("nbf")?,
        until: claims.optional_time("exp")?,
        depth: u8::try_from(depth).map_err(|source| TokenError::value("depth", source))?,
        parent: parent.map(|id| id.parse().map_err(TokenError::id("parent"))).transpose()?,
        name: claims.id("name")?,
        note: claims.optional_text("note")?.unwrap_or_default(),
    };
    claims.finish()?;
    if issuer != realm.issuer {
        return Err(TokenError::issuer(&issuer));
    }
    Ok(grant)
}

fn read_prefix(text: String) -> Result<Prefix, TokenError> {
    serde_json::from_value(Value::String(text)).map_err(|source| TokenError::value("prefix", source))
}
