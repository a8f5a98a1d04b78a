#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::rng::SeededRandom;

fn rule<T: FromStr<Err = IdError> + fmt::Debug>(text: &str) -> IdRule {
    text.parse::<T>().unwrap_err().rule()
}

#[test]
fn tenant_names_are_dns_labels() {
    for good in ["a", "0", "acme", "a-b", "a--b", "9lives", &"x".repeat(63)] {
        assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
    }
    assert_eq!(rule::<TenantId>(""), IdRule::TooShort(1));
    assert_eq!(rule::<TenantId>(&"x".repeat(64)), IdRule::TooLong(63));
    for bad in ["Acme", "a.b", "a_b", "a/b", "a\0b", "ä", "a b", "..", "a\n"] {
        assert_eq!(rule::<TenantId>(bad), IdRule::Character, "{bad:?}");
    }
    for bad in ["-", "-a", "a-"] {
        assert_eq!(rule::<VmId>(bad), IdRule::Edge, "{bad:?}");
    }
}

#[test]
fn bucket_names_follow_s3_without_dots() {
    assert_eq!("photos-2026".parse::<BucketName>().unwrap().to_string(), "photos-2026");
    assert_eq!(rule::<BucketName>("ab"), IdRule::TooShort(3));
    assert_eq!(rule::<BucketName>("my.bucket"), IdRule::Character);
    assert_eq!(rule::<ShareName>("xn--bucket"), IdRule::Punycode);
    assert!("axn--bucket".parse::<BucketName>().is_ok());
}

#[test]
fn errors_name_kind_text_and_rule() {
    let error = "Photos".parse::<BucketName>().unwrap_err();
    assert_eq!(error.to_string(), "bucket \"Photos\" is not valid: only a-z, 0-9 and '-' are allowed");
    let long = "é".repeat(10_000).parse::<BucketName>().unwrap_err();
    assert!(long.to_string().len() < 200, "an error does not repeat what a stranger sent in full");
}

#[test]
fn grant_ids_have_one_spelling() {
    let id = GrantId::random(&SeededRandom::new(7));
    let text = id.to_string();
    assert_eq!(text.parse::<GrantId>().unwrap(), id);
    for bad in [
        text.to_uppercase(),
        text.replace('-', ""),
        format!("{{{text}}}"),
        format!("urn:uuid:{text}"),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "018f4d4e-1111-7222-8333-444455556666".to_owned(),
    ] {
        assert_eq!(rule::<GrantId>(&bad), IdRule::Uuid, "{bad}");
    }
}

#[test]
fn volumes_are_hexadecimal_and_counters_decimal() {
    assert_eq!(VolumeId(0xbeef).to_string(), "000000000000beef");
    assert_eq!("000000000000beef".parse::<VolumeId>().unwrap(), VolumeId(0xbeef));
    for bad in ["", "+1", "0x1", "g", "00000000000000001", "-1"] {
        assert_eq!(rule::<VolumeId>(bad), IdRule::Hex, "{bad:?}");
    }
    assert_eq!("42".parse::<Generation>().unwrap(), Generation(42));
    for bad in ["", "+1", "-1", "0x1", "18446744073709551616", "1 "] {
        assert_eq!(rule::<Epoch>(bad), IdRule::Decimal, "{bad:?}");
    }
    assert_eq!(Epoch(u64::MAX).next(), None);
}

#[test]
fn names_serialise_as_strings_and_counters_as_numbers() {
    let value = ("acme".parse::<TenantId>().unwrap(), VolumeId(9), Generation(3));
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(json, r#"["acme",9,3]"#);
    assert_eq!(serde_json::from_str::<(TenantId, VolumeId, Generation)>(&json).unwrap(), value);
    assert!(serde_json::from_str::<TenantId>(r#""No""#).unwrap_err().to_string().contains("only a-z"));
    assert!(serde_json::from_str::<TenantId>("7").is_err());
    assert!(serde_json::from_str::<Generation>(r#""7""#).is_err());
    assert!(serde_json::from_str::<Generation>("-7").is_err());
}
