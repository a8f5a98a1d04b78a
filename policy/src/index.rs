//! All grants as one immutable value, arranged for the question asked at every request.
//!
//! Grants form trees: a grant passed on has a parent and is in force only while everything above it is. Walking
//! that chain at every request would be slow and would have to be right in every walker. So the chain is walked
//! once, when a value is made: each grant carries its [`Standing`], which is the period and the actions left by
//! the whole chain, or the reason why time alone will not bring it into force. A decision reads one hash entry and
//! the nest of prefixes around the key, allocates nothing and takes no lock.
//!
//! A change makes a new value, shared with the old one where nothing changed; whoever holds the old one goes on
//! unharmed. A chain that is broken in any way (parent missing, wider than its parent, in a circle) leaves its
//! grants without force.

mod group;

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, RandomState};
use std::sync::Arc;

use hashbrown::Equivalent;

use crate::action::ActionSet;
use crate::grant::{Grant, MAX_DEPTH, check_narrows};
use crate::ids::{BucketName, GrantId, TenantId};
use crate::resource::Target;
use crate::time::Timestamp;
pub(crate) use group::{Entry, Group};

/// Why a grant is not in force, whatever the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// This grant, it or one above it, was revoked.
    Revoked(GrantId),
    /// This grant, it or one above it, does not make sense: its parent is not there, or it is wider than it.
    Unfounded(GrantId),
}

/// What the whole chain above a grant leaves of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The first moment at which the whole chain is in force.
    pub from: Timestamp,
    /// The first moment at which it is no longer.
    pub until: Option<Timestamp>,
    /// What may be done while it is.
    pub actions: ActionSet,
    /// Why it never is.
    pub broken: Option<Broken>,
}

/// Whether a grant is in force at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is.
    InForce,
    /// It will be from this moment.
    NotYet(Timestamp),
    /// It was until this moment.
    Expired(Timestamp),
    /// It is not, whatever the time.
    Broken(Broken),
}

impl Standing {
    /// Whether the grant is in force at `now`.
    pub fn at(&self, now: Timestamp) -> Status {
        match (self.broken, self.until) {
            (Some(broken), _) => Status::Broken(broken),
            (None, Some(until)) if now >= until => Status::Expired(until),
            (None, _) if now < self.from => Status::NotYet(self.from),
            (None, _) => Status::InForce,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GroupKey {
    grantee: TenantId,
    owner: TenantId,
    bucket: BucketName,
}

/// A [`GroupKey`] by reference: looking up must not touch the counters of shared names.
#[derive(Hash)]
struct GroupKeyRef<'a> {
    grantee: &'a TenantId,
    owner: &'a TenantId,
    bucket: &'a BucketName,
}

impl Equivalent<GroupKey> for GroupKeyRef<'_> {
    fn equivalent(&self, key: &GroupKey) -> bool {
        *self.grantee == key.grantee && *self.owner == key.owner && *self.bucket == key.bucket
    }
}

/// The map of this crate instead of the standard one because it can be asked with a [`GroupKeyRef`]; the hasher is
/// the standard one, since strangers choose the names.
type Groups = hashbrown::HashMap<GroupKey, Arc<Group>, RandomState>;

/// All grants and revocations known at one moment.
#[derive(Debug, Clone, Default)]
pub struct GrantIndex {
    grants: HashMap<GrantId, Arc<Grant>>,
    children: HashMap<GrantId, Vec<GrantId>>,
    revoked: HashSet<GrantId>,
    groups: Groups,
}

impl GrantIndex {
    /// No grants at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// These grants, of which some are revoked. Of two grants with one id the later counts.
    pub fn new(grants: impl IntoIterator<Item = Grant>, revoked: impl IntoIterator<Item = GrantId>) -> Self {
        let mut index = Self { revoked: revoked.into_iter().collect(), ..Self::default() };
        for grant in grants {
            index.grants.insert(grant.id, Arc::new(grant));
        }
        for grant in index.grants.values() {
            if let Some(parent) = grant.parent {
                index.children.entry(parent).or_default().push(grant.id);
            }
        }
        let mut grouped: HashMap<GroupKey, Vec<Entry>> = HashMap::new();
        for grant in index.grants.values() {
            grouped.entry(group_key(grant)).or_default().push(index.entry(grant));
        }
        index.groups =
            grouped.into_iter().map(|(key, entries)| (key, Arc::new(Group::new(entries)))).collect();
        index
    }

    /// The same with one more grant (or another in the place of the one with its id).
    #[must_use]
    pub fn with_grant(&self, grant: Grant) -> Self {
        let mut next = self.clone();
        let id = grant.id;
        next.detach(id);
        if let Some(parent) = grant.parent {
            next.children.entry(parent).or_default().push(id);
        }
        next.grants.insert(id, Arc::new(grant));
        next.regroup(id);
        next
    }

    /// The same with the grant `id` revoked, and with it all that was passed on from it. A revocation is
    /// remembered also of a grant that is not known (yet).
    #[must_use]
    pub fn with_revoked(&self, id: GrantId) -> Self {
        let mut next = self.clone();
        next.revoked.insert(id);
        next.regroup(id);
        next
    }

    /// The same without the grant and its revocation, for grants nobody needs an explanation of any more. What
    /// was passed on from it is left without force.
    #[must_use]
    pub fn without(&self, id: GrantId) -> Self {
        let mut next = self.clone();
        next.detach(id);
        next.revoked.remove(&id);
        next.regroup(id);
        next
    }

    /// The grant with this id.
    pub fn get(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(&id).map(Arc::as_ref)
    }

    /// Whether the grant with this id was itself revoked.
    pub fn is_revoked(&self, id: GrantId) -> bool {
        self.revoked.contains(&id)
    }

    /// What the chain above a grant leaves of it.
    pub fn standing(&self, id: GrantId) -> Option<Standing> {
        self.grants.get(&id).map(|grant| self.resolve(grant))
    }

    /// Whether a grant is in force at `now`.
    pub fn status(&self, id: GrantId, now: Timestamp) -> Option<Status> {
        self.standing(id).map(|standing| standing.at(now))
    }

    /// All grants, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().map(Arc::as_ref)
    }

    /// How many grants there are.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// The grants passed on directly from this one.
    pub fn children(&self, id: GrantId) -> impl Iterator<Item = &Grant> {
        self.children.get(&id).into_iter().flatten().filter_map(|child| self.get(*child))
    }

    /// The grant and all passed on from it, directly or not: what ends when it is revoked.
    pub fn descendants(&self, id: GrantId) -> Vec<GrantId> {
        let mut found = vec![id];
        let mut seen: HashSet<GrantId> = HashSet::from_iter([id]);
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            let children = self.children.get(&parent).into_iter().flatten();
            found.extend(children.copied().filter(|child| seen.insert(*child)));
            at += 1;
        }
        found
    }

    /// The next moment after `now` at which some grant stops being in force. Looks at every grant: for the
    /// timer that closes handles, not for a request.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let standings = self.groups.values().flat_map(|group| group.entries()).map(|entry| entry.standing);
        standings.filter(|s| s.broken.is_none()).filter_map(|s| s.until).filter(|until| *until > now).min()
    }

    /// The grants for `grantee` on the bucket of `target`, lapsed ones included.
    pub(crate) fn on_bucket(&self, grantee: &TenantId, target: &Target<'_>) -> Option<&Group> {
        let key = GroupKeyRef { grantee, owner: target.owner, bucket: target.bucket };
        self.groups.get(&key).map(Arc::as_ref)
    }

    fn entry(&self, grant: &Arc<Grant>) -> Entry {
        Entry { grant: Arc::clone(grant), standing: self.resolve(grant) }
    }

    /// Walks the chain above `grant` once. A chain longer than grants can be passed on is a circle or a forgery.
    fn resolve(&self, grant: &Grant) -> Standing {
        let mut standing = Standing {
            from: grant.not_before,
            until: grant.until,
            actions: grant.effective_actions(),
            broken: None,
        };
        let mut child = grant;
        for _ in 0..=MAX_DEPTH {
            if self.revoked.contains(&child.id) {
                standing.broken = Some(Broken::Revoked(child.id));
                return standing;
            }
            if child.validate().is_err() {
                break;
            }
            let Some(parent) = child.parent else { return standing };
            let Some(parent) = self.get(parent).filter(|parent| is_founded(parent, child)) else { break };
            child = parent;
        }
        standing.broken = Some(Broken::Unfounded(child.id));
        standing
    }

    /// Takes a grant out of the maps by id, leaving its group to [`Self::regroup`].
    fn detach(&mut self, id: GrantId) {
        let Some(grant) = self.grants.remove(&id) else { return };
        if let Some(parent) = grant.parent
            && let Some(siblings) = self.children.get_mut(&parent)
        {
            siblings.retain(|sibling| *sibling != id);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        let key = group_key(&grant);
        let rest: Vec<_> = self
            .groups
            .get(&key)
            .into_iter()
            .flat_map(|g| g.entries())
            .filter(|e| e.grant.id != id)
            .cloned()
            .collect();
        self.put_group(key, rest);
    }

    /// Works out anew the groups that a change of `id` can reach: its own and those of its descendants.
    fn regroup(&mut self, id: GrantId) {
        let changed: HashSet<GrantId> = self.descendants(id).into_iter().collect();
        let keys: HashSet<GroupKey> =
            changed.iter().filter_map(|id| self.grants.get(id)).map(|grant| group_key(grant)).collect();
        for key in keys {
            let kept = self.groups.get(&key).into_iter().flat_map(|g| g.entries());
            let mut entries: Vec<_> = kept.filter(|e| !changed.contains(&e.grant.id)).cloned().collect();
            let members = changed.iter().filter_map(|id| self.grants.get(id)).filter(|g| group_key(g) == key);
            entries.extend(members.map(|grant| self.entry(grant)));
            self.put_group(key, entries);
        }
    }

    fn put_group(&mut self, key: GroupKey, entries: Vec<Entry>) {
        if entries.is_empty() {
            self.groups.remove(&key);
        } else {
            self.groups.insert(key, Arc::new(Group::new(entries)));
        }
    }
}

/// Whether `child` can have been cut from `parent`.
fn is_founded(parent: &Grant, child: &Grant) -> bool {
    parent.owner == child.owner && parent.bucket == child.bucket && check_narrows(parent, child).is_ok()
}

fn group_key(grant: &Grant) -> GroupKey {
    GroupKey { grantee: grant.grantee.clone(), owner: grant.owner.clone(), bucket: grant.bucket.clone() }
}

#[cfg(test)]
mod tests;
