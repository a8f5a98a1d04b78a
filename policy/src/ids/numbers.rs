//! Ids that are counted rather than named: numbers inside, decimal or hexadecimal as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{IdError, IdRule};

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, hex) => {
        number_type!(@type $(#[$doc])* $name, $kind, "{:016x}", |text: &str| {
            // The parser of the standard library would also take a leading '+'.
            let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or(IdRule::Hex)
        });
    };
    ($(#[$doc:meta])* $name:ident, $kind:literal, decimal) => {
        number_type!(@type $(#[$doc])* $name, $kind, "{}", |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(IdRule::Decimal)
        });
    };
    (@type $(#[$doc:meta])* $name:ident, $kind:literal, $format:literal, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number after this one, or `None` when there is none.
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(next) => Some(Self(next)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let parse: fn(&str) -> Result<u64, IdRule> = $parse;
                parse(text).map(Self).map_err(|rule| IdError::new($kind, text, rule))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }
    };
}

number_type!(
    /// A volume: allocated by the registry, counted up, never used again. Sixteen hexadecimal digits as text.
    VolumeId, "volume", hex
);
number_type!(
    /// One boot of a VM. Raised at every start, restore or clone; what an older one was given is refused.
    Generation, "generation", decimal
);
number_type!(
    /// A counter that only rises and makes what was issued under an older value worthless: of a tenant's
    /// keys, a share's boundary, a volume's home.
    Epoch, "epoch", decimal
);
number_type!(
    /// One request of a session, unique within it.
    RequestId, "request", hex
);
number_type!(
    /// One operation of a user, followed through agent, gateway and store.
    TraceId, "trace", hex
);
