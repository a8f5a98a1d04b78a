//! Objects through a current SDK with its own defaults, on a real volume.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, MetadataDirective, ObjectIdentifier};
use common::{ACME, Server, bytes};
use mooring_protocol::types::{Ino, Name, NewNode};
use mooring_store::api::Tree;

async fn put(client: &Client, key: &str, body: impl Into<Vec<u8>>) -> String {
    let body = ByteStream::from(body.into());
    let put = client.put_object().bucket("photos").key(key).body(body).send().await.unwrap();
    put.e_tag().unwrap().trim_matches('"').to_owned()
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket("photos").key(key).send().await.unwrap();
    got.body.collect().await.unwrap().to_vec()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// The code of a failure.
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, E>) -> String {
    let error = result.expect_err("it must fail");
    error.code().map_or_else(|| format!("{error:?}"), str::to_owned)
}

#[tokio::test]
async fn buckets_come_and_go() {
    let server = Server::start().await;
    let client = server.client(ACME);
    client.create_bucket().bucket("photos").send().await.unwrap();
    client.create_bucket().bucket("videos").send().await.unwrap();
    assert_eq!(code(client.create_bucket().bucket("photos").send().await), "BucketAlreadyOwnedByYou");
    assert_eq!(code(client.create_bucket().bucket("no.dots.here").send().await), "InvalidBucketName");
    let names = |list: aws_sdk_s3::operation::list_buckets::ListBucketsOutput| {
        list.buckets().iter().map(|b| b.name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(client.list_buckets().send().await.unwrap()), ["photos", "videos"]);
    let page = client.list_buckets().max_buckets(1).send().await.unwrap();
    let token = page.continuation_token().unwrap().to_owned();
    assert_eq!(names(page), ["photos"]);
    assert_eq!(names(client.list_buckets().continuation_token(token).send().await.unwrap()), ["videos"]);
    let head = client.head_bucket().bucket("photos").send().await.unwrap();
    assert_eq!(head.bucket_region(), Some("mooring-1"));
    let location = client.get_bucket_location().bucket("photos").send().await.unwrap();
    assert_eq!(location.location_constraint().unwrap().as_str(), "mooring-1");
    let versioning = client.get_bucket_versioning().bucket("photos").send().await.unwrap();
    assert!(versioning.status().is_none());
    put(&client, "k", "v").await;
    assert_eq!(code(client.delete_bucket().bucket("photos").send().await), "BucketNotEmpty");
    client.delete_object().bucket("photos").key("k").send().await.unwrap();
    client.delete_bucket().bucket("photos").send().await.unwrap();
    assert!(client.head_bucket().bucket("photos").send().await.is_err());
    assert_eq!(code(client.list_objects_v2().bucket("photos").send().await), "NoSuchBucket");
}

#[tokio::test]
async fn an_object_keeps_its_bytes_headers_and_metadata() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let put = client
        .put_object()
        .bucket("photos")
        .key("a/b c+ü.txt")
        .body(ByteStream::from_static(b"hello"))
        .content_type("text/plain; charset=utf-8")
        .cache_control("no-cache")
        .content_disposition("attachment")
        .content_language("en")
        .content_encoding("identity")
        .expires(DateTime::from_secs(2_000_000_000))
        .metadata("one", "1")
        .metadata("two", "zwei ü")
        .send()
        .await
        .unwrap();
    assert_eq!(put.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    assert_eq!(put.checksum_crc32(), Some("NhCmhg=="));
    let head = client.head_object().bucket("photos").key("a/b c+ü.txt").send().await.unwrap();
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.content_type(), Some("text/plain; charset=utf-8"));
    assert_eq!(head.cache_control(), Some("no-cache"));
    assert_eq!(head.content_disposition(), Some("attachment"));
    assert_eq!(head.content_language(), Some("en"));
    assert_eq!(head.content_encoding(), Some("identity"));
    assert_eq!(head.expires_string(), Some("Wed, 18 May 2033 03:33:20 GMT"));
    assert_eq!(head.metadata().unwrap()["one"], "1");
    assert!(head.last_modified().unwrap().secs() > 1_700_000_000);
    let got = client.get_object().bucket("photos").key("a/b c+ü.txt").checksum_mode(ChecksumMode::Enabled);
    let got = got.send().await.unwrap();
    assert_eq!(got.checksum_crc32(), Some("NhCmhg=="));
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"hello");
    assert_eq!(code(client.get_object().bucket("photos").key("nothing").send().await), "NoSuchKey");
    assert_eq!(code(client.get_object().bucket("photos").key("a").send().await), "NoSuchKey");
}

#[tokio::test]
async fn sizes_from_nothing_to_many_batches_come_back() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    for size in [0, 1, 4095, 65_537, 1 << 20, (1 << 20) + 1, (9 << 20) + 12_345] {
        let body = bytes(size, size as u64);
        put(&client, "k", body.clone()).await;
        assert!(get(&client, "k").await == body, "{size}");
    }
    let body = bytes((9 << 20) + 12_345, 9);
    put(&client, "k", body.clone()).await;
    for (range, want) in [
        ("bytes=0-0", &body[..1]),
        ("bytes=100-5000000", &body[100..5_000_001]),
        ("bytes=9437000-", &body[9_437_000..]),
        ("bytes=-5", &body[body.len() - 5..]),
        ("bytes=9449000-99999999", &body[9_449_000..]),
    ] {
        let got = client.get_object().bucket("photos").key("k").range(range).send().await.unwrap();
        assert!(got.content_range().unwrap().ends_with(&format!("/{}", body.len())), "{range}");
        assert_eq!(got.content_length(), Some(want.len() as i64));
        assert!(got.body.collect().await.unwrap().to_vec() == want, "{range}");
    }
    let beyond = client.get_object().bucket("photos").key("k").range("bytes=99999999-").send().await;
    assert_eq!(code(beyond), "InvalidRange");
}

#[tokio::test]
async fn every_checksum_is_verified_kept_and_told() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let body = bytes(100_000, 4);
        let put = client.put_object().bucket("photos").key("k").checksum_algorithm(algorithm.clone());
        put.body(ByteStream::from(body.clone())).send().await.unwrap();
        let head = client.head_object().bucket("photos").key("k").checksum_mode(ChecksumMode::Enabled);
        let head = head.send().await.unwrap();
        let told = [
            head.checksum_crc32(),
            head.checksum_crc32_c(),
            head.checksum_crc64_nvme(),
            head.checksum_sha1(),
            head.checksum_sha256(),
        ];
        assert_eq!(told.iter().flatten().count(), 1, "{algorithm:?}: {told:?}");
        // The SDK verifies what it reads against the checksum it is told.
        assert!(get(&client, "k").await == body);
    }
}

#[tokio::test]
async fn conditions_decide_reads_and_writes() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let etag = put(&client, "k", "one").await;
    let get = || client.get_object().bucket("photos").key("k");
    assert!(get().if_match(&etag).send().await.is_ok());
    assert_eq!(code(get().if_match("\"x\"").send().await), "PreconditionFailed");
    let not_modified = get().if_none_match(format!("\"{etag}\"")).send().await.unwrap_err();
    assert_eq!(not_modified.raw_response().unwrap().status().as_u16(), 304);
    assert!(get().if_none_match("\"x\"").send().await.is_ok());
    let long_ago = DateTime::from_secs(1_000_000);
    let far_off = DateTime::from_secs(4_000_000_000);
    assert!(get().if_modified_since(long_ago).send().await.is_ok());
    let not_modified = get().if_modified_since(far_off).send().await.unwrap_err();
    assert_eq!(not_modified.raw_response().unwrap().status().as_u16(), 304);
    assert_eq!(code(get().if_unmodified_since(long_ago).send().await), "PreconditionFailed");

    let put = |key: &str| client.put_object().bucket("photos").key(key).body(ByteStream::from_static(b"two"));
    assert_eq!(code(put("k").if_none_match("*").send().await), "PreconditionFailed");
    assert!(put("new").if_none_match("*").send().await.is_ok());
    assert_eq!(code(put("k").if_match("\"x\"").send().await), "PreconditionFailed");
    assert!(put("k").if_match(format!("\"{etag}\"")).send().await.is_ok());
    assert_eq!(self::get(&client, "k").await, b"two");
    let delete = client.delete_object().bucket("photos").key("k");
    assert_eq!(code(delete.clone().if_match("\"x\"").send().await), "PreconditionFailed");
    delete.if_match("*").send().await.unwrap();
    // Eight at once: one wins.
    let races = (0..8).map(|_| put("race").if_none_match("*").send());
    let won = futures::future::join_all(races).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn listings_page_roll_up_and_encode() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let mut keys = vec![
        "a".to_owned(),
        "a/".into(),
        "a b+c".into(),
        "d/e/f".into(),
        "d/g".into(),
        "d-x".into(),
        "ü".into(),
    ];
    keys.extend((0..30).map(|n| format!("many/{n:02}")));
    for key in &keys {
        put(&client, key, if key.ends_with('/') { "" } else { "x" }).await;
    }
    keys.sort();
    let all = client.list_objects_v2().bucket("photos").send().await.unwrap();
    let listed: Vec<_> = all.contents().iter().map(|o| o.key().unwrap().to_owned()).collect();
    assert_eq!(listed, keys);
    assert!(all.contents().iter().all(|o| o.e_tag().is_some() && o.size().is_some() && o.owner().is_none()));
    let owned = client.list_objects_v2().bucket("photos").fetch_owner(true).send().await.unwrap();
    assert_eq!(owned.contents()[0].owner().unwrap().id(), Some("acme"));

    // In pages of three, keys and prefixes each come once and in order.
    let (mut got, mut token) = (Vec::new(), None);
    loop {
        let page = client.list_objects_v2().bucket("photos").delimiter("/").max_keys(3);
        let page = page.set_continuation_token(token).send().await.unwrap();
        assert_eq!(page.key_count().unwrap() as usize, page.contents().len() + page.common_prefixes().len());
        got.extend(page.contents().iter().map(|o| o.key().unwrap().to_owned()));
        got.extend(page.common_prefixes().iter().map(|p| p.prefix().unwrap().to_owned()));
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            break;
        }
    }
    got.sort();
    assert_eq!(got, ["a", "a b+c", "a/", "d-x", "d/", "many/", "ü"]);

    let v1 = client.list_objects().bucket("photos").delimiter("/").max_keys(2).send().await.unwrap();
    assert_eq!(v1.is_truncated(), Some(true));
    let next = client.list_objects().bucket("photos").delimiter("/").marker(v1.next_marker().unwrap());
    let next = next.send().await.unwrap();
    assert_eq!(next.contents().len() + next.common_prefixes().len(), 5);

    let encoded = client.list_objects_v2().bucket("photos").prefix("a b");
    let encoded = encoded.encoding_type(aws_sdk_s3::types::EncodingType::Url).send().await.unwrap();
    assert_eq!(encoded.contents()[0].key(), Some("a%20b%2Bc"));
    let after = client.list_objects_v2().bucket("photos").start_after("many/28").send().await.unwrap();
    assert_eq!(after.contents().len(), 2);
    assert_eq!(
        code(client.list_objects_v2().bucket("photos").continuation_token("x").send().await),
        "InvalidArgument"
    );
    let none = client.list_objects_v2().bucket("photos").max_keys(0).send().await.unwrap();
    assert_eq!((none.is_truncated(), none.contents().len()), (Some(false), 0));
    let versions = client.list_object_versions().bucket("photos").prefix("d/").send().await.unwrap();
    assert!(
        versions.versions().iter().all(|v| v.version_id() == Some("null") && v.is_latest() == Some(true))
    );
    assert_eq!(versions.versions().len(), 2);
}

#[tokio::test]
async fn many_are_deleted_at_once_and_each_is_told_of() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    for n in 0..20 {
        put(&client, &format!("x/{n}"), "x").await;
    }
    let object = |key: String, version: Option<&str>| {
        ObjectIdentifier::builder().key(key).set_version_id(version.map(str::to_owned)).build().unwrap()
    };
    let mut objects: Vec<_> = (0..20).map(|n| object(format!("x/{n}"), Some("null"))).collect();
    objects.push(object("not-there".into(), None));
    objects.push(object("x/1".into(), Some("no-such-version")));
    let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
    let done = client.delete_objects().bucket("photos").delete(delete).send().await.unwrap();
    assert_eq!(done.deleted().len(), 21);
    assert_eq!(done.errors().len(), 1);
    assert_eq!(done.errors()[0].code(), Some("NoSuchVersion"));
    assert_eq!(client.list_objects_v2().bucket("photos").send().await.unwrap().key_count(), Some(0));
}

#[tokio::test]
async fn a_thousand_are_deleted_by_one_request() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let (volume, cx) = (server.world.volume("acme", "photos").unwrap(), server.world.owner());
    let dir = volume.create(&cx, Ino::ROOT, &name("many"), 0o755, (0, 0), &NewNode::Dir).await.unwrap().ino;
    let file = NewNode::File { open: None };
    for n in 0..1000 {
        volume.create(&cx, dir, &name(&n.to_string()), 0o644, (0, 0), &file).await.unwrap();
    }
    volume.sync().await.unwrap();
    let objects = (0..1000).map(|n| ObjectIdentifier::builder().key(format!("many/{n}")).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.collect())).build().unwrap();
    let began = std::time::Instant::now();
    let done = client.delete_objects().bucket("photos").delete(delete).send().await.unwrap();
    println!("1,000 keys in {:?}", began.elapsed());
    assert_eq!((done.deleted().len(), done.errors().len()), (1000, 0));
    let marks = volume.watermarks();
    assert_eq!(marks.stored, marks.received, "answered before it was durable");
    let listed = client.list_objects_v2().bucket("photos").send().await.unwrap();
    assert_eq!(listed.contents().iter().map(|o| o.key().unwrap()).collect::<Vec<_>>(), ["many/"]);
}

#[tokio::test]
async fn copies_within_and_across_buckets() {
    let server = Server::with_bucket("photos").await;
    server.bucket_of("acme", "videos").await;
    let client = server.client(ACME);
    let body = bytes(3 << 20, 5);
    let put = client.put_object().bucket("photos").key("a b/ü").metadata("m", "1").content_type("text/x");
    let put = put.body(ByteStream::from(body.clone())).send().await.unwrap();
    for (bucket, key) in [("photos", "copy"), ("videos", "copy")] {
        let copy = client.copy_object().bucket(bucket).key(key).copy_source("photos/a%20b/%C3%BC");
        let copy = copy.send().await.unwrap();
        assert_eq!(copy.copy_object_result().unwrap().e_tag(), put.e_tag(), "{bucket}");
        let got = client.get_object().bucket(bucket).key(key).send().await.unwrap();
        assert_eq!((got.metadata().unwrap()["m"].as_str(), got.content_type()), ("1", Some("text/x")));
        assert!(got.body.collect().await.unwrap().to_vec() == body);
    }
    let same = client.copy_object().bucket("photos").key("copy").copy_source("photos/copy");
    assert_eq!(code(same.clone().send().await), "InvalidRequest");
    let same = same.metadata_directive(MetadataDirective::Replace).metadata("n", "2");
    same.send().await.unwrap();
    let head = client.head_object().bucket("photos").key("copy").send().await.unwrap();
    assert_eq!(head.metadata().unwrap().len(), 1);
    assert_eq!(head.metadata().unwrap()["n"], "2");
    assert!(get(&client, "copy").await == body);
    let copy = || client.copy_object().bucket("photos").key("x");
    assert_eq!(code(copy().copy_source("photos/none").send().await), "NoSuchKey");
    assert_eq!(code(copy().copy_source("nobody/none").send().await), "NoSuchBucket");
    let failed = copy().copy_source("photos/copy").copy_source_if_match("\"x\"").send().await;
    assert_eq!(code(failed), "PreconditionFailed");
    let summed =
        copy().copy_source("photos/copy").checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    assert!(summed.copy_object_result().unwrap().checksum_sha256().is_some());
}

#[tokio::test]
async fn presigned_urls_of_an_sdk_work_and_path_and_host_style_name_the_same() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let soon = || PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let url = client.put_object().bucket("photos").key("p q").presigned(soon()).await.unwrap();
    let path = url.uri().split_once(&server.address.to_string()).unwrap().1.to_owned();
    let wire = format!(
        "PUT {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
        server.address
    );
    assert_eq!(common::raw::send(server.address, wire.as_bytes(), false).await.status, 200);
    let url = client.get_object().bucket("photos").key("p q").presigned(soon()).await.unwrap();
    let path = url.uri().split_once(&server.address.to_string()).unwrap().1.to_owned();
    let wire = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.address);
    assert_eq!(common::raw::send(server.address, wire.as_bytes(), false).await.body, b"hi");

    let signer = common::sign::Signer::new(ACME);
    let mut request = common::raw::Request::new("GET", "/p%20q").header("host", "photos.s3.localhost:9000");
    signer.header("GET", "/p%20q", "", &mut request.headers, &common::sign::sha256(b""));
    assert_eq!(request.unsigned(server.address).await.body, b"hi");
}
