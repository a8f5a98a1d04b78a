//! Why a token is refused: precise for the log, one sentence for the outside.

use crate::ids::IdError;
use crate::time::Timestamp;

/// What the outside is told, whatever is wrong: a precise answer would be a manual for forging.
pub const PUBLIC_MESSAGE: &str = "the token is not valid";

/// Longest part of a stranger's text that an error repeats, in characters.
const MAX_QUOTED: usize = 48;

/// Why a token is refused, for the log. The outside is told [`PUBLIC_MESSAGE`].
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`super::MAX_TOKEN_LEN`].
    #[error("the token has {len} bytes, at most {max} are allowed", max = super::MAX_TOKEN_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Not three parts with dots between them.
    #[error("the token is not in compact form: three parts with dots between them")]
    NotCompact,
    /// A part that is not base64url without padding, in its one canonical form.
    #[error("the {part} is not canonical base64url")]
    Base64 {
        /// Which part.
        part: &'static str,
        /// What the decoder says.
        source: base64::DecodeError,
    },
    /// A part that is not a JSON object.
    #[error("the {part} is not a JSON object")]
    Json {
        /// Which part.
        part: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A member that appears twice in one object.
    #[error("the {part} has the member {name:?} twice")]
    DuplicateMember {
        /// Which part.
        part: &'static str,
        /// The name, shortened.
        name: String,
    },
    /// A header member other than `typ`, `alg` and `kid`.
    #[error("the header has the member {0:?}, which is not accepted")]
    UnknownHeader(String),
    /// A header member that has to be there.
    #[error("the header lacks {0:?}")]
    MissingHeader(&'static str),
    /// A header member that is not a string.
    #[error("the header member {0:?} is not a string")]
    HeaderType(&'static str),
    /// An `alg` other than EdDSA.
    #[error("the algorithm {0:?} is not accepted: only EdDSA is")]
    Algorithm(String),
    /// A `typ` other than the one wanted here.
    #[error("the type is {found:?} where {expected:?} is wanted")]
    Type {
        /// The type wanted.
        expected: &'static str,
        /// The type found, shortened.
        found: String,
    },
    /// A `kid` that is not in the map.
    #[error("the key {0:?} is not known")]
    UnknownKey(String),
    /// A key that was retired longer ago than a session lives.
    #[error("the key was retired at {0}, no session signed with it can be alive")]
    RetiredKey(Timestamp),
    /// A signature that does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// A claim that has to be there.
    #[error("the claim {0:?} is missing")]
    MissingClaim(&'static str),
    /// A claim of the wrong JSON type.
    #[error("the claim {claim:?} is not {expected}")]
    ClaimType {
        /// Which claim.
        claim: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A claim that is not known for this type of token, or not for this subject.
    #[error("the claim {0:?} is not accepted here")]
    UnknownClaim(String),
    /// A claim with a value that breaks its own rule.
    #[error("the claim {claim:?} is not valid")]
    ClaimValue {
        /// Which claim.
        claim: &'static str,
        /// The rule.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another issuer.
    #[error("the token was issued by {0:?}")]
    Issuer(String),
    /// Another audience.
    #[error("the token is for {0:?}")]
    Audience(String),
    /// Its `exp` is reached.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// Its `nbf` or `iat` is further ahead than clocks differ.
    #[error("the token is not valid before {0}")]
    NotYetValid(Timestamp),
    /// Its times contradict each other, or it lives longer than tokens do.
    #[error("the token's times are not those of a session: iat <= nbf < exp <= iat + 10 minutes")]
    Life,
    /// A genuine session that was ended before its time.
    #[error("the session was ended")]
    Revoked(#[from] crate::revoke::Revoked),
    /// The claims make no grant.
    #[error("the claims make no grant")]
    Grant(#[from] crate::grant::GrantError),
    /// The library refused to sign.
    #[error("signing failed")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

impl TokenError {
    pub(super) fn unknown_key(kid: &str) -> Self {
        Self::UnknownKey(shorten(kid))
    }

    pub(super) fn algorithm(name: &str) -> Self {
        Self::Algorithm(shorten(name))
    }

    pub(super) fn unknown_header(name: &str) -> Self {
        Self::UnknownHeader(shorten(name))
    }

    pub(super) fn unknown_claim(name: &str) -> Self {
        Self::UnknownClaim(shorten(name))
    }

    pub(super) fn duplicate(part: &'static str, name: &str) -> Self {
        Self::DuplicateMember { part, name: shorten(name) }
    }

    pub(super) fn typ(expected: &'static str, found: &str) -> Self {
        Self::Type { expected, found: shorten(found) }
    }

    pub(super) fn issuer(found: &str) -> Self {
        Self::Issuer(shorten(found))
    }

    pub(super) fn audience(found: &str) -> Self {
        Self::Audience(shorten(found))
    }

    pub(super) fn value(
        claim: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::ClaimValue { claim, source: source.into() }
    }

    pub(super) fn id(claim: &'static str) -> impl FnOnce(IdError) -> Self {
        move |source| Self::value(claim, source)
    }

    /// What the outside is told.
    pub fn public_message(&self) -> &'static str {
        PUBLIC_MESSAGE
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
