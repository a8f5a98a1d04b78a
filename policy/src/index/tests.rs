#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::grant::{Delegation, delegate};
use crate::rng::SeededRandom;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn root(random: &SeededRandom, prefix: &str) -> Grant {
    Grant {
        id: GrantId::random(random),
        owner: "acme".parse().unwrap(),
        grantee: "globex".parse().unwrap(),
        bucket: "photos".parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        actions: ActionSet::READ,
        not_before: Timestamp::ZERO,
        until: None,
        depth: 3,
        parent: None,
        name: "photos".parse().unwrap(),
        note: String::new(),
    }
}

fn pass_on(random: &SeededRandom, parent: &Grant, grantee: &str) -> Grant {
    let request = Delegation {
        id: GrantId::random(random),
        grantee: grantee.parse().unwrap(),
        prefix: parent.prefix.clone(),
        actions: parent.actions,
        not_before: parent.not_before,
        until: parent.until,
        depth: parent.depth - 1,
        name: "passed-on".parse().unwrap(),
        note: String::new(),
    };
    delegate(parent, request).unwrap()
}

fn covering(index: &GrantIndex, key: &str) -> Vec<String> {
    let owner = "acme".parse().unwrap();
    let bucket = "photos".parse().unwrap();
    let target = Target { owner: &owner, bucket: &bucket, key: key.as_bytes() };
    let group = index.on_bucket(&"globex".parse().unwrap(), &target).unwrap();
    group.covering(key.as_bytes()).map(|entry| entry.grant.prefix.to_string()).collect()
}

#[test]
fn the_nest_around_a_key_is_found_narrowest_first() {
    let random = SeededRandom::new(3);
    let prefixes = ["", "a", "a/b", "a/b", "a/b/c", "a!b", "a-b", "b", "a/bb", "a/a"];
    let index = GrantIndex::new(prefixes.map(|prefix| root(&random, prefix)), []);
    assert_eq!(covering(&index, "a/b/x"), ["a/b/", "a/b/", "a/", ""]);
    assert_eq!(covering(&index, "a/b/c"), ["a/b/c/", "a/b/", "a/b/", "a/", ""]);
    assert_eq!(covering(&index, "a/b/"), ["a/b/", "a/b/", "a/", ""]);
    assert_eq!(covering(&index, "a!b/x"), ["a!b/", ""]);
    assert_eq!(covering(&index, "a-b-c"), [""]);
    assert_eq!(covering(&index, "zz"), [""]);
    assert_eq!(covering(&index, ""), [""]);
    assert_eq!(covering(&index, "a/b/../../b"), [""]);
}

#[test]
fn what_was_passed_on_falls_with_what_it_was_cut_from() {
    let random = SeededRandom::new(4);
    let first = root(&random, "2026");
    let second = pass_on(&random, &first, "initech");
    let third = pass_on(&random, &second, "umbrella");
    let index = GrantIndex::new([third.clone(), first.clone(), second.clone()], []);
    let statuses = |index: &GrantIndex| [&first, &second, &third].map(|g| index.status(g.id, NOW).unwrap());
    assert_eq!(statuses(&index), [Status::InForce; 3]);
    assert_eq!(index.descendants(first.id), [first.id, second.id, third.id]);

    let revoked = index.with_revoked(second.id);
    let fallen = Status::Broken(Broken::Revoked(second.id));
    assert_eq!(statuses(&revoked), [Status::InForce, fallen, fallen]);
    assert_eq!(statuses(&index), [Status::InForce; 3], "whoever holds the old value goes on with it");

    let orphaned = index.without(first.id);
    let unfounded = Status::Broken(Broken::Unfounded(second.id));
    assert_eq!(orphaned.status(third.id, NOW), Some(unfounded));
    assert_eq!(statuses(&orphaned.with_grant(first.clone())), [Status::InForce; 3]);
}

#[test]
fn a_revocation_may_come_before_its_grant() {
    let grant = root(&SeededRandom::new(5), "2026");
    let index = GrantIndex::empty().with_revoked(grant.id).with_grant(grant.clone());
    assert_eq!(index.status(grant.id, NOW), Some(Status::Broken(Broken::Revoked(grant.id))));
}

#[test]
fn forged_chains_have_no_force() {
    let random = SeededRandom::new(6);
    let parent = root(&random, "2026");
    let child = pass_on(&random, &parent, "initech");
    let forged = [
        Grant { prefix: "".parse().unwrap(), ..child.clone() },
        Grant { actions: ActionSet::WRITE, ..child.clone() },
        Grant { depth: 3, ..child.clone() },
        Grant { bucket: "secrets".parse().unwrap(), ..child.clone() },
        Grant { owner: "umbrella".parse().unwrap(), ..child.clone() },
        Grant { parent: Some(child.id), ..child.clone() },
        Grant { parent: Some(GrantId::random(&random)), ..child.clone() },
        Grant { until: Some(Timestamp::ZERO), ..child },
    ];
    for grant in forged {
        let id = grant.id;
        let index = GrantIndex::new([parent.clone(), grant], []);
        assert_eq!(index.status(id, NOW), Some(Status::Broken(Broken::Unfounded(id))));
    }
}

#[test]
fn the_next_expiry_is_that_of_a_grant_in_force() {
    let random = SeededRandom::new(7);
    let ends = |millis| Grant { until: Some(Timestamp::from_millis(millis)), ..root(&random, "a") };
    let (soon, later, never) = (ends(2_000), ends(3_000), root(&random, "b"));
    let index = GrantIndex::new([later, soon.clone(), never], []);
    assert_eq!(index.next_expiry(NOW), Some(Timestamp::from_millis(2_000)));
    assert_eq!(index.next_expiry(Timestamp::from_millis(2_000)), Some(Timestamp::from_millis(3_000)));
    assert_eq!(index.next_expiry(Timestamp::from_millis(3_000)), None);
    assert_eq!(index.with_revoked(soon.id).next_expiry(NOW), Some(Timestamp::from_millis(3_000)));
}

#[test]
fn a_value_changed_step_by_step_is_the_value_made_at_once() {
    let random = SeededRandom::new(8);
    let mut grants = vec![root(&random, "a"), root(&random, "a/b")];
    for grantee in ["initech", "umbrella", "initech"] {
        let parent = grants.last().unwrap().clone();
        grants.push(pass_on(&random, &parent, grantee));
    }
    let revoked = grants[2].id;
    let mut stepwise = GrantIndex::empty();
    for grant in grants.iter().rev() {
        stepwise = stepwise.with_grant(grant.clone());
    }
    stepwise = stepwise.with_revoked(revoked).with_grant(grants[0].clone());
    let at_once = GrantIndex::new(grants.clone(), [revoked]);
    for grant in &grants {
        assert_eq!(stepwise.standing(grant.id), at_once.standing(grant.id));
        let key = group_key(grant);
        let in_group = |index: &GrantIndex| {
            let standings = index.groups[&key].entries().map(|e| (e.grant.id, e.standing));
            standings.collect::<Vec<_>>()
        };
        assert_eq!(in_group(&stepwise), in_group(&at_once));
    }
    let emptied = grants.iter().fold(stepwise, |index, grant| index.without(grant.id));
    assert!(emptied.is_empty() && emptied.groups.is_empty() && emptied.children.is_empty());
}
