#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::rng::SeededRandom;

fn parent() -> Grant {
    Grant {
        id: GrantId::random(&SeededRandom::new(1)),
        owner: "acme".parse().unwrap(),
        grantee: "globex".parse().unwrap(),
        bucket: "photos".parse().unwrap(),
        prefix: "2026".parse().unwrap(),
        actions: ActionSet::READ,
        not_before: Timestamp::from_millis(1000),
        until: Some(Timestamp::from_millis(2000)),
        depth: 2,
        parent: None,
        name: "acme-photos".parse().unwrap(),
        note: String::new(),
    }
}

fn request() -> Delegation {
    Delegation {
        id: GrantId::random(&SeededRandom::new(2)),
        grantee: "initech".parse().unwrap(),
        prefix: "2026/may".parse().unwrap(),
        actions: ActionSet::READ,
        not_before: Timestamp::from_millis(1000),
        until: None,
        depth: 1,
        name: "may".parse().unwrap(),
        note: "the trip".to_owned(),
    }
}

#[test]
fn a_part_can_be_passed_on() {
    let child = delegate(&parent(), request()).unwrap();
    assert_eq!((child.owner, child.bucket), (parent().owner, parent().bucket));
    assert_eq!(child.parent, Some(parent().id));
    assert_eq!(child.until, parent().until, "without an end of its own it ends with its parent");
    assert_eq!(child.depth, 1);
}

#[test]
fn nothing_becomes_wider() {
    type Change = fn(&mut Delegation);
    let cases: [(Change, GrantError); 10] = [
        (|r| r.depth = 2, GrantError::WiderDepth),
        (|r| r.actions = ActionSet::WRITE, GrantError::WiderActions),
        (|r| r.prefix = Prefix::WHOLE_BUCKET, GrantError::WiderPrefix),
        (|r| r.prefix = "2026-private".parse().unwrap(), GrantError::WiderPrefix),
        (|r| r.not_before = Timestamp::from_millis(999), GrantError::WiderPeriod),
        (|r| r.until = Some(Timestamp::from_millis(2001)), GrantError::WiderPeriod),
        (|r| r.until = Some(Timestamp::from_millis(1000)), GrantError::EmptyPeriod),
        (|r| r.actions = Action::Share.into(), GrantError::NoActions),
        (|r| r.grantee = "globex".parse().unwrap(), GrantError::ToSelf),
        (|r| r.grantee = "acme".parse().unwrap(), GrantError::ToOwner),
    ];
    for (change, error) in cases {
        let mut wider = request();
        change(&mut wider);
        assert_eq!(delegate(&parent(), wider), Err(error));
    }
    assert_eq!(delegate(&Grant { depth: 0, ..parent() }, request()), Err(GrantError::NoDepthLeft));
}

#[test]
fn sharing_follows_from_the_depth_alone() {
    let rights = |actions, depth| Grant { actions, depth, ..parent() }.effective_actions();
    assert!(rights(ActionSet::READ, 1).contains(Action::Share));
    assert!(!rights(ActionSet::ALL, 0).contains(Action::Share));
    assert_eq!(rights(Action::Share.into(), 3), ActionSet::EMPTY);
}

#[test]
fn a_period_ends_at_its_millisecond() {
    let in_force = |now| parent().is_current(Timestamp::from_millis(now));
    assert_eq!([999, 1000, 1999, 2000].map(in_force), [false, true, true, false]);
}

#[test]
fn strange_grants_are_refused() {
    assert_eq!(Grant { depth: MAX_DEPTH + 1, ..parent() }.validate(), Err(GrantError::TooDeep));
    assert_eq!(Grant { note: "x".repeat(257), ..parent() }.validate(), Err(GrantError::NoteTooLong));
    assert_eq!(Grant { until: Some(Timestamp::ZERO), ..parent() }.validate(), Err(GrantError::EmptyPeriod));
}

#[test]
fn serialised_form_is_closed() {
    let json = serde_json::to_value(parent()).unwrap();
    assert_eq!(serde_json::from_value::<Grant>(json.clone()).unwrap(), parent());
    let mut wider = json;
    wider["everything"] = true.into();
    assert!(serde_json::from_value::<Grant>(wider).is_err());
}
