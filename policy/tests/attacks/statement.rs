//! Grant statements: genuine ones, forged ones, and statements in the place of sessions.

use mooring_policy::action::ActionSet;
use mooring_policy::grant::{Grant, GrantError};
use mooring_policy::ids::GrantId;
use mooring_policy::resource::Prefix;
use mooring_policy::rng::SeededRandom;
use mooring_policy::time::Timestamp;
use mooring_policy::token::{TokenError, sign_grant, verify_grant};
use serde_json::{Value, json};

use crate::assert_refused;
use crate::forge::{NOW, Target, claims, target};

fn grant() -> Grant {
    let random = SeededRandom::new(5);
    Grant {
        id: GrantId::random(&random),
        owner: "acme".parse().unwrap(),
        grantee: "globex".parse().unwrap(),
        bucket: "photos".parse().unwrap(),
        prefix: Prefix::new(b"2026/f\xc3\xaate/\xff 50%").unwrap(),
        actions: ActionSet::WRITE,
        not_before: Timestamp::from_millis(NOW * 1000 + 123),
        until: Some(Timestamp::from_millis(NOW * 1000 + 999_999)),
        depth: 2,
        parent: Some(GrantId::random(&random)),
        name: "acme-photos".parse().unwrap(),
        note: "for \"the\" album\n".to_owned(),
    }
}

fn statement_claims() -> Value {
    json!({
        "iss": "realm-1", "jti": "3f0e1a52-9c1b-4e5a-8f1d-2b7c90d1e6aa", "owner": "acme", "grantee": "globex",
        "bucket": "photos", "prefix": "2026/", "actions": ["read", "list"], "nbf": NOW, "exp": NOW + 600,
        "depth": 0, "name": "photos",
    })
}

fn forged(target: &Target, change: impl FnOnce(&mut Value)) -> TokenError {
    let mut claims = statement_claims();
    change(&mut claims);
    let header = json!({ "typ": "grant+jwt", "alg": "EdDSA", "kid": target.kid() });
    verify_grant(target.keys.public(), &target.realm, &target.signed(&header, &claims))
        .expect_err("a forged statement was accepted")
}

#[test]
fn what_is_signed_is_the_grant_to_the_millisecond() {
    let target = target();
    let endless =
        Grant { until: None, parent: None, note: String::new(), prefix: Prefix::WHOLE_BUCKET, ..grant() };
    for grant in [grant(), endless] {
        let token = sign_grant(&target.keys, &target.realm, &grant).unwrap();
        assert_eq!(verify_grant(target.keys.public(), &target.realm, &token).unwrap(), grant);
    }
}

#[test]
fn statements_outlive_the_key_in_use() {
    let mut target = target();
    let token = sign_grant(&target.keys, &target.realm, &grant()).unwrap();
    for year in 1..=3 {
        let now = Timestamp::from_secs(NOW + year * 31_536_000);
        target.keys.rotate(&SeededRandom::new(year), now).unwrap();
    }
    assert_eq!(verify_grant(target.keys.public(), &target.realm, &token).unwrap(), grant());
}

#[test]
fn a_statement_is_no_session_and_a_session_no_statement() {
    let target = target();
    let statement = sign_grant(&target.keys, &target.realm, &grant()).unwrap();
    assert_refused!(target.refuses(&statement), TokenError::Type { expected: "vm+jwt", found } if found == "grant+jwt");
    let session = target.genuine();
    let error = verify_grant(target.keys.public(), &target.realm, &session).unwrap_err();
    assert_refused!(error, TokenError::Type { expected: "grant+jwt", found } if found == "vm+jwt");
    // Claims of the one under the type of the other: the closed sets differ.
    let session_type = target.signed(&target.header(), &statement_claims());
    assert_refused!(target.refuses(&session_type), TokenError::MissingClaim("aud"));
    assert_refused!(forged(&target, |c| *c = claims()), TokenError::MissingClaim("depth"));
}

#[test]
fn claims_of_a_statement_are_required_and_typed() {
    let target = target();
    for claim in ["iss", "jti", "owner", "grantee", "bucket", "prefix", "actions", "nbf", "depth", "name"] {
        let error = forged(&target, |c| drop(c.as_object_mut().unwrap().remove(claim)));
        assert_refused!(error, TokenError::MissingClaim(found) if *found == claim);
        let error = forged(&target, |c| c[claim] = json!({ "x": 1 }));
        assert_refused!(error, TokenError::ClaimType { claim: found, .. } if *found == claim);
    }
    for claim in ["exp", "parent", "note"] {
        let error = forged(&target, |c| c[claim] = json!(null));
        assert_refused!(error, TokenError::ClaimType { claim: found, .. } if *found == claim);
    }
    for (claim, value) in [
        ("owner", json!("Acme")),
        ("bucket", json!("my.bucket")),
        ("prefix", json!("/2026")),
        ("prefix", json!("2026/%2e%2e/x")),
        ("actions", json!(["admin"])),
        ("actions", json!(["read", "read"])),
        ("depth", json!(256)),
        ("parent", json!("none")),
        ("name", json!("..")),
    ] {
        let error = forged(&target, |c| c[claim] = value);
        assert_refused!(error, TokenError::ClaimValue { claim: found, .. } if *found == claim);
    }
    assert_refused!(forged(&target, |c| c["revoked"] = json!(false)), TokenError::UnknownClaim(_));
    assert_refused!(forged(&target, |c| c["iss"] = json!("realm-2")), TokenError::Issuer(_));
}

#[test]
fn statements_of_grants_that_make_no_sense() {
    let target = target();
    assert_refused!(
        forged(&target, |c| c["grantee"] = json!("acme")),
        TokenError::Grant(GrantError::ToOwner)
    );
    assert_refused!(forged(&target, |c| c["actions"] = json!([])), TokenError::Grant(GrantError::NoActions));
    assert_refused!(
        forged(&target, |c| c["actions"] = json!(["share"])),
        TokenError::Grant(GrantError::NoActions)
    );
    assert_refused!(forged(&target, |c| c["exp"] = json!(NOW)), TokenError::Grant(GrantError::EmptyPeriod));
    assert_refused!(forged(&target, |c| c["depth"] = json!(9)), TokenError::Grant(GrantError::TooDeep));
    let unsigned = sign_grant(&target.keys, &target.realm, &Grant { depth: 9, ..grant() });
    assert_refused!(unsigned.unwrap_err(), TokenError::Grant(GrantError::TooDeep));
    let far = Grant { until: Some(Timestamp::MAX), ..grant() };
    let unsigned = sign_grant(&target.keys, &target.realm, &far);
    assert_refused!(unsigned.unwrap_err(), TokenError::ClaimValue { claim: "exp", .. });
}
