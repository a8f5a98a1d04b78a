//! Signed statements: who somebody is for the next ten minutes, and what an owner has granted.
//!
//! Both are JSON Web Tokens (RFC 7519) in compact form, signed with Ed25519 (RFC 8037) by a key of the realm, and
//! told apart by their `typ`. The rules of RFC 8725 are taken in their narrowest reading:
//!
//! 1. The length is bounded before anything is looked at; there are exactly three parts of strict base64url.
//! 2. The header is parsed by us, and closed: `typ`, `alg`, `kid` and nothing else. So `jku`, `x5u`, `jwk`, `x5c`,
//!    `crit` and whatever comes next have nowhere to be. The one algorithm is the verifier's choice; `alg` only has
//!    to say the same. `kid` is looked up in a map in memory.
//! 3. Then the signature. Nothing of the claims is read before it holds.
//! 4. Claims are closed too: each has one JSON type, a required one has to be there, an unknown one is refused
//!    (we are the only issuer: an unknown claim might narrow what we would not narrow). No member twice.
//! 5. `iss` and `aud` are compared exactly, times with the clock handed in. A token is expired at its `exp` without
//!    leeway; `nbf` and `iat` may lie [`CLOCK_LEEWAY`] ahead, for gateways whose clocks differ.
//! 6. Last, what ends a session before its time: see [`crate::revoke`].
//!
//! The jsonwebtoken crate encodes, signs and checks signatures. Its `decode` is not used: it reads the clock itself,
//! takes unknown header members, and skips claims of the wrong type.

mod claims;
mod error;
mod json;
mod session;
mod statement;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Map, Value};

pub use error::{PUBLIC_MESSAGE, TokenError};
pub use session::{Session, SessionRequest, mint_session, verify_session};
pub use statement::{sign_grant, verify_grant};

use crate::keys::{KeySet, PublicKey, PublicKeys, Thumbprint};

/// How long a session token lives.
pub const SESSION_LIFE: Duration = Duration::from_secs(600);

/// How far the clocks of two gateways of a realm may be apart.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// Longest token, in bytes: what common HTTP servers take as one header.
pub const MAX_TOKEN_LEN: usize = 8192;

/// The `typ` of a session token.
pub const SESSION_TYPE: &str = "vm+jwt";

/// The `typ` of a grant statement.
pub const GRANT_TYPE: &str = "grant+jwt";

const ALGORITHM_NAME: &str = "EdDSA";

/// Who issues tokens and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// The `iss` of everything the realm signs.
    pub issuer: String,
    /// The `aud` of session tokens: who accepts them.
    pub audience: String,
}

/// Signs claims with the key in use.
fn sign(keys: &KeySet, typ: &str, claims: &Map<String, Value>) -> Result<String, TokenError> {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(typ.to_owned());
    header.kid = Some(keys.current().to_string());
    let token = jsonwebtoken::encode(&header, claims, keys.signing()).map_err(TokenError::Signing)?;
    if token.len() > MAX_TOKEN_LEN {
        return Err(TokenError::TooLong { len: token.len() });
    }
    Ok(token)
}

/// Checks everything but the claims: steps 1 to 3 of the module's text. Gives the claims and the key.
fn open<'k>(
    keys: &'k PublicKeys,
    typ: &'static str,
    token: &str,
) -> Result<(Map<String, Value>, &'k PublicKey), TokenError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(TokenError::TooLong { len: token.len() });
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::NotCompact)?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::NotCompact)?;
    if payload.contains('.') {
        return Err(TokenError::NotCompact);
    }
    let kid = check_header(&decode("header", header)?, typ)?;
    let key =
        Thumbprint::parse(&kid).and_then(|kid| keys.get(kid)).ok_or_else(|| TokenError::unknown_key(&kid))?;
    let payload = decode("payload", payload)?;
    // The library decodes the signature less strictly: it also takes one with stray bits at its end.
    decode("signature", signature)?;
    let verified =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding_key(), Algorithm::EdDSA);
    if !matches!(verified, Ok(true)) {
        return Err(TokenError::Signature);
    }
    Ok((json::object("payload", &payload)?, key))
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|source| TokenError::Base64 { part, source })
}

/// Checks a header against the closed list of members; gives the `kid`.
fn check_header(header: &[u8], typ: &'static str) -> Result<String, TokenError> {
    let mut members = json::object("header", header)?;
    let mut take = |name| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(TokenError::HeaderType(name)),
        None => Err(TokenError::MissingHeader(name)),
    };
    let algorithm = take("alg")?;
    let (found, kid) = (take("typ"), take("kid"));
    if algorithm != ALGORITHM_NAME {
        return Err(TokenError::algorithm(&algorithm));
    }
    if let Some(name) = members.keys().next() {
        return Err(TokenError::unknown_header(name));
    }
    let found = found?;
    if found != typ {
        return Err(TokenError::typ(typ, &found));
    }
    kid
}
