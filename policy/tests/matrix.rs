//! The authorisation matrix: every actor, action and resource, and what is decided, as a table in the repository.
//!
//! A change of policy shows as a change of `matrix.txt` and is reviewed as such. To take over a wanted change, run
//! with `MOORING_BLESS=1` in the environment.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::{Decision, Rule, decide};
use mooring_policy::grant::{Delegation, Grant, delegate};
use mooring_policy::ids::{Generation, GrantId};
use mooring_policy::index::GrantIndex;
use mooring_policy::principal::Principal;
use mooring_policy::resource::Resource;
use mooring_policy::rng::SeededRandom;
use mooring_policy::scope::{Scope, ScopeEntry};
use mooring_policy::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_000);

/// The story: acme owns `photos` and `ledger`. It lets globex read `2026` and pass it on, and write `inbox`; globex
/// passes `2026/may` on to initech. umbrella's grant was revoked, hooli's has ended, soylent's has not begun, and
/// what globex passed on to wonka hangs on a grant that was revoked.
struct World {
    index: GrantIndex,
    names: Vec<(GrantId, &'static str)>,
}

fn grant(random: &SeededRandom, grantee: &str, prefix: &str, actions: ActionSet) -> Grant {
    Grant {
        id: GrantId::random(random),
        owner: "acme".parse().unwrap(),
        grantee: grantee.parse().unwrap(),
        bucket: "photos".parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        actions,
        not_before: Timestamp::ZERO,
        until: Some(Timestamp::from_secs(2_000)),
        depth: 0,
        parent: None,
        name: "shared".parse().unwrap(),
        note: String::new(),
    }
}

fn pass_on(random: &SeededRandom, parent: &Grant, grantee: &str, prefix: &str) -> Grant {
    let request = Delegation {
        id: GrantId::random(random),
        grantee: grantee.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        actions: ActionSet::READ,
        not_before: Timestamp::ZERO,
        until: None,
        depth: 0,
        name: "passed-on".parse().unwrap(),
        note: String::new(),
    };
    delegate(parent, request).unwrap()
}

fn world() -> World {
    let random = SeededRandom::new(1);
    let read = Grant { depth: 1, ..grant(&random, "globex", "2026", ActionSet::READ) };
    let inbox = grant(&random, "globex", "inbox", ActionSet::WRITE);
    let may = pass_on(&random, &read, "initech", "2026/may");
    let revoked = grant(&random, "umbrella", "2026", ActionSet::READ);
    let expired = Grant { until: Some(NOW), ..grant(&random, "hooli", "2026", ActionSet::READ) };
    let later = Grant {
        not_before: Timestamp::from_secs(1_001),
        ..grant(&random, "soylent", "2026", ActionSet::READ)
    };
    let withdrawn = Grant { depth: 1, ..grant(&random, "globex", "old", ActionSet::READ) };
    let dangling = pass_on(&random, &withdrawn, "wonka", "old");
    let names = vec![
        (read.id, "<read>"),
        (inbox.id, "<inbox>"),
        (may.id, "<may>"),
        (revoked.id, "<revoked>"),
        (expired.id, "<expired>"),
        (later.id, "<later>"),
        (withdrawn.id, "<withdrawn>"),
        (dangling.id, "<dangling>"),
    ];
    let gone = [revoked.id, withdrawn.id];
    World {
        index: GrantIndex::new([read, inbox, may, revoked, expired, later, withdrawn, dangling], gone),
        names,
    }
}

fn actors() -> Vec<(&'static str, Principal, Option<Scope>)> {
    let tenant = |name: &str| Principal::Tenant { tenant: name.parse().unwrap() };
    let vm = |name: &str| Principal::Vm {
        tenant: name.parse().unwrap(),
        vm: "web".parse().unwrap(),
        generation: Generation(1),
    };
    let key = |name: &str| Principal::External { tenant: name.parse().unwrap(), key: "MRK1".to_owned() };
    let reads_may = Scope::new(vec![ScopeEntry {
        actions: Action::Read.into(),
        owner: Some("acme".parse().unwrap()),
        bucket: Some("photos".parse().unwrap()),
        prefix: "2026/may".parse().unwrap(),
    }]);
    let reads_may = reads_may.unwrap();
    vec![
        ("admin", Principal::Admin, None),
        ("acme", tenant("acme"), None),
        ("acme vm", vm("acme"), None),
        ("acme key", key("acme"), None),
        ("acme key, reads may", key("acme"), Some(reads_may.clone())),
        ("acme vm, empty scope", vm("acme"), Some(Scope::default())),
        ("globex", tenant("globex"), None),
        ("globex vm", vm("globex"), None),
        ("globex vm, reads may", vm("globex"), Some(reads_may.clone())),
        ("globex vm, all actions", vm("globex"), Some(Scope::actions(ActionSet::ALL))),
        ("initech vm", vm("initech"), None),
        ("umbrella vm", vm("umbrella"), None),
        ("hooli vm", vm("hooli"), None),
        ("soylent vm", vm("soylent"), None),
        ("wonka vm", vm("wonka"), None),
        ("stranger", tenant("stranger"), None),
        ("stranger, reads may", tenant("stranger"), Some(reads_may)),
    ]
}

fn resources() -> Vec<Resource> {
    let photos = |key: &'static str| {
        Resource::object("acme".parse().unwrap(), "photos".parse().unwrap(), key.as_bytes())
    };
    vec![
        Resource::bucket("acme".parse().unwrap(), "photos".parse().unwrap()),
        photos("2026"),
        photos("2026/may/a.jpg"),
        photos("2026/june/a.jpg"),
        photos("2026-private/a.jpg"),
        photos("2026/../secret"),
        photos("inbox/a.jpg"),
        photos("old/a.jpg"),
        Resource::bucket("acme".parse().unwrap(), "ledger".parse().unwrap()),
        Resource::bucket("globex".parse().unwrap(), "photos".parse().unwrap()),
    ]
}

fn letter(decision: Decision) -> char {
    match decision {
        Decision::Allow { .. } => 'Y',
        Decision::Deny { visible: true, .. } => 'd',
        Decision::Deny { visible: false, .. } => '.',
    }
}

fn rule_name(world: &World, rule: Rule) -> String {
    let text = rule.to_string();
    world.names.iter().fold(text, |text, (id, name)| text.replace(&id.to_string(), name))
}

fn table() -> String {
    let world = world();
    let mut text = String::from(
        "Y allowed   d access denied   . not found      columns: read, write, list, delete, share\n\
         after the resource: the rules that decided, in the order of the columns, each once\n",
    );
    for (actor, principal, scope) in actors() {
        writeln!(text, "\n{actor}").unwrap();
        for resource in resources() {
            let ask = |action| decide(&principal, action, &resource, &world.index, scope.as_ref(), NOW);
            let decisions = Action::ALL.map(ask);
            let mut rules: Vec<String> = Vec::new();
            for rule in decisions.iter().map(|decision| rule_name(&world, decision.rule())) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            let letters: String = decisions.into_iter().map(letter).collect();
            writeln!(text, "  {letters}  {:<32}{}", resource.to_string(), rules.join("; ")).unwrap();
        }
    }
    text
}

#[test]
fn the_matrix_is_the_one_reviewed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix.txt");
    let table = table();
    if std::env::var_os("MOORING_BLESS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap();
    for (line, (now, before)) in table.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(now, before, "line {} differs from the reviewed matrix", line + 1);
    }
    assert_eq!(table, reviewed);
}
