#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderName, HeaderValue};

use super::*;

const SIG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parse(headers: &[(&str, &str)], query: &str) -> Result<Claim, &'static str> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let query = Query::parse(query).unwrap();
    Claim::parse(&map, &query, "mooring-1").map_err(|refusal| refusal.code().0)
}

fn header(scope: &str, signed: &str, extra: &[(&str, &str)]) -> Result<Claim, &'static str> {
    let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={SIG}");
    let mut headers =
        vec![("authorization", value.as_str()), ("host", "h"), ("x-amz-date", "20260101T000000Z")];
    headers.extend_from_slice(extra);
    parse(&headers, "")
}

fn presigned(expires: &str, signed: &str, extra: &[(&str, &str)]) -> Result<Claim, &'static str> {
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260101%2Fmooring-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20260101T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders={signed}&X-Amz-Signature={SIG}"
    );
    parse(extra, &query)
}

const SCOPE: &str = "AK/20260101/mooring-1/s3/aws4_request";

#[test]
fn a_good_signature_is_read() {
    let Claim::Signature(claim) = header(SCOPE, "host;x-amz-date", &[]).unwrap() else {
        panic!("no signature")
    };
    assert_eq!((claim.access_key.as_str(), claim.presigned), ("AK", false));
    let Claim::Signature(claim) = presigned("604800", "host", &[("host", "h")]).unwrap() else {
        panic!("no signature")
    };
    assert!(claim.presigned && claim.token.is_none());
}

#[test]
fn the_scope_must_be_ours() {
    let of = |scope| header(scope, "host;x-amz-date", &[]).unwrap_err();
    assert_eq!(of("AK/20260101/us-east-1/s3/aws4_request"), "AuthorizationHeaderMalformed");
    assert_eq!(of("AK/20260101/mooring-1/sts/aws4_request"), "AuthorizationHeaderMalformed");
    assert_eq!(of("AK/20260102/mooring-1/s3/aws4_request"), "InvalidArgument");
    assert_eq!(of("AK/20260101/mooring-1/s3/aws4_request/x"), "InvalidArgument");
    assert_eq!(of("/20260101/mooring-1/s3/aws4_request"), "InvalidArgument");
}

#[test]
fn what_could_change_the_request_must_be_signed() {
    assert_eq!(header(SCOPE, "host", &[]).unwrap_err(), "AccessDenied");
    assert_eq!(header(SCOPE, "x-amz-date", &[]).unwrap_err(), "AccessDenied");
    let copy = [("host", "h"), ("x-amz-copy-source", "/b/k")];
    assert_eq!(presigned("60", "host", &copy).unwrap_err(), "AccessDenied");
    assert!(presigned("60", "host;x-amz-copy-source", &copy).is_ok());
    assert!(presigned("60", "host", &[("host", "h"), ("x-amz-sdk-checksum-algorithm", "CRC32")]).is_ok());
    assert_eq!(header(SCOPE, "host;x-amz-date;x-amz-meta-a", &[]).unwrap_err(), "InvalidArgument");
}

#[test]
fn old_double_and_eternal_signatures_are_refused() {
    assert_eq!(parse(&[("authorization", "AWS AK:abc=")], "").unwrap_err(), "InvalidRequest");
    assert_eq!(parse(&[], "AWSAccessKeyId=AK&Signature=x&Expires=1").unwrap_err(), "InvalidRequest");
    assert_eq!(
        parse(&[("authorization", "AWS4-HMAC-SHA256 x")], "X-Amz-Signature=1").unwrap_err(),
        "InvalidArgument"
    );
    for life in ["604801", "31536000", "0", "-1", "+1", "1e9", ""] {
        assert_eq!(
            presigned(life, "host", &[("host", "h")]).unwrap_err(),
            "AuthorizationQueryParametersError",
            "{life}"
        );
    }
    assert_eq!(parse(&[], "").unwrap_err(), "AccessDenied");
    assert_eq!(parse(&[("authorization", "AWS4-ECDSA-P256-SHA256 x")], "").unwrap_err(), "NotImplemented");
}

#[test]
fn tokens_are_never_printed() {
    let claim = parse(&[("authorization", "Bearer s3cr3t")], "").unwrap();
    assert!(!format!("{claim:?}").contains("s3cr3t"));
}
