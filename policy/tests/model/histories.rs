//! Random histories: granting, passing on, revoking; after each step the crate and the oracle are asked the same.

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::{Decision, decide};
use mooring_policy::grant::{Delegation, Grant, delegate};
use mooring_policy::ids::GrantId;
use mooring_policy::index::{GrantIndex, Status};
use mooring_policy::principal::Principal;
use mooring_policy::resource::{Prefix, Resource};
use mooring_policy::rng::SeededRandom;
use mooring_policy::scope::{Scope, ScopeEntry};
use mooring_policy::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use crate::oracle::{Naive, Oracle, path, scope_allows};

const GRANTEES: [&str; 4] = ["globex", "initech", "umbrella", "hooli"];
/// The last moment of a history; periods lie within it and beyond.
const END: u64 = 12;

#[derive(Debug, Clone)]
struct Terms {
    grantee: &'static str,
    prefix: String,
    actions: ActionSet,
    from: u64,
    until: Option<u64>,
    depth: u8,
}

#[derive(Debug, Clone)]
enum Step {
    Grant(Terms),
    /// Passes on one of the grants; `below`: the prefix is meant under that grant's.
    PassOn {
        which: prop::sample::Index,
        below: bool,
        terms: Terms,
    },
    Revoke(prop::sample::Index),
    /// The grant is forgotten by the index: to the oracle a revocation.
    Forget(prop::sample::Index),
}

#[derive(Debug, Clone)]
struct Question {
    grantee: &'static str,
    action: Action,
    bucket: &'static str,
    key: String,
    scope: Option<Vec<ScopeEntry>>,
    now: u64,
}

/// Names chosen so that one is often the beginning of another.
fn some_path() -> impl Strategy<Value = String> {
    let component = select(vec!["a", "b", "aa", "a-", "a!", "ab"]);
    prop::collection::vec(component, 0..4).prop_map(|components| components.join("/"))
}

fn some_key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => some_path(),
        1 => some_path().prop_map(|path| format!("{path}/")),
        1 => (some_path(), some_path()).prop_map(|(a, b)| format!("{a}/../{b}")),
        1 => (some_path(), some_path()).prop_map(|(a, b)| format!("{a}//{b}")),
    ]
}

fn some_actions() -> impl Strategy<Value = ActionSet> {
    prop_oneof![
        Just(ActionSet::READ),
        Just(ActionSet::WRITE),
        prop::collection::vec(select(Action::ALL.to_vec()), 1..4)
            .prop_map(|actions| actions.into_iter().collect()),
    ]
}

fn some_terms() -> impl Strategy<Value = Terms> {
    let period = (0..END, prop::option::weighted(0.6, 1..END + 3));
    (select(GRANTEES.to_vec()), some_path(), some_actions(), period, 0u8..5).prop_map(
        |(grantee, prefix, actions, (from, length), depth)| {
            let until = length.map(|length| from / 2 + length);
            Terms { grantee, prefix, actions, from: from / 2, until, depth }
        },
    )
}

fn some_step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        3 => some_terms().prop_map(Step::Grant),
        6 => (which(), any::<bool>(), some_terms())
            .prop_map(|(which, below, terms)| Step::PassOn { which, below, terms }),
        1 => which().prop_map(Step::Revoke),
        1 => which().prop_map(Step::Forget),
    ]
}

fn some_scope() -> impl Strategy<Value = Option<Vec<ScopeEntry>>> {
    let entry = (some_actions(), prop::option::of(select(vec!["photos", "ledger"])), some_path()).prop_map(
        |(actions, bucket, prefix)| ScopeEntry {
            actions,
            owner: None,
            bucket: bucket.map(|name| name.parse().unwrap()),
            prefix: prefix.parse().unwrap(),
        },
    );
    prop::option::weighted(0.4, prop::collection::vec(entry, 0..3))
}

fn some_question() -> impl Strategy<Value = Question> {
    let bucket = prop_oneof![9 => Just("photos"), 1 => Just("ledger")];
    (select(GRANTEES.to_vec()), select(Action::ALL.to_vec()), bucket, some_key(), some_scope(), 0..END + 2)
        .prop_map(|(grantee, action, bucket, key, scope, now)| Question {
            grantee,
            action,
            bucket,
            key,
            scope,
            now,
        })
}

/// The same history on both sides.
#[derive(Default)]
struct Both {
    oracle: Oracle,
    index: GrantIndex,
    grants: Vec<Grant>,
    random: Option<SeededRandom>,
}

impl Both {
    fn new_id(&mut self) -> GrantId {
        GrantId::random(self.random.get_or_insert_with(|| SeededRandom::new(1)))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant(terms) => {
                let grant = self.grant(&terms);
                if grant.validate().is_ok() {
                    self.add(grant, None);
                }
            }
            Step::PassOn { which, below, terms } if !self.grants.is_empty() => {
                let at = which.index(self.grants.len());
                self.pass_on(at, below, &terms);
            }
            Step::Revoke(which) if !self.grants.is_empty() => {
                let at = which.index(self.grants.len());
                self.index = self.index.with_revoked(self.grants[at].id);
                self.oracle.grants[at].revoked = true;
            }
            Step::Forget(which) if !self.grants.is_empty() => {
                let at = which.index(self.grants.len());
                self.index = self.index.without(self.grants[at].id);
                self.oracle.grants[at].revoked = true;
            }
            Step::PassOn { .. } | Step::Revoke(_) | Step::Forget(_) => {}
        }
    }

    fn grant(&mut self, terms: &Terms) -> Grant {
        Grant {
            id: self.new_id(),
            owner: "acme".parse().unwrap(),
            grantee: terms.grantee.parse().unwrap(),
            bucket: "photos".parse().unwrap(),
            prefix: terms.prefix.parse().unwrap(),
            actions: terms.actions,
            not_before: Timestamp::from_millis(terms.from),
            until: terms.until.map(Timestamp::from_millis),
            depth: terms.depth,
            parent: None,
            name: "shared".parse().unwrap(),
            note: String::new(),
        }
    }

    fn pass_on(&mut self, at: usize, below: bool, terms: &Terms) {
        let parent = self.grants[at].clone();
        let prefix: Prefix = terms.prefix.parse().unwrap();
        let request = Delegation {
            id: self.new_id(),
            grantee: terms.grantee.parse().unwrap(),
            prefix: if below { parent.prefix.child(&prefix).unwrap() } else { prefix },
            actions: terms.actions,
            not_before: Timestamp::from_millis(terms.from),
            until: terms.until.map(Timestamp::from_millis),
            depth: terms.depth,
            name: "passed-on".parse().unwrap(),
            note: String::new(),
        };
        if let Ok(child) = delegate(&parent, request) {
            self.add(child, Some(at));
            self.assert_not_wider(at);
        }
    }

    fn add(&mut self, grant: Grant, parent: Option<usize>) {
        self.oracle.grants.push(Naive {
            grantee: grant.grantee.to_string(),
            path: path(grant.prefix.as_bytes()),
            actions: grant.actions,
            from: grant.not_before.as_millis(),
            until: grant.until.map(Timestamp::as_millis),
            depth: grant.depth,
            parent,
            revoked: false,
        });
        self.index = self.index.with_grant(grant.clone());
        self.grants.push(grant);
    }

    /// All that the newest grant allows by itself its parent allows by itself, over a whole small universe.
    fn assert_not_wider(&self, parent: usize) {
        let child = self.oracle.grants.last().unwrap();
        let parent = &self.oracle.grants[parent];
        let names: [&[u8]; 4] = [b"", b"a", b"a-", b"b"];
        for below in names {
            let mut key = child.path.clone();
            key.extend(path(below));
            for cut in 0..=key.len() {
                let key = key[..cut].to_vec();
                for (action, now) in
                    Action::ALL.into_iter().flat_map(|a| (0..END + 12).map(move |now| (a, now)))
                {
                    let widened = child.permits(action, &key, now) && !parent.permits(action, &key, now);
                    assert!(!widened, "passing on gave {action} on {key:?} at {now}");
                }
            }
        }
        assert!(child.depth < parent.depth);
    }

    fn ask(&self, question: &Question) {
        let key = path(question.key.as_bytes());
        let expected = |action| {
            question.bucket == "photos"
                && self.oracle.allows(question.grantee, action, &key, question.now)
                && scope_allows(question.scope.as_deref(), action, question.bucket, &key)
        };
        let principal = Principal::Tenant { tenant: question.grantee.parse().unwrap() };
        let bucket = question.bucket.parse().unwrap();
        let resource = Resource::object("acme".parse().unwrap(), bucket, question.key.clone().into_bytes());
        let scope = question.scope.clone().map(|entries| Scope::new(entries).unwrap());
        let now = Timestamp::from_millis(question.now);
        let decision = decide(&principal, question.action, &resource, &self.index, scope.as_ref(), now);
        match decision {
            Decision::Allow { .. } => assert!(expected(question.action), "allowed: {question:?}"),
            Decision::Deny { visible, rule } => {
                assert!(!expected(question.action), "refused by {rule:?}: {question:?}");
                let known = Action::ALL.into_iter().any(expected);
                assert_eq!(visible, known, "shown or hidden by {rule:?}: {question:?}");
            }
        }
    }

    /// The value changed step by step is the one made at once, and its expiries are those of the oracle.
    fn assert_consistent(&self) {
        let known: Vec<Grant> =
            self.grants.iter().filter(|g| self.index.get(g.id).is_some()).cloned().collect();
        let revoked: Vec<GrantId> =
            known.iter().map(|g| g.id).filter(|id| self.index.is_revoked(*id)).collect();
        let at_once = GrantIndex::new(known.clone(), revoked);
        for now in (0..END + 12).map(Timestamp::from_millis) {
            let ends = |g: &&Grant| {
                g.until.filter(|_| !matches!(at_once.status(g.id, now), Some(Status::Broken(_))))
            };
            let expected = known.iter().filter_map(|g| ends(&g)).filter(|until| *until > now).min();
            assert_eq!(self.index.next_expiry(now), expected);
            for grant in &known {
                assert_eq!(self.index.status(grant.id, now), at_once.status(grant.id, now));
            }
        }
    }
}

proptest! {
    #![proptest_config(crate::cases(400))]

    #[test]
    fn the_crate_and_the_oracle_agree_on_every_history(
        history in prop::collection::vec((some_step(), prop::collection::vec(some_question(), 8)), 1..24),
    ) {
        let mut both = Both::default();
        for (step, questions) in history {
            both.step(step);
            for question in &questions {
                both.ask(question);
            }
        }
        both.assert_consistent();
    }

    #[test]
    fn without_a_grant_nothing_is_found(key in some_key(), question in some_question(), terms in some_terms()) {
        let mut both = Both::default();
        let mut grant = both.grant(&terms);
        grant.grantee = "somebody-else".parse().unwrap();
        both.add(grant, None);
        let principal = Principal::Tenant { tenant: question.grantee.parse().unwrap() };
        let resource = Resource::object("acme".parse().unwrap(), "photos".parse().unwrap(), key.into_bytes());
        let scope = question.scope.map(|entries| Scope::new(entries).unwrap());
        let now = Timestamp::from_millis(question.now);
        let decision = decide(&principal, question.action, &resource, &both.index, scope.as_ref(), now);
        let hidden = matches!(decision, Decision::Deny { visible: false, .. });
        prop_assert!(hidden, "{:?}", decision);
    }

    #[test]
    fn a_grant_begins_and_ends_at_its_millisecond(from in 1u64..1 << 50, length in 1u64..1 << 50) {
        let mut both = Both::default();
        let terms = Terms {
            grantee: "globex",
            prefix: "a".to_owned(),
            actions: ActionSet::READ,
            from,
            until: Some(from + length),
            depth: 0,
        };
        let grant = both.grant(&terms);
        both.add(grant, None);
        let principal = Principal::Tenant { tenant: "globex".parse().unwrap() };
        let resource = Resource::object("acme".parse().unwrap(), "photos".parse().unwrap(), "a/b");
        let allowed = |now| {
            let now = Timestamp::from_millis(now);
            decide(&principal, Action::Read, &resource, &both.index, None, now).is_allowed()
        };
        prop_assert_eq!(
            [from - 1, from, from + length - 1, from + length].map(allowed),
            [false, true, true, false]
        );
    }
}
