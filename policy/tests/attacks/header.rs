//! Attacks through the header: algorithm confusion, keys brought along, types mixed up.

use aws_lc_rs::hmac;
use mooring_policy::token::TokenError;
use serde_json::{Value, json};

use crate::assert_refused;
use crate::forge::{claims, encode, target};

#[test]
fn no_algorithm_by_any_spelling() {
    let target = target();
    for spelling in ["none", "None", "NONE", "nOnE", "none ", " none", "", "null", "NonE\u{0}"] {
        let header = json!({ "typ": "vm+jwt", "alg": spelling, "kid": target.kid() });
        let message = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
        for signature in ["".to_owned(), encode([0; 64]), encode("x")] {
            let token = format!("{message}.{signature}");
            assert_refused!(target.refuses(&token), TokenError::Algorithm(found) if found == spelling);
        }
        let genuinely_signed = target.signed(&header, &claims());
        assert_refused!(target.refuses(&genuinely_signed), TokenError::Algorithm(_));
    }
}

#[test]
fn the_public_key_is_no_shared_secret() {
    let target = target();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, target.public_key())
    );
    let secrets =
        [target.public_key(), encode(target.public_key()).into_bytes(), pem.into_bytes(), Vec::new()];
    for (name, algorithm) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for secret in &secrets {
            let header = json!({ "typ": "vm+jwt", "alg": name, "kid": target.kid() });
            let message = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
            let token = format!("{message}.{}", encode(tag));
            assert_refused!(target.refuses(&token), TokenError::Algorithm(found) if found == name);
        }
    }
}

#[test]
fn the_right_algorithm_with_a_mac_for_a_signature() {
    let target = target();
    let message = format!("{}.{}", encode(target.header().to_string()), encode(claims().to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA512, &target.public_key());
    let token = format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes())));
    assert_refused!(target.refuses(&token), TokenError::Signature);
}

#[test]
fn other_algorithms_and_spellings_of_ours() {
    let target = target();
    for name in ["RS256", "PS256", "ES256", "ES512", "Ed25519", "Ed448", "eddsa", "EDDSA", "EdDSA ", "dir"] {
        let token = target.signed(&json!({ "typ": "vm+jwt", "alg": name, "kid": target.kid() }), &claims());
        assert_refused!(target.refuses(&token), TokenError::Algorithm(found) if found == name);
    }
    for alg in [json!(null), json!(1), json!(["EdDSA"]), json!({ "alg": "EdDSA" }), json!(true)] {
        let token = target.signed(&json!({ "typ": "vm+jwt", "alg": alg, "kid": target.kid() }), &claims());
        assert_refused!(target.refuses(&token), TokenError::HeaderType("alg"));
    }
    let token = target.signed(&json!({ "typ": "vm+jwt", "kid": target.kid() }), &claims());
    assert_refused!(target.refuses(&token), TokenError::MissingHeader("alg"));
}

#[test]
fn nobody_brings_a_key_along() {
    let target = target();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(target.public_key()) });
    let strangers: [(&str, Value); 13] = [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/keys.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("url", json!("https://attacker.example")),
        ("KID", json!(target.kid())),
    ];
    for (name, value) in strangers {
        let mut header = target.header();
        header[name] = value;
        // Even signed with the realm's own key.
        let token = target.signed(&header, &claims());
        assert_refused!(target.refuses(&token), TokenError::UnknownHeader(found) if found == name);
    }
}

#[test]
fn the_type_is_the_one_wanted() {
    let target = target();
    for typ in ["JWT", "jwt", "grant+jwt", "at+jwt", "VM+JWT", "application/vm+jwt", ""] {
        let token = target.signed(&json!({ "typ": typ, "alg": "EdDSA", "kid": target.kid() }), &claims());
        assert_refused!(target.refuses(&token), TokenError::Type { expected: "vm+jwt", found } if found == typ);
    }
    let token = target.signed(&json!({ "alg": "EdDSA", "kid": target.kid() }), &claims());
    assert_refused!(target.refuses(&token), TokenError::MissingHeader("typ"));
    let token = target.signed(&json!({ "typ": 1, "alg": "EdDSA", "kid": target.kid() }), &claims());
    assert_refused!(target.refuses(&token), TokenError::HeaderType("typ"));
}

#[test]
fn header_members_do_not_come_twice() {
    let target = target();
    let kid = target.kid();
    for (name, header) in [
        ("alg", format!(r#"{{"typ":"vm+jwt","alg":"none","alg":"EdDSA","kid":"{kid}"}}"#)),
        ("alg", format!(r#"{{"typ":"vm+jwt","alg":"EdDSA","kid":"{kid}","\u0061lg":"none"}}"#)),
        ("kid", format!(r#"{{"typ":"vm+jwt","kid":"x","alg":"EdDSA","kid":"{kid}"}}"#)),
        ("typ", format!(r#"{{"typ":"grant+jwt","typ":"vm+jwt","alg":"EdDSA","kid":"{kid}"}}"#)),
    ] {
        let error = target.refuses(&target.signed_text(&header, &claims().to_string()));
        assert_refused!(error, TokenError::DuplicateMember { part: "header", name: found } if found == name);
    }
}
