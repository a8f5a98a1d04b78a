//! What decisions cost in memory, counted rather than timed. For time see the example `decide`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/decide/population.rs"]
mod population;

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::decide;
use mooring_policy::grant::delegate;
use mooring_policy::index::GrantIndex;
use mooring_policy::principal::Principal;
use mooring_policy::resource::{Resource, Target};
use mooring_policy::scope::Scope;
use mooring_policy::time::Timestamp;
use population::{Population, delegation};

const NOW: Timestamp = Timestamp::from_secs(1_000);

#[test]
fn a_decision_allocates_nothing() {
    let population = Population::new(1_000);
    let parent = population.grants[0].clone();
    let child = delegate(&parent, delegation(&population.random)).unwrap();
    let grants = population.grants.iter().cloned().chain([child.clone()]);
    let index = GrantIndex::new(grants, [population.grants[1].id]);
    let scope = Scope::actions(ActionSet::READ);
    let ask = |grantee, prefix: &str, action| {
        let principal = Principal::Tenant { tenant: grantee };
        let key = format!("{prefix}a/b/c.jpg").into_bytes();
        let resource = Resource::object(parent.owner.clone(), parent.bucket.clone(), key);
        let target = Target::from(&resource);
        let mut allowed = false;
        let cost = allocation_counter::measure(|| {
            allowed = decide(&principal, action, target, &index, Some(&scope), NOW).is_allowed();
        });
        assert_eq!(cost.count_total, 0, "deciding allocated");
        allowed
    };
    let revoked = &population.grants[1];
    assert!(ask(parent.grantee.clone(), &parent.prefix.to_string(), Action::Read));
    assert!(ask(child.grantee.clone(), &child.prefix.to_string(), Action::Read));
    assert!(ask(parent.owner.clone(), "", Action::Read));
    assert!(!ask(parent.grantee.clone(), &parent.prefix.to_string(), Action::Delete));
    assert!(!ask(revoked.grantee.clone(), &revoked.prefix.to_string(), Action::Read));
    assert!(!ask("nobody".parse().unwrap(), "", Action::Read));
}

#[test]
fn a_hundred_thousand_grants_fit_64_mib() {
    let population = Population::new(100_000);
    let copies: Vec<_> = population.grants.iter().map(population::unshared).collect();
    let cost = allocation_counter::measure(|| {
        // Names are made anew inside, so that what the index keeps alive is counted with it.
        let index = GrantIndex::new(copies.iter().map(population::unshared), []);
        assert_eq!(index.len(), 100_000);
        std::mem::forget(index);
    });
    let mebibytes = cost.bytes_current >> 20;
    assert!(mebibytes > 0 && mebibytes <= 64, "the index keeps {mebibytes} MiB");
}
