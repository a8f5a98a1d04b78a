//! What the volume's extents come to: `a`, one row. Changed in the commits that change extents, so it is exact.
//!
//! A volume without the row (made by an older program, or rebuilt) has it counted anew when it is opened.

use super::{KeyWriter, RowError, pack_value, unpack_value};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const FAMILY: u8 = b'a';
const WHAT: &str = "account";

/// Sums over extents and the map rows that name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Bytes that rows of maps show from extents, each row counted: what files would take if every one had its own.
    pub referenced: u64,
    /// Bytes of extents before compression, each extent counted once.
    pub raw: u64,
    /// Bytes of extents as stored, head and tag included: the live bytes of all packs.
    pub stored: u64,
    /// How many extents.
    pub extents: u64,
}

/// Its row.
#[must_use]
pub fn key() -> Vec<u8> {
    KeyWriter::new(FAMILY).done()
}

/// The value.
#[must_use]
pub fn encode(account: &Account) -> Bytes {
    pack_value(account)
}

/// The sums in a value.
pub fn decode(value: &[u8]) -> Result<Account, RowError> {
    unpack_value(WHAT, value)
}
