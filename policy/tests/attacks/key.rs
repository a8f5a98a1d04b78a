//! Attacks through the key id, and signatures of other keys.

use aws_lc_rs::signature::Ed25519KeyPair;
use mooring_policy::token::{MAX_TOKEN_LEN, TokenError};
use serde_json::json;

use crate::assert_refused;
use crate::forge::{claims, encode, target};

#[test]
fn a_key_id_is_nothing_but_a_key_of_a_map() {
    let target = target();
    let kid = target.kid();
    let tricks = [
        "",
        "0",
        "/dev/null",
        "../../../../dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "file:///dev/null",
        "https://attacker.example/key",
        "x' UNION SELECT 'secret'; --",
        "' OR '1'='1",
        "key\0",
        "|sleep 10",
        "${jndi:ldap://attacker.example}",
        "*",
        "null",
    ];
    let near = [
        kid.to_lowercase(),
        format!("{kid}="),
        format!("{kid} "),
        format!("./{kid}"),
        kid[1..].to_owned(),
        encode([0; 32]),
        encode([0; 31]),
    ];
    for trick in tricks.into_iter().map(str::to_owned).chain(near) {
        let token = target.signed(&json!({ "typ": "vm+jwt", "alg": "EdDSA", "kid": trick }), &claims());
        let shown: String = trick.chars().take(48).collect();
        assert_refused!(target.refuses(&token), TokenError::UnknownKey(found) if *found == shown);
    }
}

#[test]
fn a_huge_key_id_is_not_repeated() {
    let target = target();
    let header = json!({ "typ": "vm+jwt", "alg": "EdDSA", "kid": "k".repeat(4000) });
    let error = target.refuses(&target.signed(&header, &claims()));
    assert!(error.to_string().len() < 200);
    assert_refused!(error, TokenError::UnknownKey(found) if found.len() == 48);
    let header = json!({ "typ": "vm+jwt", "alg": "EdDSA", "kid": "k".repeat(MAX_TOKEN_LEN) });
    assert_refused!(target.refuses(&target.signed(&header, &claims())), TokenError::TooLong { .. });
}

#[test]
fn a_key_id_that_is_missing_or_no_text() {
    let target = target();
    let token = target.signed(&json!({ "typ": "vm+jwt", "alg": "EdDSA" }), &claims());
    assert_refused!(target.refuses(&token), TokenError::MissingHeader("kid"));
    for kid in [json!(null), json!(0), json!([target.kid()]), json!({ "kid": target.kid() })] {
        let token = target.signed(&json!({ "typ": "vm+jwt", "alg": "EdDSA", "kid": kid }), &claims());
        assert_refused!(target.refuses(&token), TokenError::HeaderType("kid"));
    }
}

#[test]
fn another_key_does_not_sign_for_ours() {
    let target = target();
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let message = format!("{}.{}", encode(target.header().to_string()), encode(claims().to_string()));
    let token = format!("{message}.{}", encode(stranger.sign(message.as_bytes())));
    assert_refused!(target.refuses(&token), TokenError::Signature);
}

#[test]
fn no_bit_of_a_genuine_token_can_be_changed() {
    let target = target();
    let token = target.genuine();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        target.refuses(&changed);
    }
}

#[test]
fn signatures_that_are_none() {
    let target = target();
    let token = target.genuine();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let half = encode([7; 32]);
    let padded = format!("{signature}AAAA");
    // The order of the curve's group, added to the second half: valid for verifiers that do not reduce (RFC 8032, 5.1.7).
    let mut twisted =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    add_group_order(&mut twisted[32..]);
    for bad in ["", &half, &padded, &encode([0; 64]), &encode([0xff; 64]), &encode(&twisted)] {
        assert_refused!(target.refuses(&format!("{message}.{bad}")), TokenError::Signature);
    }
}

/// Adds L = 2^252 + 27742317777372353535851937790883648493, little-endian.
fn add_group_order(scalar: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, order) in scalar.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}
