#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn covers_whole_components_only() {
    let photos = prefix("photos/2026/");
    for inside in [
        "photos/2026",
        "photos/2026/",
        "photos/2026/a",
        "photos/2026//a",
        "photos/2026/a/b/c",
        "photos/2026/..a",
    ] {
        assert!(photos.covers(inside.as_bytes()), "{inside}");
    }
    for outside in [
        "",
        "photos",
        "photos/",
        "photos/2026-private",
        "photos/20260",
        "photos/202",
        "Photos/2026",
        "/photos/2026",
        "photos//2026",
        "./photos/2026",
        "x/photos/2026",
        "photos/2026\0",
        "photos\\2026",
        "photos%2f2026",
    ] {
        assert!(!photos.covers(outside.as_bytes()), "{outside:?}");
    }
}

#[test]
fn no_key_walks_out_of_a_prefix() {
    let photos = prefix("photos/2026");
    for walk in [
        "photos/2026/..",
        "photos/2026/../secret",
        "photos/2026/a/../../..",
        "photos/2026/./a",
        "photos/2026/.",
    ] {
        assert!(!photos.covers(walk.as_bytes()), "{walk}");
        assert!(Prefix::WHOLE_BUCKET.covers(walk.as_bytes()), "a bucket holds whatever key it holds");
    }
    assert!(!photos.covers(&photos.join(b"../secret")));
}

#[test]
fn text_that_is_no_prefix() {
    for (text, error) in [
        ("/", PrefixError::EmptyComponent),
        ("/photos", PrefixError::EmptyComponent),
        ("photos//2026", PrefixError::EmptyComponent),
        ("photos/2026//", PrefixError::EmptyComponent),
        ("photos/../2026", PrefixError::DotComponent),
        (".", PrefixError::DotComponent),
        ("a\0b", PrefixError::Nul),
        (&"x".repeat(256), PrefixError::ComponentTooLong),
        (&"x/".repeat(600), PrefixError::TooLong),
    ] {
        let expected = if text == "/" { Ok(Prefix::WHOLE_BUCKET) } else { Err(error) };
        assert_eq!(text.parse::<Prefix>(), expected, "{text:?}");
    }
}

#[test]
fn join_and_strip_are_inverse() {
    let photos = prefix("photos/2026");
    assert_eq!(&photos.join(b"a.jpg")[..], b"photos/2026/a.jpg");
    assert_eq!(photos.strip(b"photos/2026/a.jpg"), Some(&b"a.jpg"[..]));
    assert_eq!(photos.strip(b"photos/2026"), Some(&b""[..]));
    assert_eq!(photos.strip(b"photos/2026/"), Some(&b""[..]));
    assert_eq!(photos.strip(b"photos/2026-private"), None);
    assert_eq!(Prefix::WHOLE_BUCKET.strip(b"/odd"), Some(&b"/odd"[..]));
    assert_eq!(&Prefix::WHOLE_BUCKET.join(b"a")[..], b"a");
    assert_eq!(photos.child(&prefix("may/")).unwrap(), prefix("photos/2026/may"));
    assert_eq!(photos.child(&Prefix::WHOLE_BUCKET).unwrap(), photos);
}

#[test]
fn serialised_form_keeps_every_byte() {
    for bytes in [
        &b""[..],
        b"photos/2026",
        b"50%off",
        "f\u{00e9}te".as_bytes(),
        b"bad\xff\xfe/x",
        b"new\nline",
        b"%41",
    ] {
        let original = Prefix::new(bytes).unwrap();
        let json = serde_json::to_string(&original).unwrap();
        assert_eq!(serde_json::from_str::<Prefix>(&json).unwrap(), original, "{json}");
    }
    assert_eq!(serde_json::to_string(&prefix("photos/2026")).unwrap(), r#""photos/2026/""#);
    for bad in [r#""a%""#, r#""a%4""#, r#""a%zz""#, r#""a%00b""#, r#""%2e%2e/a""#, "7", "null"] {
        assert!(serde_json::from_str::<Prefix>(bad).is_err(), "{bad}");
    }
}
