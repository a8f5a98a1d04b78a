//! What is not an attack: without these the attacks would prove nothing.

use mooring_policy::action::ActionSet;
use mooring_policy::ids::{Epoch, Generation};
use mooring_policy::keys::Thumbprint;
use mooring_policy::principal::Principal;
use mooring_policy::revoke::Revocations;
use mooring_policy::rng::SeededRandom;
use mooring_policy::scope::Scope;
use mooring_policy::time::Timestamp;
use mooring_policy::token::{MAX_TOKEN_LEN, Session, SessionRequest, TokenError, mint_session};
use serde_json::json;

use crate::assert_refused;
use crate::forge::{NOW, target, vm};

#[test]
fn what_is_minted_is_what_is_verified() {
    let target = target();
    let tenant = "acme".parse().unwrap();
    let principals = [
        vm(),
        Principal::Tenant { tenant },
        Principal::Admin,
        Principal::External { tenant: "acme".parse().unwrap(), key: "MRK234".to_owned() },
    ];
    for principal in principals {
        for scope in [None, Some(Scope::default()), Some(Scope::actions(ActionSet::READ))] {
            let holder = scope.is_some().then(|| Thumbprint::of(&[7; 32]));
            let request = SessionRequest { principal: principal.clone(), epoch: Epoch(3), scope, holder };
            let now = Timestamp::from_millis(NOW * 1000 + 999);
            let (token, session) =
                mint_session(&target.keys, &target.realm, request, &SeededRandom::new(2), now).unwrap();
            assert_eq!(target.verify(&token).unwrap(), session);
            assert_eq!(session.expires, Timestamp::from_secs(NOW + 600));
        }
    }
}

#[test]
fn a_token_forged_with_the_key_and_nothing_wrong_is_accepted() {
    let target = target();
    let session = target.verify(&target.with_claims(|_| {})).unwrap();
    assert_eq!((session.principal, session.epoch), (vm(), Epoch(3)));
    let scoped = target.with_claims(|c| c["scope"] = json!([{ "actions": ["read"], "prefix": "2026/" }]));
    assert!(target.verify(&scoped).unwrap().scope.is_some());
    assert!(target.verify(&target.with_claims(|c| c["cnf"] = json!({ "jkt": target.kid() }))).is_ok());
}

#[test]
fn a_session_ends_at_its_millisecond_and_may_begin_a_little_early() {
    let target = target();
    let token = target.genuine();
    let (start, end) = (NOW * 1000, (NOW + 600) * 1000);
    assert!(target.verify_at(&token, end - 1).is_ok());
    assert_refused!(target.verify_at(&token, end).unwrap_err(), TokenError::Expired(at) if at.as_millis() == end);
    assert!(target.verify_at(&token, start - 5_000).is_ok());
    let early = target.verify_at(&token, start - 5_001).unwrap_err();
    assert_refused!(early, TokenError::NotYetValid(from) if from.as_millis() == start);
    assert_refused!(target.verify_at(&token, 0).unwrap_err(), TokenError::NotYetValid(_));
    assert_refused!(target.verify_at(&token, u64::MAX).unwrap_err(), TokenError::Expired(_));
}

#[test]
fn tokens_live_through_a_rotation_and_die_with_their_key() {
    let mut target = target();
    let token = target.genuine();
    let old = target.keys.current();
    target.keys.rotate(&SeededRandom::new(9), Timestamp::from_secs(NOW)).unwrap();
    assert!(target.verify(&token).is_ok());
    target.keys.forget(old).unwrap();
    assert_refused!(target.refuses(&token), TokenError::UnknownKey(kid) if *kid == old.to_string());
}

#[test]
fn a_genuine_token_that_was_ended_is_refused() {
    let mut target = target();
    let token = target.genuine();
    let session = target.verify(&token).unwrap();
    let ended: [fn(&mut Revocations, &Session); 3] = [
        |r, _| r.require_epoch(&"acme".parse().unwrap(), Epoch(4)),
        |r, _| r.require_generation(&"acme".parse().unwrap(), &"web".parse().unwrap(), Generation(8)),
        |r, session| r.revoke_token(session.id, session.expires, Timestamp::from_secs(NOW)),
    ];
    for end in ended {
        target.revocations = Revocations::new();
        end(&mut target.revocations, &session);
        assert_refused!(target.refuses(&token), TokenError::Revoked(_));
    }
}

#[test]
fn a_scope_too_long_to_travel_is_refused_at_minting() {
    let target = target();
    let long = "x".repeat(250);
    let prefix = [long.as_str(); 4].join("/");
    let entry = Scope::actions(ActionSet::READ).entries()[0].clone();
    let entries = vec![mooring_policy::scope::ScopeEntry { prefix: prefix.parse().unwrap(), ..entry }; 16];
    let scope = Some(Scope::new(entries).unwrap());
    let request = SessionRequest { principal: vm(), epoch: Epoch(3), scope, holder: None };
    let now = Timestamp::from_secs(NOW);
    let minted = mint_session(&target.keys, &target.realm, request, &SeededRandom::new(2), now);
    assert_refused!(minted.unwrap_err(), TokenError::TooLong { len } if *len > MAX_TOKEN_LEN);
}
