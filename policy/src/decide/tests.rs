#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::grant::Grant;
use crate::resource::Resource;
use crate::rng::SeededRandom;
use crate::scope::ScopeEntry;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn tenant(name: &str) -> Principal {
    Principal::Tenant { tenant: name.parse().unwrap() }
}

fn photos(key: &'static str) -> Resource {
    Resource::object("acme".parse().unwrap(), "photos".parse().unwrap(), key)
}

fn grant() -> Grant {
    Grant {
        id: GrantId::random(&SeededRandom::new(1)),
        owner: "acme".parse().unwrap(),
        grantee: "globex".parse().unwrap(),
        bucket: "photos".parse().unwrap(),
        prefix: "2026".parse().unwrap(),
        actions: ActionSet::READ,
        not_before: at(1_000),
        until: Some(at(2_000)),
        depth: 0,
        parent: None,
        name: "photos".parse().unwrap(),
        note: String::new(),
    }
}

fn hidden(rule: Rule) -> Decision {
    Decision::Deny { rule, visible: false }
}

fn shown(rule: Rule) -> Decision {
    Decision::Deny { rule, visible: true }
}

#[test]
fn a_grant_decides_from_its_first_to_before_its_last_millisecond() {
    let index = GrantIndex::new([grant()], []);
    let id = grant().id;
    let read = |now| decide(&tenant("globex"), Action::Read, &photos("2026/a"), &index, None, at(now));
    assert_eq!(read(999), hidden(Rule::GrantNotYetValid(id, at(1_000))));
    assert_eq!(read(1_000), Decision::Allow { rule: Rule::Grant(id) });
    assert_eq!(read(1_999), Decision::Allow { rule: Rule::Grant(id) });
    assert_eq!(read(2_000), hidden(Rule::GrantExpired(id, at(2_000))));
}

#[test]
fn refusals_show_only_what_is_known_anyway() {
    let index = GrantIndex::new([grant()], []);
    let id = grant().id;
    let ask = |who: &str, action, key| decide(&tenant(who), action, &photos(key), &index, None, at(1_500));
    assert_eq!(ask("globex", Action::Write, "2026/a"), shown(Rule::NotInGrant(id)));
    assert_eq!(ask("globex", Action::Read, "2026-private/a"), hidden(Rule::OutsideGrants(id)));
    assert_eq!(ask("globex", Action::List, ""), hidden(Rule::OutsideGrants(id)));
    assert_eq!(ask("initech", Action::Read, "2026/a"), hidden(Rule::NoGrant));
    assert_eq!(ask("acme", Action::Share, "anything"), Decision::Allow { rule: Rule::Owner });
}

#[test]
fn after_revocation_the_bucket_is_gone_for_the_grantee() {
    let id = grant().id;
    let index = GrantIndex::new([grant()], []).with_revoked(id);
    let ask = |action| decide(&tenant("globex"), action, &photos("2026/a"), &index, None, at(1_500));
    assert_eq!(ask(Action::Read), hidden(Rule::GrantRevoked(id)));
    assert_eq!(ask(Action::Write), hidden(Rule::NotInGrant(id)));
    let refused = ask(Action::Read).require().unwrap_err();
    assert_eq!(refused.to_string(), "not found");
    assert_eq!(refused.rule.to_string(), format!("grant {id} is revoked"));
}

#[test]
fn one_live_grant_is_enough_beside_a_lapsed_one() {
    let wide = Grant { id: GrantId::random(&SeededRandom::new(2)), prefix: "".parse().unwrap(), ..grant() };
    let index = GrantIndex::new([grant(), wide.clone()], [grant().id]);
    let read = decide(&tenant("globex"), Action::Read, &photos("2026/a"), &index, None, at(1_500));
    assert_eq!(read, Decision::Allow { rule: Rule::Grant(wide.id) });
}

#[test]
fn a_scope_narrows_owner_grantee_and_operator_alike() {
    let index = GrantIndex::new([grant()], []);
    let entry = ScopeEntry {
        actions: Action::Read.into(),
        owner: Some("acme".parse().unwrap()),
        bucket: Some("photos".parse().unwrap()),
        prefix: "2026/may".parse().unwrap(),
    };
    let scope = Scope::new(vec![entry]).unwrap();
    for who in [tenant("acme"), tenant("globex"), Principal::Admin] {
        let ask = |action, key| decide(&who, action, &photos(key), &index, Some(&scope), at(1_500));
        assert!(ask(Action::Read, "2026/may/a").is_allowed());
        assert_eq!(ask(Action::List, "2026/may/a"), shown(Rule::ScopeExcludes));
        assert_eq!(ask(Action::Read, "2026/june/a"), hidden(Rule::ScopeExcludes));
    }
    let stranger =
        decide(&tenant("initech"), Action::Read, &photos("2026/may/a"), &index, Some(&scope), at(1_500));
    assert_eq!(stranger, hidden(Rule::NoGrant), "a scope gives nothing");
    let nothing = decide(&tenant("acme"), Action::Read, &photos("a"), &index, Some(&Scope::default()), at(0));
    assert_eq!(nothing, hidden(Rule::ScopeExcludes), "an empty scope lets nothing through");
}
