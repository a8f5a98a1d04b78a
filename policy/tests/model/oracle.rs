//! What grants mean, as simply as it can be said: lists, indices and no cleverness.
//!
//! A grant allows something when it and every grant above it, each judged for itself, would allow it. So a grant
//! that was passed on wider than what it came from shows: the crate would allow by the grant alone, the oracle asks
//! all of them.

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::scope::ScopeEntry;

/// A path as a list of components.
pub type Path = Vec<Vec<u8>>;

pub struct Naive {
    pub grantee: String,
    pub path: Path,
    pub actions: ActionSet,
    pub from: u64,
    pub until: Option<u64>,
    pub depth: u8,
    pub parent: Option<usize>,
    pub revoked: bool,
}

#[derive(Default)]
pub struct Oracle {
    pub grants: Vec<Naive>,
}

/// Splits text at slashes by hand; the empty text has no components.
pub fn path(text: &[u8]) -> Path {
    let mut components = vec![Vec::new()];
    for byte in text {
        if *byte == b'/' {
            components.push(Vec::new());
        } else {
            components.last_mut().unwrap().push(*byte);
        }
    }
    if text.is_empty() { Vec::new() } else { components }
}

/// Whether every component of `outer` is that of `inner` in its place, and nothing after them walks about.
pub fn covers(outer: &Path, inner: &Path) -> bool {
    if outer.is_empty() {
        return true;
    }
    if inner.len() < outer.len() {
        return false;
    }
    for at in 0..outer.len() {
        if outer[at] != inner[at] {
            return false;
        }
    }
    !inner.iter().any(|component| component == b"." || component == b"..")
}

impl Naive {
    /// Whether this grant, judged for itself, allows `action` on `key` at `now`.
    pub fn alone_allows(&self, action: Action, key: &Path, now: u64) -> bool {
        !self.revoked && self.permits(action, key, now)
    }

    /// Whether its words permit `action` on `key` at `now`, revoked or not.
    pub fn permits(&self, action: Action, key: &Path, now: u64) -> bool {
        let permitted = match action {
            Action::Share => self.depth > 0,
            other => self.actions.contains(other),
        };
        let current = self.from <= now && (self.until.is_none() || now < self.until.unwrap());
        permitted && current && covers(&self.path, key)
    }
}

impl Oracle {
    pub fn allows(&self, grantee: &str, action: Action, key: &Path, now: u64) -> bool {
        for grant in &self.grants {
            if grant.grantee != grantee {
                continue;
            }
            let mut allowed = grant.alone_allows(action, key, now);
            let mut above = grant.parent;
            while let Some(at) = above {
                // Above the grant it is enough that the action itself would be allowed, and that passing on was.
                allowed &= self.grants[at].alone_allows(action, key, now);
                allowed &= self.grants[at].depth > 0;
                above = self.grants[at].parent;
            }
            if allowed {
                return true;
            }
        }
        false
    }
}

/// Whether a list of scope entries, none left out, lets something through.
pub fn scope_allows(entries: Option<&[ScopeEntry]>, action: Action, bucket: &str, key: &Path) -> bool {
    let Some(entries) = entries else { return true };
    entries.iter().any(|entry| {
        let bucket_fits = match &entry.bucket {
            None => true,
            Some(wanted) => wanted.as_str() == bucket,
        };
        bucket_fits && entry.actions.contains(action) && covers(&path(entry.prefix.as_bytes()), key)
    })
}
