//! Attacks through the form: truncation, other serialisations, odd encodings, size.

use mooring_policy::token::{MAX_TOKEN_LEN, TokenError};
use serde_json::json;

use crate::assert_refused;
use crate::forge::{claims, encode, target};

#[test]
fn every_truncation_is_refused() {
    let target = target();
    let token = target.genuine();
    for len in 0..token.len() {
        target.refuses(&token[..len]);
    }
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_refused!(target.refuses(message), TokenError::NotCompact);
    assert_refused!(target.refuses(&format!("{message}.")), TokenError::Signature);
    assert_refused!(target.refuses(&format!("{message}.{}", encode([7; 63]))), TokenError::Signature);
    for bad in ["", ".", "a.b", "a"] {
        assert_refused!(target.refuses(bad), TokenError::NotCompact);
    }
}

#[test]
fn more_or_fewer_parts_than_three() {
    let target = target();
    let token = target.genuine();
    assert_refused!(target.refuses(&format!("{token}.")), TokenError::NotCompact);
    assert_refused!(target.refuses(&format!(".{token}")), TokenError::NotCompact);
    assert_refused!(target.refuses(&format!("{token}.{token}")), TokenError::NotCompact);
    assert_refused!(target.refuses("a.b.c.d.e"), TokenError::NotCompact);
    assert_refused!(target.refuses(".."), TokenError::Json { part: "header", .. });
}

#[test]
fn the_json_serialisation_is_not_accepted() {
    let target = target();
    let token = target.genuine();
    let parts: Vec<&str> = token.split('.').collect();
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
    assert_refused!(target.refuses(&flattened.to_string()), TokenError::NotCompact);
    let signatures = json!([{ "protected": parts[0], "signature": parts[2] }]);
    let general = json!({ "payload": parts[1], "signatures": signatures });
    assert_refused!(target.refuses(&general.to_string()), TokenError::NotCompact);
    // The polyglot that some libraries took: the compact form hidden between braces.
    let polyglot = format!(r#"{{"x":"{token}","protected":"{}"}}"#, parts[0]);
    assert_refused!(target.refuses(&polyglot), TokenError::Base64 { part: "header", .. });
}

#[test]
fn every_part_has_one_spelling() {
    let target = target();
    let token = target.genuine();
    let parts: Vec<&str> = token.split('.').collect();
    for (at, part) in ["header", "payload", "signature"].into_iter().enumerate() {
        for strange in ["=", "==", " ", "\n", "+", "/", "%", "\u{e4}", "\0"] {
            let mut changed: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            changed[at].push_str(strange);
            let error = target.refuses(&changed.join("."));
            assert_refused!(error, TokenError::Base64 { part: found, .. } if *found == part);
        }
    }
    // 64 bytes leave four unused bits in the last digit: only zeros will do.
    let last = token.chars().last().unwrap();
    assert!("AQgw".contains(last));
    let stray = format!("{}{}", &token[..token.len() - 1], char::from(u8::try_from(last).unwrap() + 1));
    assert_refused!(target.refuses(&stray), TokenError::Base64 { part: "signature", .. });
}

#[test]
fn white_space_and_schemes_around_a_token() {
    let target = target();
    let token = target.genuine();
    for bad in
        [format!(" {token}"), format!("{token}\n"), format!("Bearer {token}"), format!("\u{feff}{token}")]
    {
        assert_refused!(target.refuses(&bad), TokenError::Base64 { .. });
    }
}

#[test]
fn parts_that_are_no_objects() {
    let target = target();
    let good = target.header().to_string();
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let bad = [
        "",
        "null",
        "[]",
        "\"EdDSA\"",
        "1",
        "{",
        "{}x",
        "{}{}",
        "{'alg':'none'}",
        "{\"a\":1,}",
        "\u{feff}{}",
        &deep,
    ];
    for text in bad {
        let error = target.refuses(&target.signed_text(text, &claims().to_string()));
        assert_refused!(error, TokenError::Json { part: "header", .. });
        let error = target.refuses(&target.signed_text(&good, text));
        assert_refused!(error, TokenError::Json { part: "payload", .. });
    }
    let no_text = format!("{}.{}.{}", encode(b"{\"alg\":\"\xff\"}"), encode("{}"), encode([0; 64]));
    assert_refused!(target.refuses(&no_text), TokenError::Json { part: "header", .. });
}

#[test]
fn a_token_is_not_read_beyond_its_bound() {
    let target = target();
    let filled = |len: usize| target.with_claims(|c| c["x"] = json!("x".repeat(len)));
    assert_refused!(target.refuses(&filled(MAX_TOKEN_LEN)), TokenError::TooLong { .. });
    assert_refused!(target.refuses(&"a.".repeat(1 << 20)), TokenError::TooLong { len } if *len == 2 << 20);
    let exact = "a".repeat(MAX_TOKEN_LEN);
    assert_refused!(target.refuses(&exact), TokenError::NotCompact);
    assert_refused!(target.refuses(&format!("{exact}a")), TokenError::TooLong { .. });
}
