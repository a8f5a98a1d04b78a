//! Attacks through the claims, all with a genuine signature: as by an issuer with a bug.

use mooring_policy::token::TokenError;
use serde_json::{Value, json};

use crate::assert_refused;
use crate::forge::{NOW, claims, target};

const REQUIRED: [&str; 8] = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "epoch"];

#[test]
fn every_required_claim_is_required() {
    let target = target();
    for claim in REQUIRED.into_iter().chain(["gen"]) {
        let token = target.with_claims(|c| drop(c.as_object_mut().unwrap().remove(claim)));
        assert_refused!(target.refuses(&token), TokenError::MissingClaim(found) if *found == claim);
    }
}

#[test]
fn a_claim_has_one_type() {
    let target = target();
    let strangers =
        [json!(null), json!(true), json!([]), json!({}), json!(["gateway-1"]), json!([NOW + 600])];
    for claim in REQUIRED.into_iter().chain(["gen", "scope", "cnf"]) {
        let wrong = if claims()[claim].is_string() { json!(7) } else { json!("1800000600") };
        for value in strangers.iter().chain([&wrong]) {
            if (claim == "scope" && value.is_array()) || (claim == "cnf" && value.is_object()) {
                continue;
            }
            let token = target.with_claims(|c| c[claim] = value.clone());
            let error = target.refuses(&token);
            assert_refused!(error, TokenError::ClaimType { claim: found, .. } if *found == claim);
        }
    }
}

#[test]
fn numbers_that_are_no_times_and_no_counters() {
    let target = target();
    for claim in ["exp", "nbf", "iat"] {
        for bad in
            [json!(-1), json!(-1.5), json!(1e300), json!(1.000_000_1), json!(u64::MAX), json!(i64::MIN)]
        {
            let token = target.with_claims(|c| c[claim] = bad.clone());
            assert_refused!(target.refuses(&token), TokenError::ClaimType { claim: found, .. } if *found == claim);
        }
    }
    for claim in ["gen", "epoch"] {
        for bad in [json!(-1), json!(7.0), json!(7.5), json!(1e30)] {
            let token = target.with_claims(|c| c[claim] = bad.clone());
            assert_refused!(target.refuses(&token), TokenError::ClaimType { claim: found, .. } if *found == claim);
        }
    }
    let endless = claims().to_string().replace(&format!("\"exp\":{}", NOW + 600), "\"exp\":1e999");
    let token = target.signed_text(&target.header().to_string(), &endless);
    assert_refused!(target.refuses(&token), TokenError::Json { part: "payload", .. });
}

#[test]
fn times_that_do_not_fit_a_session() {
    let target = target();
    let expired = target.with_claims(|c| (c["iat"], c["nbf"], c["exp"]) = (json!(1), json!(1), json!(601)));
    assert_refused!(target.refuses(&expired), TokenError::Expired(at) if at.as_secs() == 601);
    let later = NOW + 60;
    let early = target
        .with_claims(|c| (c["iat"], c["nbf"], c["exp"]) = (json!(later), json!(later), json!(later + 600)));
    assert_refused!(target.refuses(&early), TokenError::NotYetValid(from) if from.as_secs() == later);
    type Change = fn(&mut Value);
    let contradictions: [Change; 5] = [
        |c| c["exp"] = json!(NOW + 601),
        |c| c["exp"] = json!(1_800_000_600.001),
        |c| c["exp"] = json!(NOW),
        |c| c["nbf"] = json!(NOW - 1),
        |c| c["iat"] = json!(NOW - 3600),
    ];
    for change in contradictions {
        assert_refused!(target.refuses(&target.with_claims(change)), TokenError::Life);
    }
}

#[test]
fn another_audience_or_issuer() {
    let target = target();
    for other in ["gateway-2", "gateway-1 ", "GATEWAY-1", "gateway-", "gateway-11", "", "*"] {
        let token = target.with_claims(|c| c["aud"] = json!(other));
        assert_refused!(target.refuses(&token), TokenError::Audience(found) if found == other);
    }
    for other in ["realm-2", "realm-1/", "", "Realm-1"] {
        let token = target.with_claims(|c| c["iss"] = json!(other));
        assert_refused!(target.refuses(&token), TokenError::Issuer(found) if found == other);
    }
}

#[test]
fn subjects_that_name_nobody() {
    let target = target();
    let bad = [
        "",
        "acme",
        "tenant/",
        "tenant/ACME/vm/web",
        "tenant/acme/vm/",
        "tenant/acme/vm/web/",
        "tenant/acme/vm/web/vm/db",
        "tenant/acme/vm/../admin",
        "tenant/../vm/web",
        "/tenant/acme/vm/web",
        "tenant//acme/vm/web",
        "TENANT/acme/vm/web",
        "tenant/acme/pod/web",
        "administrator",
        "admin/",
    ];
    for subject in bad {
        let token = target.with_claims(|c| c["sub"] = json!(subject));
        assert_refused!(target.refuses(&token), TokenError::ClaimValue { claim: "sub", .. });
    }
    for key in ["", "../x", "a/b", "a b", "a\n", &"k".repeat(129)] {
        let token = target.with_claims(|c| {
            c["sub"] = json!(format!("tenant/acme/key/{key}"));
            c.as_object_mut().unwrap().remove("gen");
        });
        assert_refused!(target.refuses(&token), TokenError::ClaimValue { claim: "sub", .. });
    }
}

#[test]
fn only_a_vm_has_a_generation() {
    let target = target();
    for subject in ["admin", "tenant/acme", "tenant/acme/key/MRK1"] {
        let token = target.with_claims(|c| c["sub"] = json!(subject));
        assert_refused!(target.refuses(&token), TokenError::UnknownClaim(found) if found == "gen");
    }
}

#[test]
fn unknown_claims_are_refused() {
    let target = target();
    for claim in ["admin", "grants", "act", "Exp", "aud ", "tenant", ""] {
        let token = target.with_claims(|c| c[claim] = json!(true));
        assert_refused!(target.refuses(&token), TokenError::UnknownClaim(found) if found == claim);
    }
}

#[test]
fn members_do_not_come_twice_at_any_depth() {
    let target = target();
    let whole = claims().to_string();
    let body = whole.strip_suffix('}').unwrap();
    for (name, addition) in [
        ("exp", r#""exp":1900000000"#),
        ("sub", r#""sub":"admin""#),
        ("sub", r#""\u0073ub":"admin""#),
        ("actions", r#""scope":[{"actions":["read"],"actions":["write"]}]"#),
        ("jkt", r#""cnf":{"jkt":"a","jkt":"b"}"#),
        ("deep", r#""x":[[{"deep":{"deep":1},"deep":2}]]"#),
    ] {
        let token = target.signed_text(&target.header().to_string(), &format!("{body},{addition}}}"));
        let error = target.refuses(&token);
        assert_refused!(error, TokenError::DuplicateMember { part: "payload", name: found } if found == name);
    }
}

#[test]
fn values_that_break_their_own_rule() {
    let target = target();
    let entry = json!({ "actions": ["read"] });
    let bad: [(&str, Value); 12] = [
        ("jti", json!("1")),
        ("jti", json!("00000000-0000-0000-0000-000000000000")),
        ("scope", json!(["read"])),
        ("scope", json!([{ "actions": ["admin"] }])),
        ("scope", json!([{ "bucket": "photos" }])),
        ("scope", json!([{ "actions": ["read"], "prefix": "../x" }])),
        ("scope", json!([{ "actions": ["read"], "bucket": "Photos" }])),
        ("scope", json!([{ "actions": ["read"], "everything": true }])),
        ("scope", json!(vec![entry; 17])),
        ("cnf", json!({})),
        ("cnf", json!({ "jkt": "short" })),
        ("cnf", json!({ "jkt": target.kid(), "jwk": {} })),
    ];
    for (claim, value) in bad {
        let token = target.with_claims(|c| c[claim] = value.clone());
        assert_refused!(target.refuses(&token), TokenError::ClaimValue { claim: found, .. } if *found == claim);
    }
}
