//! The master keys at hand. Commonly one; two while one takes the place of another.

use super::{MasterKey, SealError};
use std::sync::Arc;

/// Master keys with the places they came from, and the places where none was found: so that an error can say where was
/// looked for the one that is needed.
#[derive(Clone, Debug, Default)]
pub struct MasterKeys {
    found: Vec<(Arc<MasterKey>, String)>,
    missed: Vec<String>,
}

impl From<MasterKey> for MasterKeys {
    fn from(key: MasterKey) -> Self {
        let mut keys = Self::default();
        keys.found(key, "the caller");
        keys
    }
}

impl MasterKeys {
    /// Adds a key; `origin` names its place in messages. The first one wraps what a new installation makes.
    pub fn found(&mut self, key: MasterKey, origin: impl Into<String>) {
        self.found.push((Arc::new(key), origin.into()));
    }

    /// Notes that a place had no usable key.
    pub fn missed(&mut self, why: impl Into<String>) {
        self.missed.push(why.into());
    }

    /// The key with this fingerprint.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<MasterKey>> {
        self.found.iter().find(|(key, _)| key.fingerprint() == id).map(|(key, _)| Arc::clone(key))
    }

    /// The first key that was found: it wraps what a new installation makes.
    pub(crate) fn first(&self) -> Result<Arc<MasterKey>, SealError> {
        let first = self.found.first().map(|(key, _)| Arc::clone(key));
        first.ok_or_else(|| SealError::MasterNone { looked: self.looked() })
    }

    /// Fingerprints and places.
    #[must_use]
    pub fn list(&self) -> Vec<(String, String)> {
        self.found.iter().map(|(key, origin)| (key.fingerprint(), origin.clone())).collect()
    }

    /// The key with this fingerprint, or an error that says who needs it and where was looked.
    pub(crate) fn need(&self, owner: &str, id: &str) -> Result<Arc<MasterKey>, SealError> {
        self.get(id).ok_or_else(|| SealError::MasterNeeded {
            owner: owner.to_owned(),
            id: id.to_owned(),
            looked: self.looked(),
        })
    }

    fn looked(&self) -> String {
        let found = self.found.iter().map(|(key, origin)| format!("{origin} has {}", key.fingerprint()));
        let all: Vec<_> = found.chain(self.missed.iter().cloned()).collect();
        if all.is_empty() { "no place is configured".to_owned() } else { all.join("; ") }
    }
}
