//! What is asked for: a bucket, or a key in it; and prefixes, which cover keys.
//!
//! A prefix covers whole path components, compared byte by byte: `photos/2026` covers `photos/2026` and
//! `photos/2026/a.jpg` and never `photos/2026-private`. No normalisation takes place anywhere: the bytes judged
//! are the bytes the store uses. Because a resolver of paths might still walk upwards on `..`, a key with a
//! component `.` or `..` lies under no prefix but the whole bucket.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{BucketName, TenantId};

/// Longest prefix or key, in bytes (the limit of S3).
pub const MAX_KEY_LEN: usize = 1024;

/// Longest path component, in bytes (`NAME_MAX` of Linux).
pub const MAX_COMPONENT_LEN: usize = 255;

/// A text or byte string that is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// More bytes than a key can have.
    #[error("a prefix has at most {MAX_KEY_LEN} bytes")]
    TooLong,
    /// A component longer than a file name can be.
    #[error("a path component has at most {MAX_COMPONENT_LEN} bytes")]
    ComponentTooLong,
    /// A slash at the beginning, or two in a row.
    #[error("a prefix has no empty path component: leave out the slash at the beginning and doubled slashes")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("a prefix has no path component '.' or '..'")]
    DotComponent,
    /// A NUL byte.
    #[error("a prefix has no NUL byte")]
    Nul,
    /// A `%` in serialised form that does not introduce two hexadecimal digits.
    #[error("in a serialised prefix '%' is followed by two hexadecimal digits (a '%' itself is written %25)")]
    Escape,
}

/// A directory (or one object) of a bucket with all that lies below. Empty: the whole bucket.
///
/// Held without the slash at the end. As text for people it is shown with one, bytes that are no UTF-8 replaced.
/// Serialised it is a string in which `%`, control characters and bytes that are no UTF-8 are percent-encoded,
/// so that every prefix has exactly one serialised form.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Prefix(Bytes);

impl Prefix {
    /// The prefix that covers a whole bucket.
    pub const WHOLE_BUCKET: Self = Self(Bytes::new());

    /// Takes a prefix from bytes, with or without the slash at the end.
    ///
    /// # Errors
    /// [`PrefixError`] names the rule that was broken.
    pub fn new(bytes: &[u8]) -> Result<Self, PrefixError> {
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(Self::WHOLE_BUCKET);
        }
        if bytes.len() > MAX_KEY_LEN {
            return Err(PrefixError::TooLong);
        }
        components(bytes).try_for_each(check_component)?;
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// The bytes, without a slash at the end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the whole bucket.
    pub fn is_whole_bucket(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` is this directory or object, or lies below.
    pub fn covers(&self, key: &[u8]) -> bool {
        if self.0.is_empty() {
            return true;
        }
        match key.strip_prefix(self.as_bytes()) {
            Some(rest) => rest.is_empty() || (rest[0] == b'/' && !has_dot_component(rest)),
            None => false,
        }
    }

    /// Whether everything that `other` covers is covered by this one.
    pub fn contains(&self, other: &Self) -> bool {
        self.covers(other.as_bytes())
    }

    /// The bucket's key for a key relative to this prefix: what a share's grantee calls `a.jpg`, the bucket
    /// calls `photos/2026/a.jpg`. The key is taken as it is; whether it is covered says [`Self::covers`].
    pub fn join(&self, key: &[u8]) -> Bytes {
        if self.0.is_empty() {
            return Bytes::copy_from_slice(key);
        }
        if key.is_empty() {
            return self.0.clone();
        }
        let mut joined = Vec::with_capacity(self.0.len() + 1 + key.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(key);
        joined.into()
    }

    /// The inverse of [`Self::join`]: the key relative to this prefix, or `None` when it is not covered.
    /// The prefix itself gives the empty key.
    pub fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        if !self.covers(key) {
            return None;
        }
        let rest = &key[self.0.len()..];
        Some(if self.0.is_empty() { rest } else { rest.strip_prefix(b"/").unwrap_or(rest) })
    }

    /// The prefix that has `below` under this one.
    ///
    /// # Errors
    /// [`PrefixError::TooLong`] when the two together are.
    pub fn child(&self, below: &Self) -> Result<Self, PrefixError> {
        Self::new(&self.join(below.as_bytes()))
    }
}

/// The components of a key; the empty key has one, which is empty.
pub(crate) fn components(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == b'/')
}

fn has_dot_component(key: &[u8]) -> bool {
    components(key).any(|component| component == b"." || component == b"..")
}

fn check_component(component: &[u8]) -> Result<(), PrefixError> {
    match component {
        b"" => Err(PrefixError::EmptyComponent),
        b"." | b".." => Err(PrefixError::DotComponent),
        long if long.len() > MAX_COMPONENT_LEN => Err(PrefixError::ComponentTooLong),
        bytes if bytes.contains(&0) => Err(PrefixError::Nul),
        _ => Ok(()),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "{}/", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix(\"{}\")", self.0.escape_ascii())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Takes the text as it is, byte for byte: nothing is unescaped.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::new(text.as_bytes())
    }
}

impl TryFrom<&str> for Prefix {
    type Error = PrefixError;

    fn try_from(text: &str) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl TryFrom<&[u8]> for Prefix {
    type Error = PrefixError;

    fn try_from(bytes: &[u8]) -> Result<Self, PrefixError> {
        Self::new(bytes)
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 1);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_ascii_control() {
                text.push_str(&format!("%{:02X}", u32::from(character)));
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn unescape(text: &str) -> Result<Vec<u8>, PrefixError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(PrefixError::Escape),
        }
    }
    Ok(bytes)
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = escape(&self.0);
        if !text.is_empty() {
            text.push('/');
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a prefix as a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                unescape(text).and_then(|bytes| Prefix::new(&bytes)).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A bucket, or a key in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The tenant that owns the bucket.
    pub owner: TenantId,
    /// The bucket.
    pub bucket: BucketName,
    /// The key in the bucket, as the store has it; `None` for the bucket itself (its root directory).
    pub key: Option<Bytes>,
}

impl Resource {
    /// The bucket itself.
    pub fn bucket(owner: TenantId, bucket: BucketName) -> Self {
        Self { owner, bucket, key: None }
    }

    /// A key in the bucket.
    pub fn object(owner: TenantId, bucket: BucketName, key: impl Into<Bytes>) -> Self {
        Self { owner, bucket, key: Some(key.into()) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.bucket)?;
        match &self.key {
            Some(key) => write!(f, "/{}", key.escape_ascii()),
            None => Ok(()),
        }
    }
}

/// A [`Resource`] by reference, for callers who ask often and own nothing.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The tenant that owns the bucket.
    pub owner: &'a TenantId,
    /// The bucket.
    pub bucket: &'a BucketName,
    /// The key in the bucket; empty for the bucket itself.
    pub key: &'a [u8],
}

impl<'a> From<&'a Resource> for Target<'a> {
    fn from(resource: &'a Resource) -> Self {
        let key = resource.key.as_deref().unwrap_or_default();
        Self { owner: &resource.owner, bucket: &resource.bucket, key }
    }
}

#[cfg(test)]
mod tests;
