//! Requests that must not get in, or must get in for what they are, byte by byte on a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::raw::{Answer, Request, send};
use common::sign::{Signer, encode, timestamp};
use common::{ACME, GLOBEX, Key, SESSION, Server};

async fn server() -> Server {
    let server = Server::with_bucket("photos").await;
    put(&server, "/photos/secret", b"top secret").await;
    server
}

async fn put(server: &Server, path: &str, body: &[u8]) {
    let answer = Request::new("PUT", path).body(body).signed(server.address, &Signer::new(ACME)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn get(server: &Server, path: &str) -> Answer {
    Request::new("GET", path).signed(server.address, &Signer::new(ACME)).await
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}\n{}", answer.head, answer.text());
    let id = answer.header("x-amz-request-id").expect("every answer has a request id");
    assert!(answer.text().contains(&format!("<RequestId>{id}</RequestId>")), "{}", answer.text());
}

#[tokio::test]
async fn nobody_gets_in_without_a_signature_of_today() {
    let server = server().await;
    let at = server.address;
    refused(&Request::new("GET", "/photos/secret").unsigned(at).await, 403, "AccessDenied");
    refused(&Request::new("GET", "/").unsigned(at).await, 403, "AccessDenied");
    let v2 = Request::new("GET", "/photos/secret").header("authorization", "AWS AKACME:bm90IGEgc2lnbmF0dXJl");
    let v2 = v2.header("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    refused(&v2.unsigned(at).await, 400, "InvalidRequest");
    let v2 =
        Request::new("GET", "/photos/secret").query("AWSAccessKeyId=AKACME&Expires=99999999999&Signature=x");
    refused(&v2.unsigned(at).await, 400, "InvalidRequest");

    let wrong = Key { secret: "wrong", ..ACME };
    let answer = Request::new("GET", "/photos/secret").signed(at, &Signer::new(wrong)).await;
    refused(&answer, 403, "SignatureDoesNotMatch");
    let unknown = Key { id: "AKNOBODY", ..ACME };
    refused(
        &Request::new("GET", "/photos/secret").signed(at, &Signer::new(unknown)).await,
        403,
        "InvalidAccessKeyId",
    );
    for (offset, code) in [(-1200, "RequestTimeTooSkewed"), (1200, "RequestTimeTooSkewed")] {
        let signer = Signer { timestamp: timestamp(offset), ..Signer::new(ACME) };
        refused(&Request::new("GET", "/photos/secret").signed(at, &signer).await, 403, code);
    }
    let elsewhere = Signer { region: "us-east-1".into(), ..Signer::new(ACME) };
    let answer = Request::new("GET", "/photos/secret").signed(at, &elsewhere).await;
    refused(&answer, 400, "AuthorizationHeaderMalformed");
    assert!(answer.text().contains("mooring-1"), "{}", answer.text());
    let sts = Signer { service: "sts".into(), ..Signer::new(ACME) };
    refused(
        &Request::new("GET", "/photos/secret").signed(at, &sts).await,
        400,
        "AuthorizationHeaderMalformed",
    );
}

#[tokio::test]
async fn a_session_key_is_worth_nothing_without_its_token() {
    let server = server().await;
    let with = |token| Signer::new(Key { token, ..SESSION });
    assert_eq!(get_signed(&server, with(SESSION.token)).await.body, b"top secret");
    refused(&get_signed(&server, with(None)).await, 400, "InvalidToken");
    refused(&get_signed(&server, with(Some("garbage"))).await, 400, "InvalidToken");
    // A static key with a token of whomever.
    let foreign = Signer::new(Key { token: Some("garbage"), ..ACME });
    refused(&get_signed(&server, foreign).await, 400, "InvalidToken");
    // The right token, but not under the signature.
    let slipped = Request::new("GET", "/photos/secret").late("x-amz-security-token", SESSION.token.unwrap());
    refused(&slipped.signed(server.address, &with(None)).await, 403, "AccessDenied");
    // Presigned with and without.
    let host = server.address.to_string();
    for (token, status) in [(SESSION.token, 200), (None, 400), (Some("garbage"), 400)] {
        let query = with(token).presign("GET", "/photos/secret", "60", &[("host", &host)], &[]);
        assert_eq!(
            Request::new("GET", "/photos/secret").query(&query).unsigned(server.address).await.status,
            status
        );
    }
}

async fn get_signed(server: &Server, signer: Signer) -> Answer {
    Request::new("GET", "/photos/secret").signed(server.address, &signer).await
}

#[tokio::test]
async fn a_bearer_token_stands_for_its_owner_and_no_other() {
    let server = server().await;
    let with = |token: &str| {
        let request =
            Request::new("GET", "/photos/secret").header("authorization", &format!("Bearer {token}"));
        request.unsigned(server.address)
    };
    assert_eq!(with("good-bearer").await.body, b"top secret");
    refused(&with("bad-bearer").await, 400, "InvalidToken");
    refused(&with("old-bearer").await, 400, "ExpiredToken");
    let put =
        Request::new("PUT", "/photos/by-bearer").header("authorization", "Bearer good-bearer").body(b"hello");
    assert_eq!(put.unsigned(server.address).await.status, 200);
    let wrong =
        Request::new("PUT", "/photos/by-bearer").header("authorization", "Bearer good-bearer").body(b"hello");
    let wrong = wrong.header("x-amz-content-sha256", &"0".repeat(64));
    refused(&wrong.unsigned(server.address).await, 400, "XAmzContentSHA256Mismatch");
    assert_eq!(get(&server, "/photos/by-bearer").await.body, b"hello");
}

#[tokio::test]
async fn a_presigned_put_cannot_be_turned_into_a_copy_of_a_secret() {
    let server = server().await;
    let host = server.address.to_string();
    let query = Signer::new(ACME).presign("PUT", "/photos/drop", "60", &[("host", &host)], &[]);
    let put = |query: &str| Request::new("PUT", "/photos/drop").query(query);
    let stolen = put(&query).header("x-amz-copy-source", "/photos/secret").unsigned(server.address).await;
    refused(&stolen, 403, "AccessDenied");
    assert!(stolen.text().contains("x-amz-copy-source"));
    refused(&put(&query).header("x-amz-meta-a", "b").unsigned(server.address).await, 403, "AccessDenied");
    refused(&put(&query).header("x-amz-acl", "private").unsigned(server.address).await, 403, "AccessDenied");
    assert_eq!(get(&server, "/photos/drop").await.status, 404);
    assert_eq!(put(&query).body(b"as agreed").unsigned(server.address).await.status, 200);
    assert_eq!(get(&server, "/photos/drop").await.body, b"as agreed");
    // A name that is signed but whose header is left out.
    let both =
        Signer::new(ACME).presign("PUT", "/photos/drop", "60", &[("host", &host), ("x-amz-meta-a", "")], &[]);
    refused(&put(&both).body(b"x").unsigned(server.address).await, 400, "InvalidArgument");
    // Another method than was signed for.
    refused(
        &Request::new("DELETE", "/photos/drop").query(&query).unsigned(server.address).await,
        403,
        "SignatureDoesNotMatch",
    );
}

#[tokio::test]
async fn presigned_urls_end() {
    let server = server().await;
    let host = server.address.to_string();
    let get = |signer: Signer, life: &'static str| {
        let query = signer.presign("GET", "/photos/secret", life, &[("host", &host)], &[]);
        Request::new("GET", "/photos/secret").query(&query).unsigned(server.address)
    };
    assert_eq!(get(Signer::new(ACME), "60").await.body, b"top secret");
    assert_eq!(get(Signer::new(ACME), "604800").await.status, 200);
    for life in ["604801", "31536000", "0", "-5"] {
        refused(&get(Signer::new(ACME), life).await, 400, "AuthorizationQueryParametersError");
    }
    let old = Signer { timestamp: timestamp(-100), ..Signer::new(ACME) };
    refused(&get(old, "60").await, 403, "AccessDenied");
    // Overrides are under the signature.
    let extra = [
        ("response-content-type", "text/x-test"),
        ("response-content-disposition", "attachment; filename=\"a b\""),
    ];
    let query = Signer::new(ACME).presign("GET", "/photos/secret", "60", &[("host", &host)], &extra);
    let answer = Request::new("GET", "/photos/secret").query(&query).unsigned(server.address).await;
    assert_eq!(answer.header("content-type"), Some("text/x-test"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"a b\""));
    let changed = query.replace("x-test", "x-evil").replace("x%2Dtest", "x-evil");
    refused(
        &Request::new("GET", "/photos/secret").query(&changed).unsigned(server.address).await,
        403,
        "SignatureDoesNotMatch",
    );
}

#[tokio::test]
async fn what_we_do_not_serve_is_refused_by_name() {
    let server = server().await;
    let signer = Signer::new(ACME);
    let cases = [
        ("GET", "/photos", "acl=", "acl"),
        ("GET", "/photos", "policy=", "policy"),
        ("GET", "/photos", "lifecycle=", "lifecycle"),
        ("PUT", "/photos", "versioning=", "versioning"),
        ("PUT", "/photos/k", "tagging=", "tagging"),
        ("GET", "/photos/k", "attributes=", "attributes"),
        ("GET", "/photos/k", "torrent=", "torrent"),
        ("GET", "/photos", "location=&policy=", "policy"),
        ("POST", "/photos/k", "restore=", "restore"),
        ("POST", "/photos/k", "select=&select-type=2", "select"),
        ("DELETE", "/photos", "cors=", "cors"),
        ("GET", "/", "x-nonsense=1", "x-nonsense"),
    ];
    for (method, path, query, name) in cases {
        let answer = Request::new(method, path).query(query).signed(server.address, &signer).await;
        refused(&answer, 501, "NotImplemented");
        assert!(answer.text().contains(name), "{method} {path}?{query}: {}", answer.text());
    }
    let headers = [
        ("PUT", "x-amz-tagging", "a=b"),
        ("PUT", "x-amz-acl", "public-read"),
        ("PUT", "x-amz-storage-class", "GLACIER"),
        ("PUT", "x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("PUT", "x-amz-object-lock-mode", "GOVERNANCE"),
        ("PUT", "x-amz-write-offset-bytes", "0"),
        ("PUT", "x-amz-website-redirect-location", "/x"),
        ("GET", "x-amz-expected-bucket-owner", "1"),
        ("GET", "x-amz-anything", "1"),
    ];
    for (method, name, value) in headers {
        let answer =
            Request::new(method, "/photos/k").header(name, value).signed(server.address, &signer).await;
        refused(&answer, 501, "NotImplemented");
        let named = answer.text().contains(name) || answer.text().contains(value);
        assert!(named, "{name}: {}", answer.text());
    }
    let form = Request::new("POST", "/photos")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(b"--x--");
    refused(&form.signed(server.address, &signer).await, 501, "NotImplemented");
    refused(
        &Request::new("POST", "/photos/k").signed(server.address, &signer).await,
        405,
        "MethodNotAllowed",
    );
    let wrong = Request::new("GET", "/photos/secret").query("x-id=PutObject");
    refused(&wrong.signed(server.address, &signer).await, 400, "InvalidArgument");
    let right = Request::new("GET", "/photos/secret").query("x-id=GetObject");
    assert_eq!(right.signed(server.address, &signer).await.status, 200);
}

#[tokio::test]
async fn keys_are_what_they_are() {
    let server = server().await;
    let at = server.address;
    let signer = Signer::new(ACME);
    // Dots are no way out: they are part of the key.
    let path = "/photos/a/../secret";
    put(&server, path, b"dots").await;
    assert_eq!(get(&server, path).await.body, b"dots");
    assert_eq!(get(&server, "/photos/secret").await.body, b"top secret");
    for (path, code) in [
        ("/photos/../../etc/passwd".to_owned(), "NoSuchKey"),
        ("/../photos/secret".to_owned(), "InvalidBucketName"),
        ("/photos/a%00b".to_owned(), "InvalidURI"),
        ("/photos/%FF%FE".to_owned(), "InvalidURI"),
        (format!("/photos/{}", "k".repeat(1025)), "KeyTooLongError"),
        ("/ph%2Fotos/x".to_owned(), "InvalidBucketName"),
        ("/PHOTOS/secret".to_owned(), "InvalidBucketName"),
    ] {
        let answer = Request::new("GET", &path).signed(at, &signer).await;
        assert_eq!(answer.code(), code, "{path}: {}", answer.text());
    }
    let long = format!("/photos/{}", "k/".repeat(512));
    put(&server, &long[..long.len() - 1], b"long").await;
    assert_eq!(get(&server, &long[..long.len() - 1]).await.body, b"long");
    let query = format!("prefix={}", "%FF");
    refused(&Request::new("GET", "/photos").query(&query).signed(at, &signer).await, 400, "InvalidURI");
    // Of another tenant one learns nothing, not even that it is there.
    for path in ["/photos", "/photos/secret", "/nothing-here", "/nothing-here/secret"] {
        let answer = Request::new("GET", path).signed(at, &Signer::new(GLOBEX)).await;
        refused(&answer, 404, "NoSuchBucket");
    }
    let stolen = Request::new("PUT", "/globex-own/x").header("x-amz-copy-source", "/photos/secret");
    server.bucket_of("globex", "globex-own").await;
    refused(&stolen.signed(at, &Signer::new(GLOBEX)).await, 404, "NoSuchBucket");
}

#[tokio::test]
async fn floods_and_contradictions_in_headers_are_refused() {
    let server = server().await;
    let at = server.address;
    let signer = Signer::new(ACME);
    let mut many = Request::new("GET", "/photos/secret");
    for n in 0..110 {
        many = many.late(&format!("x-flood-{n}"), "1");
    }
    refused(&many.signed(at, &signer).await, 400, "RequestHeaderSectionTooLarge");
    let mut more = Request::new("GET", "/photos/secret");
    for n in 0..5000 {
        more = more.late(&format!("x-flood-{n}"), "1");
    }
    assert_eq!(more.signed(at, &signer).await.status, 431);
    let large = Request::new("GET", "/photos/secret").late("x-flood", &"x".repeat(60 << 10));
    refused(&large.signed(at, &signer).await, 400, "RequestHeaderSectionTooLarge");
    let huge = Request::new("GET", "/photos/secret").late("x-flood", &"x".repeat(2 << 20));
    assert_eq!(huge.signed(at, &signer).await.status, 431);
    let meta = Request::new("PUT", "/photos/k").header("x-amz-meta-a", &"x".repeat(2048));
    refused(&meta.signed(at, &signer).await, 400, "MetadataTooLarge");
    let twice = Request::new("GET", "/photos/secret").late("x-amz-date", "20260101T000000Z");
    refused(&twice.signed(at, &signer).await, 400, "InvalidArgument");
    let twice = Request::new("GET", "/photos").query("prefix=a&prefix=b");
    refused(&twice.signed(at, &signer).await, 400, "InvalidArgument");
    let host = at.to_string();
    let query = signer.presign("GET", "/photos/secret", "60", &[("host", &host)], &[]);
    refused(
        &Request::new("GET", "/photos/secret").query(&query).signed(at, &signer).await,
        400,
        "InvalidArgument",
    );
    // The server is as well as before.
    assert_eq!(get(&server, "/photos/secret").await.body, b"top secret");
    assert_eq!(send(at, b"GARBAGE\r\n\r\n", true).await.status, 400);
    assert_eq!(encode("a b"), "a%20b");
}

#[tokio::test]
async fn broken_and_endless_documents_are_refused() {
    let server = server().await;
    let at = server.address;
    let signer = Signer::new(ACME);
    let delete = |body: Vec<u8>| Request::new("POST", "/photos").query("delete=").body(&body);
    let bomb =
        b"<?xml version=\"1.0\"?><!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>\
        <Delete><Object><Key>&b;</Key></Object></Delete>";
    let answer = delete(bomb.to_vec()).signed(at, &signer).await;
    assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text());
    let deep = [b"<Delete>".to_vec(), b"<a>".repeat(100_000)].concat();
    assert_eq!(delete(deep).signed(at, &signer).await.status, 400);
    for bad in ["", "not xml", "<Delete>", "<Delete></Delete>", "<Delete><Object></Object></Delete>"] {
        let answer = delete(bad.as_bytes().to_vec()).signed(at, &signer).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    let object = "<Object><Key>k</Key></Object>";
    let many = format!("<Delete>{}</Delete>", object.repeat(1001)).into_bytes();
    refused(&delete(many).signed(at, &signer).await, 400, "MalformedXML");
    let large = vec![b' '; 5 << 20];
    refused(&delete(large).signed(at, &signer).await, 400, "EntityTooLarge");
    let wrong = delete(b"<Delete><Object><Key>secret</Key></Object></Delete>".to_vec());
    let wrong = wrong.header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    refused(&wrong.signed(at, &signer).await, 400, "BadDigest");
    let wrong = delete(b"<Delete><Object><Key>secret</Key></Object></Delete>".to_vec());
    let wrong = wrong.header("x-amz-checksum-crc32", "AAAAAA==");
    refused(&wrong.signed(at, &signer).await, 400, "BadDigest");
    assert_eq!(get(&server, "/photos/secret").await.body, b"top secret");
}
