//! A realm to attack, and the tools to forge with.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mooring_policy::ids::{Epoch, Generation};
use mooring_policy::keys::KeySet;
use mooring_policy::principal::Principal;
use mooring_policy::revoke::Revocations;
use mooring_policy::rng::SeededRandom;
use mooring_policy::time::Timestamp;
use mooring_policy::token::{
    PUBLIC_MESSAGE, Realm, Session, SessionRequest, TokenError, mint_session, verify_session,
};
use serde_json::{Value, json};

/// The moment of every attack, a whole second.
pub const NOW: u64 = 1_800_000_000;

/// A realm whose secret the test knows, so that it can sign whatever it likes.
pub struct Target {
    pub keys: KeySet,
    pub realm: Realm,
    pub revocations: Revocations,
    pair: Ed25519KeyPair,
}

pub fn target() -> Target {
    let keys = KeySet::generate(&SeededRandom::new(1), Timestamp::from_secs(NOW - 3600)).unwrap();
    // The stored form is a version byte and then the seed.
    let pair = Ed25519KeyPair::from_seed_unchecked(&keys.to_secret_bytes()[1..33]).unwrap();
    let realm = Realm { issuer: "realm-1".to_owned(), audience: "gateway-1".to_owned() };
    Target { keys, realm, revocations: Revocations::new(), pair }
}

impl Target {
    pub fn kid(&self) -> String {
        self.keys.current().to_string()
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The header of a genuine session token.
    pub fn header(&self) -> Value {
        json!({ "typ": "vm+jwt", "alg": "EdDSA", "kid": self.kid() })
    }

    /// A genuinely signed token with any header and any claims.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        self.signed_text(&header.to_string(), &claims.to_string())
    }

    /// The same from texts, which need not be JSON.
    pub fn signed_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    /// A token with the genuine header whose claims differ from genuine ones by `change`.
    pub fn with_claims(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.signed(&self.header(), &claims)
    }

    pub fn genuine(&self) -> String {
        let (token, _) = mint_session(
            &self.keys,
            &self.realm,
            SessionRequest { principal: vm(), epoch: Epoch(3), scope: None, holder: None },
            &SeededRandom::new(2),
            Timestamp::from_secs(NOW),
        )
        .unwrap();
        token
    }

    pub fn verify(&self, token: &str) -> Result<Session, TokenError> {
        self.verify_at(token, NOW * 1000)
    }

    pub fn verify_at(&self, token: &str, millis: u64) -> Result<Session, TokenError> {
        let now = Timestamp::from_millis(millis);
        verify_session(self.keys.public(), &self.realm, &self.revocations, token, now)
    }

    /// The reason a token is refused for; panics when it is not. The outside is told always the same.
    #[track_caller]
    pub fn refuses(&self, token: &str) -> TokenError {
        let error = self.verify(token).expect_err("a forged token was accepted");
        assert_eq!(error.public_message(), PUBLIC_MESSAGE);
        error
    }
}

/// Claims that are all right.
pub fn claims() -> Value {
    json!({
        "iss": "realm-1", "aud": "gateway-1", "sub": "tenant/acme/vm/web",
        "iat": NOW, "nbf": NOW, "exp": NOW + 600,
        "jti": "3f0e1a52-9c1b-4e5a-8f1d-2b7c90d1e6aa", "gen": 7, "epoch": 3,
    })
}

pub fn vm() -> Principal {
    Principal::Vm { tenant: "acme".parse().unwrap(), vm: "web".parse().unwrap(), generation: Generation(7) }
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Asserts that an expression is refused with a reason that matches a pattern.
#[macro_export]
macro_rules! assert_refused {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "refused for another reason: {error:?}");
    }};
}
