//! What a token or a key is narrowed to.

use serde::{Deserialize, Serialize};

use crate::action::ActionSet;
use crate::ids::{BucketName, TenantId};
use crate::resource::{Prefix, Target};

/// Most entries of a scope: a scope travels with every token.
pub const MAX_SCOPE_ENTRIES: usize = 16;

/// One thing that a scope lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeEntry {
    /// What may be done.
    pub actions: ActionSet,
    /// In buckets of which tenant; `None`: of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<TenantId>,
    /// In which bucket; `None`: in any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketName>,
    /// Under which prefix, in the owner's terms.
    #[serde(default, skip_serializing_if = "Prefix::is_whole_bucket")]
    pub prefix: Prefix,
}

impl ScopeEntry {
    fn covers(&self, target: &Target<'_>) -> bool {
        self.owner.as_ref().is_none_or(|owner| owner == target.owner)
            && self.bucket.as_ref().is_none_or(|bucket| bucket == target.bucket)
            && self.prefix.covers(target.key)
    }
}

/// What a token or a key is narrowed to: the union of its entries.
///
/// A scope never gives anything. Only what both the scope and the rights in force allow is allowed; so an empty
/// scope allows nothing, and having none leaves the rights as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ScopeEntry>", into = "Vec<ScopeEntry>")]
pub struct Scope(Vec<ScopeEntry>);

/// A scope with more than [`MAX_SCOPE_ENTRIES`] entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope has at most {MAX_SCOPE_ENTRIES} entries")]
pub struct ScopeTooLong;

impl Scope {
    /// A scope of these entries.
    ///
    /// # Errors
    /// [`ScopeTooLong`] when there are too many.
    pub fn new(entries: Vec<ScopeEntry>) -> Result<Self, ScopeTooLong> {
        if entries.len() > MAX_SCOPE_ENTRIES { Err(ScopeTooLong) } else { Ok(Self(entries)) }
    }

    /// A scope that lets `actions` through everywhere, for instance for a key that can only read.
    pub fn actions(actions: ActionSet) -> Self {
        Self(vec![ScopeEntry { actions, owner: None, bucket: None, prefix: Prefix::WHOLE_BUCKET }])
    }

    /// The entries.
    pub fn entries(&self) -> &[ScopeEntry] {
        &self.0
    }

    /// What the scope lets through for `target`.
    pub fn allows<'a>(&self, target: impl Into<Target<'a>>) -> ActionSet {
        let target = target.into();
        let covering = self.0.iter().filter(|entry| entry.covers(&target));
        covering.fold(ActionSet::EMPTY, |set, entry| set | entry.actions)
    }
}

impl TryFrom<Vec<ScopeEntry>> for Scope {
    type Error = ScopeTooLong;

    fn try_from(entries: Vec<ScopeEntry>) -> Result<Self, ScopeTooLong> {
        Self::new(entries)
    }
}

impl From<Scope> for Vec<ScopeEntry> {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}
