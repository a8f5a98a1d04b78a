//! The keys of a realm: one Ed25519 key that signs, and the public halves of those that did.
//!
//! A key id is the RFC 7638 thumbprint of the public key, and looking one up is looking into a map in memory: a
//! token can name a key of the map and nothing else. Rotation makes a new signing key and destroys the secret
//! half of the old one at once. The public half stays: for session tokens as long as one signed with it can
//! live, for grant statements, which live long, until it is dropped.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use zeroize::Zeroizing;

use crate::rng::Random;
use crate::time::Timestamp;
use crate::token::{CLOCK_LEEWAY, SESSION_LIFE};

/// Most keys a set holds, the signing one included.
pub const MAX_KEYS: usize = 256;

const SEED_LEN: usize = 32;
const PUBLIC_LEN: usize = 32;

/// Everything of a PKCS #8 (RFC 8410) Ed25519 private key before its 32 bytes of seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What is wrong with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Bytes that are no stored key set.
    #[error("the stored keys are damaged or of an unknown version")]
    Damaged,
    /// A seed that makes no key, or bytes that are no public key.
    #[error("not an Ed25519 key")]
    NotAKey,
    /// The set holds [`MAX_KEYS`].
    #[error("the realm holds {MAX_KEYS} keys: sign grants again and drop the oldest before rotating")]
    Full,
    /// The signing key cannot be dropped.
    #[error("the key in use cannot be dropped: rotate first")]
    InUse,
}

/// The RFC 7638 thumbprint (SHA-256) of an Ed25519 public key: a `kid`, or the `jkt` a token is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of a public key of 32 bytes (RFC 8032).
    pub fn of(public: &[u8; PUBLIC_LEN]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, jwk.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads the 43 characters of `Display`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// A public key and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    /// The 32 bytes of RFC 8032.
    pub bytes: [u8; PUBLIC_LEN],
    /// When it was made.
    pub created: Timestamp,
    /// When it was replaced; `None` for the key that signs.
    pub retired: Option<Timestamp>,
}

impl PublicKey {
    /// Whether a session token signed with it can still be alive.
    pub(crate) fn verifies_sessions(&self, now: Timestamp) -> bool {
        let last = |retired: Timestamp| retired.saturating_add(SESSION_LIFE).saturating_add(CLOCK_LEEWAY);
        self.retired.is_none_or(|retired| now < last(retired))
    }

    pub(crate) fn decoding_key(&self) -> DecodingKey {
        // The name is the library's; for Ed25519 it takes the bare bytes.
        DecodingKey::from_ed_der(&self.bytes)
    }
}

/// The closed map of keys a verifier trusts.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(BTreeMap<Thumbprint, PublicKey>);

impl PublicKeys {
    /// The key with this id.
    pub fn get(&self, kid: Thumbprint) -> Option<&PublicKey> {
        self.0.get(&kid)
    }

    /// All keys with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Thumbprint, &PublicKey)> {
        self.0.iter().map(|(kid, key)| (*kid, key))
    }

    /// The keys as a JSON Web Key Set (RFC 7517, RFC 8037), for those who verify grant statements elsewhere.
    pub fn to_jwks(&self) -> serde_json::Value {
        let keys = self.iter().map(|(kid, key)| {
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                "kid": kid.to_string(), "x": URL_SAFE_NO_PAD.encode(key.bytes),
            })
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

/// The keys of a realm, the secret of the signing one included.
pub struct KeySet {
    seed: Zeroizing<[u8; SEED_LEN]>,
    signing: EncodingKey,
    current: Thumbprint,
    public: PublicKeys,
}

/// Shows which keys there are and nothing of the secret.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("current", &self.current).field("keys", &self.public.0.len()).finish()
    }
}

impl KeySet {
    /// A set with one new key.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`] when the library makes no key of the random seed.
    pub fn generate(random: &dyn Random, now: Timestamp) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        random.fill(&mut *seed);
        let bytes = public_of(&seed)?;
        let current = Thumbprint::of(&bytes);
        let key = PublicKey { bytes, created: now, retired: None };
        let public = PublicKeys(BTreeMap::from([(current, key)]));
        Ok(Self { signing: encoding_key(&seed), seed, current, public })
    }

    /// Makes a new signing key. The old one's secret is destroyed, its public half goes on verifying what it
    /// signed.
    ///
    /// # Errors
    /// [`KeyError::Full`] when the set holds [`MAX_KEYS`]; the set is then unchanged.
    pub fn rotate(&mut self, random: &dyn Random, now: Timestamp) -> Result<(), KeyError> {
        if self.public.0.len() >= MAX_KEYS {
            return Err(KeyError::Full);
        }
        let mut next = Self::generate(random, now)?;
        if let Some(old) = self.public.0.get_mut(&self.current) {
            old.retired = Some(now);
        }
        next.public.0.append(&mut self.public.0);
        *self = next;
        Ok(())
    }

    /// Stops trusting a retired key altogether: for one that leaked, or that signed nothing still wanted.
    /// Whether it was there.
    ///
    /// # Errors
    /// [`KeyError::InUse`] for the signing key.
    pub fn forget(&mut self, kid: Thumbprint) -> Result<bool, KeyError> {
        if kid == self.current {
            return Err(KeyError::InUse);
        }
        Ok(self.public.0.remove(&kid).is_some())
    }

    /// The id of the signing key.
    pub fn current(&self) -> Thumbprint {
        self.current
    }

    /// The public halves, for whoever only verifies.
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }

    pub(crate) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// The set as bytes, secret included: seal them before they are stored.
    ///
    /// Version 1: `1`, seed of the signing key (32), then for each key its public bytes (32), the moment it was
    /// made and that it was retired (8 each, little-endian milliseconds, all ones for never).
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Sized at once: a vector that grows leaves copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + SEED_LEN + self.public.0.len() * RECORD_LEN));
        bytes.push(1);
        bytes.extend_from_slice(&*self.seed);
        for key in self.public.0.values() {
            bytes.extend_from_slice(&key.bytes);
            bytes.extend_from_slice(&key.created.as_millis().to_le_bytes());
            bytes.extend_from_slice(&key.retired.map_or(u64::MAX, Timestamp::as_millis).to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// [`KeyError::Damaged`] for bytes that are no key set.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.strip_prefix(&[1]).ok_or(KeyError::Damaged)?;
        let (seed, records) = bytes.split_first_chunk::<SEED_LEN>().ok_or(KeyError::Damaged)?;
        let seed = Zeroizing::new(*seed);
        let current = Thumbprint::of(&public_of(&seed)?);
        let (records, rest) = records.as_chunks::<RECORD_LEN>();
        let keys: BTreeMap<_, _> = records.iter().map(read_record).collect();
        let one_signs = keys.iter().all(|(kid, key)| key.retired.is_none() == (*kid == current));
        let whole = rest.is_empty() && keys.len() == records.len() && keys.len() <= MAX_KEYS;
        if !whole || !one_signs || !keys.contains_key(&current) {
            return Err(KeyError::Damaged);
        }
        Ok(Self { signing: encoding_key(&seed), seed, current, public: PublicKeys(keys) })
    }
}

const RECORD_LEN: usize = PUBLIC_LEN + 8 + 8;

fn read_record(record: &[u8; RECORD_LEN]) -> (Thumbprint, PublicKey) {
    let mut bytes = [0; PUBLIC_LEN];
    let (mut created, mut retired) = ([0; 8], [0; 8]);
    bytes.copy_from_slice(&record[..PUBLIC_LEN]);
    created.copy_from_slice(&record[PUBLIC_LEN..PUBLIC_LEN + 8]);
    retired.copy_from_slice(&record[PUBLIC_LEN + 8..]);
    let retired = Some(u64::from_le_bytes(retired)).filter(|millis| *millis != u64::MAX);
    let key = PublicKey {
        bytes,
        created: Timestamp::from_millis(u64::from_le_bytes(created)),
        retired: retired.map(Timestamp::from_millis),
    };
    (Thumbprint::of(&bytes), key)
}

fn public_of(seed: &[u8; SEED_LEN]) -> Result<[u8; PUBLIC_LEN], KeyError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotAKey)?;
    pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotAKey)
}

fn encoding_key(seed: &[u8; SEED_LEN]) -> EncodingKey {
    let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + SEED_LEN]);
    der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
    der[PKCS8_PREFIX.len()..].copy_from_slice(seed);
    EncodingKey::from_ed_der(&*der)
}

#[cfg(test)]
mod tests;
