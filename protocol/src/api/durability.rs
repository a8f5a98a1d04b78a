//! Classes of durability.

use serde::{Deserialize, Serialize};

/// When a reply says durable, where tenants' data lives in an object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When it is in the store.
    #[default]
    Store,
    /// When it is on this host's disk; it goes to the store behind that.
    Host,
}

impl std::str::FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Durability, String> {
        match text {
            "store" => Ok(Durability::Store),
            "host" => Ok(Durability::Host),
            _ => Err(format!("`{text}` is neither `store` nor `host`")),
        }
    }
}
