//! The decision: may this principal do this to that, now, and which rule says so.
//!
//! Two sets meet here. *Granted*: what the principal's rights allow at the resource: everything for the operator
//! and the owner, otherwise the union of the grants in force for its tenant that cover the resource. *Scoped*:
//! what the token or key lets through, when it is narrowed at all. An action is allowed when it is in both.
//!
//! A refusal says whether it may show. When anything at all would be allowed at the resource, the principal knows
//! of it and is told "access denied"; otherwise the answer is "not found", the same for what exists and what does
//! not. So somebody whose grant has ended learns nothing of what became of the bucket.
//!
//! The rule is for logs, audit and the `check` command of either party; it is not for the one refused.

use std::fmt;

use crate::action::{Action, ActionSet};
use crate::ids::{GrantId, TenantId};
use crate::index::{Broken, Entry, GrantIndex, Group, Status};
use crate::principal::Principal;
use crate::resource::Target;
use crate::scope::Scope;
use crate::time::Timestamp;

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The operator of the host may do everything: the keys are on that host anyway, and the log says who it was.
    Admin,
    /// The tenant owns the bucket.
    Owner,
    /// The VM belongs to the tenant that owns the bucket.
    VmOfOwner,
    /// The access key was issued by the tenant that owns the bucket.
    KeyOfOwner,
    /// This grant is in force and permits it.
    Grant(GrantId),
    /// The rights would do, but the token or key is narrowed to something else.
    ScopeExcludes,
    /// This grant covers the resource, but does not permit the action.
    NotInGrant(GrantId),
    /// This grant would permit it, but ended at this moment.
    GrantExpired(GrantId, Timestamp),
    /// This grant will permit it from this moment.
    GrantNotYetValid(GrantId, Timestamp),
    /// This grant would permit it, but was revoked.
    GrantRevoked(GrantId),
    /// This grant would permit it, but the second, from which it was passed on, was revoked.
    AncestorRevoked(GrantId, GrantId),
    /// This grant does not follow from the grant it names as its parent.
    GrantUnfounded(GrantId),
    /// There are grants on the bucket, such as this one, and none covers the resource.
    OutsideGrants(GrantId),
    /// There is no grant for the tenant on the bucket.
    NoGrant,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("the operator of the host may do everything"),
            Self::Owner => f.write_str("the tenant owns the bucket"),
            Self::VmOfOwner => f.write_str("the VM belongs to the tenant that owns the bucket"),
            Self::KeyOfOwner => f.write_str("the access key belongs to the tenant that owns the bucket"),
            Self::Grant(id) => write!(f, "grant {id} permits it"),
            Self::ScopeExcludes => f.write_str("the scope of the token or key excludes it"),
            Self::NotInGrant(id) => write!(f, "grant {id} does not permit this action"),
            Self::GrantExpired(id, at) => write!(f, "grant {id} expired at {at}"),
            Self::GrantNotYetValid(id, from) => write!(f, "grant {id} is not valid before {from}"),
            Self::GrantRevoked(id) => write!(f, "grant {id} is revoked"),
            Self::AncestorRevoked(id, above) => {
                write!(f, "grant {id} was passed on from grant {above}, which is revoked")
            }
            Self::GrantUnfounded(id) => {
                write!(f, "grant {id} does not follow from the grant it was cut from")
            }
            Self::OutsideGrants(id) => write!(f, "no grant covers it (grant {id} covers another prefix)"),
            Self::NoGrant => f.write_str("there is no grant for this tenant on this bucket"),
        }
    }
}

/// What was decided, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may.
    Allow {
        /// The rule that decided.
        rule: Rule,
    },
    /// It may not.
    Deny {
        /// The rule that decided.
        rule: Rule,
        /// Whether the principal may know that the resource can exist: if not, the answer is "not found".
        visible: bool,
    },
}

/// A refusal as an error; as text it is what the one refused may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", if *visible { "access denied" } else { "not found" })]
pub struct Denied {
    /// The rule that decided, for the log.
    pub rule: Rule,
    /// Whether the answer is "access denied" rather than "not found".
    pub visible: bool,
}

impl Decision {
    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// The rule that decided.
    pub fn rule(&self) -> Rule {
        match self {
            Self::Allow { rule } | Self::Deny { rule, .. } => *rule,
        }
    }

    /// The rule that allows it.
    ///
    /// # Errors
    /// [`Denied`] when it may not.
    pub fn require(self) -> Result<Rule, Denied> {
        match self {
            Self::Allow { rule } => Ok(rule),
            Self::Deny { rule, visible } => Err(Denied { rule, visible }),
        }
    }
}

/// Decides whether `principal` may do `action` to `resource` at `now`, given all grants and the scope of the
/// token or key it came with.
///
/// Pure, takes no lock and allocates nothing: cheap enough for every request, so there is no reason to keep an
/// answer. The key of the resource is judged as it is given: hand over the very bytes the store will use.
pub fn decide<'a>(
    principal: &Principal,
    action: Action,
    resource: impl Into<Target<'a>>,
    grants: &GrantIndex,
    scope: Option<&Scope>,
    now: Timestamp,
) -> Decision {
    let target = resource.into();
    let scoped = scope.map_or(ActionSet::ALL, |scope| scope.allows(target));
    match own_right(principal, target.owner) {
        Some(rule) if scoped.contains(action) => Decision::Allow { rule },
        Some(_) => Decision::Deny { rule: Rule::ScopeExcludes, visible: !scoped.is_empty() },
        None => match principal.tenant() {
            Some(grantee) => decide_by_grants(grantee, action, target, grants, scoped, now),
            None => Decision::Deny { rule: Rule::NoGrant, visible: false },
        },
    }
}

/// The rule by which everything is allowed without a grant.
fn own_right(principal: &Principal, owner: &TenantId) -> Option<Rule> {
    match principal {
        Principal::Admin => Some(Rule::Admin),
        Principal::Tenant { tenant } if tenant == owner => Some(Rule::Owner),
        Principal::Vm { tenant, .. } if tenant == owner => Some(Rule::VmOfOwner),
        Principal::External { tenant, .. } if tenant == owner => Some(Rule::KeyOfOwner),
        Principal::Tenant { .. } | Principal::Vm { .. } | Principal::External { .. } => None,
    }
}

fn decide_by_grants(
    grantee: &TenantId,
    action: Action,
    target: Target<'_>,
    grants: &GrantIndex,
    scoped: ActionSet,
    now: Timestamp,
) -> Decision {
    let Some(group) = grants.on_bucket(grantee, &target) else {
        return Decision::Deny { rule: Rule::NoGrant, visible: false };
    };
    let mut granted = ActionSet::EMPTY;
    let (mut nearest, mut lapsed, mut covering) = (None, None, None);
    for entry in group.covering(target.key) {
        covering = covering.or(Some(entry.grant.id));
        match entry.standing.at(now) {
            Status::InForce => {
                if (entry.standing.actions & scoped).contains(action) {
                    return Decision::Allow { rule: Rule::Grant(entry.grant.id) };
                }
                granted |= entry.standing.actions;
                nearest = nearest.or(Some(entry.grant.id));
            }
            status if entry.standing.actions.contains(action) => {
                lapsed = lapsed.or(Some(lapse_rule(entry, status)));
            }
            _ => {}
        }
    }
    let visible = !(granted & scoped).is_empty();
    let rule = match nearest {
        Some(_) if granted.contains(action) => Rule::ScopeExcludes,
        Some(id) => lapsed.unwrap_or(Rule::NotInGrant(id)),
        None => lapsed.or(covering.map(Rule::NotInGrant)).unwrap_or_else(|| outside(group)),
    };
    Decision::Deny { rule, visible }
}

/// The rule when no grant covers the resource.
fn outside(group: &Group) -> Rule {
    group.entries().next().map_or(Rule::NoGrant, |entry| Rule::OutsideGrants(entry.grant.id))
}

/// Why a grant that would permit the action does not.
fn lapse_rule(entry: &Entry, status: Status) -> Rule {
    let id = entry.grant.id;
    match status {
        Status::InForce => Rule::Grant(id),
        Status::NotYet(from) => Rule::GrantNotYetValid(id, from),
        Status::Expired(at) => Rule::GrantExpired(id, at),
        Status::Broken(Broken::Revoked(above)) if above == id => Rule::GrantRevoked(id),
        Status::Broken(Broken::Revoked(above)) => Rule::AncestorRevoked(id, above),
        Status::Broken(Broken::Unfounded(_)) => Rule::GrantUnfounded(id),
    }
}

#[cfg(test)]
mod tests;
