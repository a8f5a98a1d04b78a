//! Ids and names, each a type of its own, parsed once at the edge.
//!
//! Nothing inside the product handles a bare string or number that names something: a value of one of these
//! types has already passed its rule, and a tenant cannot be handed over where a bucket is wanted. Names share
//! their text (`Arc<str>`), so a clone is one counter.
//!
//! In serialised form names and grant ids are strings, the counted kinds are numbers.

mod numbers;

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::rng::Random;

pub use numbers::{Epoch, Generation, RequestId, TraceId, VolumeId};

/// Longest name of a tenant, VM, bucket or share, in bytes (the length of a DNS label).
pub const MAX_NAME_LEN: usize = 63;

/// Shortest name of a bucket or share, in bytes (the rule of S3).
pub const MIN_BUCKET_NAME_LEN: usize = 3;

/// Longest part of a refused text that an error repeats, in bytes.
const MAX_QUOTED_LEN: usize = 64;

/// A text that is not the id it should be. Says which kind was wanted, what was given, and the rule broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {given:?} is not valid: {rule}")]
pub struct IdError {
    kind: &'static str,
    given: String,
    rule: IdRule,
}

impl IdError {
    fn new(kind: &'static str, given: &str, rule: IdRule) -> Self {
        let mut end = given.len().min(MAX_QUOTED_LEN);
        while !given.is_char_boundary(end) {
            end -= 1;
        }
        Self { kind, given: given[..end].to_owned(), rule }
    }

    /// The rule that the text broke.
    pub fn rule(&self) -> IdRule {
        self.rule
    }
}

/// The rules an id can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdRule {
    /// Fewer bytes than the rule asks for.
    #[error("it must have at least {0} characters")]
    TooShort(usize),
    /// More bytes than the rule allows.
    #[error("it must have at most {0} characters")]
    TooLong(usize),
    /// A character that names do not have.
    #[error("only a-z, 0-9 and '-' are allowed")]
    Character,
    /// A hyphen at the beginning or the end.
    #[error("it must begin and end with a letter or digit")]
    Edge,
    /// `xn--`, which S3 keeps for internationalised host names.
    #[error("it must not begin with \"xn--\"")]
    Punycode,
    /// Not a version 4 UUID in its hyphenated lower-case form.
    #[error("it must be a version 4 UUID such as 3f0e1a52-9c1b-4e5a-8f1d-2b7c90d1e6aa")]
    Uuid,
    /// Not one to sixteen hexadecimal digits.
    #[error("it must be 1 to 16 hexadecimal digits")]
    Hex,
    /// Not a decimal number that fits 64 bits.
    #[error("it must be a decimal number below 2^64")]
    Decimal,
}

/// The label rule all names share: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, with a length of `min` to 63.
fn check_label(text: &str, min: usize) -> Result<(), IdRule> {
    let bytes = text.as_bytes();
    if bytes.len() < min {
        return Err(IdRule::TooShort(min));
    }
    if bytes.len() > MAX_NAME_LEN {
        return Err(IdRule::TooLong(MAX_NAME_LEN));
    }
    if !bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Err(IdRule::Character);
    }
    if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
        return Err(IdRule::Edge);
    }
    Ok(())
}

fn check_bucket(text: &str) -> Result<(), IdRule> {
    check_label(text, MIN_BUCKET_NAME_LEN)?;
    if text.starts_with("xn--") { Err(IdRule::Punycode) } else { Ok(()) }
}

/// Reads an id from a string in any format, without keeping the string.
struct TextVisitor<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = IdError>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} as a string", self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_serde {
    ($name:ident, $kind:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(std::marker::PhantomData, $kind))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), IdRule> = $check;
                match check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(rule) => Err(IdError::new($kind, text, rule)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        text_serde!($name, $kind);
    };
}

name_type!(
    /// A tenant: the owner of buckets, VMs and keys. `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    TenantId, "tenant", |text| check_label(text, 1)
);
name_type!(
    /// A virtual machine, named within its tenant. Same rule as [`TenantId`].
    VmId, "VM", |text| check_label(text, 1)
);
name_type!(
    /// A bucket, named within its tenant. S3's rule without dots: 3 to 63 of `a-z 0-9 -`, a letter or digit at
    /// both ends, not beginning with `xn--`. Dots are left out because they break virtual-host style over TLS.
    BucketName, "bucket", check_bucket
);
name_type!(
    /// A share as its grantee sees it: a virtual bucket, hence the rule of [`BucketName`].
    ShareName, "share", check_bucket
);

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id from sixteen random bytes (RFC 9562, section 5.4).
            pub fn random(random: &dyn Random) -> Self {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The sixteen bytes of the UUID.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self).map_err(|rule| IdError::new($kind, text, rule))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        text_serde!($name, $kind);
    };
}

/// One spelling per id: the parser of the library would also take braces, URNs, upper case and no hyphens.
fn parse_uuid(text: &str) -> Result<Uuid, IdRule> {
    if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(IdRule::Uuid);
    }
    let uuid = Uuid::try_parse(text).map_err(|_| IdRule::Uuid)?;
    let random = uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122;
    random.then_some(uuid).ok_or(IdRule::Uuid)
}

uuid_type!(
    /// One grant, forever: a random (version 4) UUID.
    GrantId, "grant"
);
uuid_type!(
    /// One issued session token, its `jti`: a random (version 4) UUID.
    TokenId, "token"
);

#[cfg(test)]
mod tests;
