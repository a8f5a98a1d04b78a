//! What an owner permits another tenant, and how a grantee may pass on a part of it.

use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionSet};
use crate::ids::{BucketName, GrantId, ShareName, TenantId};
use crate::resource::Prefix;
use crate::time::Timestamp;

/// Deepest chain of grants: how often a grant can be passed on.
pub const MAX_DEPTH: u8 = 8;

/// Longest note, in bytes.
pub const MAX_NOTE_LEN: usize = 256;

/// An owner's permission for another tenant on a bucket or a prefix of it.
///
/// A grant with a parent was passed on by the parent's grantee; it is in force only while every grant above it
/// is. Whether it was revoked or accepted is not part of it: it is a statement that never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its id, also the `jti` of its signed form.
    pub id: GrantId,
    /// The tenant whose bucket it opens.
    pub owner: TenantId,
    /// The tenant it is for.
    pub grantee: TenantId,
    /// The bucket it opens.
    pub bucket: BucketName,
    /// The part of the bucket it opens.
    pub prefix: Prefix,
    /// What the grantee may do there. Whether it may share follows from `depth` alone.
    pub actions: ActionSet,
    /// The first moment it is in force.
    pub not_before: Timestamp,
    /// The first moment it is no longer in force; `None`: it does not end by itself.
    pub until: Option<Timestamp>,
    /// How many further times it can be passed on.
    pub depth: u8,
    /// The grant it was cut from, when a grantee passed it on.
    pub parent: Option<GrantId>,
    /// The name under which the grantee sees it.
    pub name: ShareName,
    /// Free text for both sides.
    pub note: String,
}

/// Why a grant or its passing on is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It permits nothing.
    #[error("a grant permits at least one of read, write, list and delete")]
    NoActions,
    /// Owner and grantee are one tenant.
    #[error("a grant is for another tenant: the owner needs none")]
    ToOwner,
    /// It ends before it begins.
    #[error("a grant ends after it begins")]
    EmptyPeriod,
    /// Passed on more often than [`MAX_DEPTH`].
    #[error("a grant can be passed on at most {MAX_DEPTH} times")]
    TooDeep,
    /// A longer note than [`MAX_NOTE_LEN`].
    #[error("a note has at most {MAX_NOTE_LEN} bytes")]
    NoteTooLong,
    /// The parent may not be passed on.
    #[error("the grant you hold may not be passed on: ask its owner for a depth of at least 1")]
    NoDepthLeft,
    /// A depth that is not below the parent's.
    #[error("the depth must be below that of the grant you hold")]
    WiderDepth,
    /// An action that the parent does not have.
    #[error("the actions must be among those of the grant you hold")]
    WiderActions,
    /// A prefix that the parent does not cover.
    #[error("the prefix must lie within that of the grant you hold")]
    WiderPrefix,
    /// A period that the parent's does not enclose.
    #[error("the period must lie within that of the grant you hold")]
    WiderPeriod,
    /// The grantee passes the grant to itself.
    #[error("a grant is passed on to another tenant than the one that holds it")]
    ToSelf,
}

impl Grant {
    /// Whether the grant makes sense by itself.
    ///
    /// # Errors
    /// [`GrantError`] names the rule that is broken.
    pub fn validate(&self) -> Result<(), GrantError> {
        if self.actions.without(Action::Share).is_empty() {
            return Err(GrantError::NoActions);
        }
        if self.owner == self.grantee {
            return Err(GrantError::ToOwner);
        }
        if self.until.is_some_and(|until| until <= self.not_before) {
            return Err(GrantError::EmptyPeriod);
        }
        if self.depth > MAX_DEPTH {
            return Err(GrantError::TooDeep);
        }
        if self.note.len() > MAX_NOTE_LEN {
            return Err(GrantError::NoteTooLong);
        }
        Ok(())
    }

    /// What the grantee may do: the actions, with sharing exactly when it can still be passed on.
    pub fn effective_actions(&self) -> ActionSet {
        let actions = self.actions.without(Action::Share);
        if self.depth > 0 && !actions.is_empty() { actions.with(Action::Share) } else { actions }
    }

    /// Whether `now` lies in the period of this grant alone (grants above it not considered).
    pub fn is_current(&self, now: Timestamp) -> bool {
        now >= self.not_before && self.until.is_none_or(|until| now < until)
    }
}

/// What a grantee wants to pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The id of the new grant.
    pub id: GrantId,
    /// The tenant it is for.
    pub grantee: TenantId,
    /// The part of the bucket, in the owner's terms.
    pub prefix: Prefix,
    /// What the new grantee may do.
    pub actions: ActionSet,
    /// The first moment it is in force.
    pub not_before: Timestamp,
    /// The first moment it is no longer; `None`: as long as the grant it is cut from.
    pub until: Option<Timestamp>,
    /// How many further times it can be passed on.
    pub depth: u8,
    /// The name under which the new grantee sees it.
    pub name: ShareName,
    /// Free text for both sides.
    pub note: String,
}

/// Cuts a grant for another tenant out of `parent`, on behalf of the parent's grantee. It only narrows.
///
/// Whether the parent is in force is not looked at: the new grant is in force only while its parent is.
///
/// # Errors
/// [`GrantError`] names what would have become wider, or what makes no sense by itself.
pub fn delegate(parent: &Grant, request: Delegation) -> Result<Grant, GrantError> {
    if parent.depth == 0 {
        return Err(GrantError::NoDepthLeft);
    }
    if request.grantee == parent.grantee {
        return Err(GrantError::ToSelf);
    }
    let grant = Grant {
        id: request.id,
        owner: parent.owner.clone(),
        grantee: request.grantee,
        bucket: parent.bucket.clone(),
        prefix: request.prefix,
        actions: request.actions.without(Action::Share),
        not_before: request.not_before,
        until: request.until.or(parent.until),
        depth: request.depth,
        parent: Some(parent.id),
        name: request.name,
        note: request.note,
    };
    grant.validate()?;
    check_narrows(parent, &grant)?;
    Ok(grant)
}

/// Whether `child` permits nothing that `parent` does not.
///
/// # Errors
/// The first of depth, actions, prefix and period that is wider.
pub(crate) fn check_narrows(parent: &Grant, child: &Grant) -> Result<(), GrantError> {
    if child.depth >= parent.depth {
        return Err(GrantError::WiderDepth);
    }
    if !child.actions.without(Action::Share).is_subset_of(parent.actions) {
        return Err(GrantError::WiderActions);
    }
    if !parent.prefix.contains(&child.prefix) {
        return Err(GrantError::WiderPrefix);
    }
    let ends_within = match (parent.until, child.until) {
        (None, _) => true,
        (Some(parent), Some(child)) => child <= parent,
        (Some(_), None) => false,
    };
    if child.not_before < parent.not_before || !ends_within {
        return Err(GrantError::WiderPeriod);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
