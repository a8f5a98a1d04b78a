//! Multipart uploads through a current SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use common::{ACME, Server, bytes};

const MIN: usize = 5 << 20;

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, E>) -> String {
    let error = result.expect_err("it must fail");
    error.code().map_or_else(|| format!("{error:?}"), str::to_owned)
}

async fn begin(client: &Client, key: &str) -> String {
    let upload =
        client.create_multipart_upload().bucket("photos").key(key).content_type("text/x").metadata("m", "1");
    upload.send().await.unwrap().upload_id().unwrap().to_owned()
}

async fn part(client: &Client, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let part = client.upload_part().bucket("photos").key(key).upload_id(id).part_number(number);
    let part = part.body(ByteStream::from(body)).send().await.unwrap();
    CompletedPart::builder().part_number(number).set_e_tag(part.e_tag().map(str::to_owned)).build()
}

fn all(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

#[tokio::test]
async fn parts_in_any_order_become_one_object_once() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let id = begin(&client, "big").await;
    let (one, two, three) = (bytes(MIN, 1), bytes(MIN + 7, 2), bytes(100, 3));
    let c = part(&client, "big", &id, 9, three.clone()).await;
    let _old = part(&client, "big", &id, 2, bytes(MIN, 8)).await;
    let b = part(&client, "big", &id, 2, two.clone()).await;
    let a = part(&client, "big", &id, 1, one.clone()).await;
    let _unused = part(&client, "big", &id, 5, bytes(10, 4)).await;

    let parts =
        client.list_parts().bucket("photos").key("big").upload_id(&id).max_parts(2).send().await.unwrap();
    let numbers: Vec<_> = parts.parts().iter().map(|p| p.part_number().unwrap()).collect();
    assert_eq!((numbers, parts.is_truncated()), (vec![1, 2], Some(true)));
    let rest = client.list_parts().bucket("photos").key("big").upload_id(&id).part_number_marker("2");
    assert_eq!(rest.send().await.unwrap().parts().len(), 2);
    assert_eq!(client.list_objects_v2().bucket("photos").send().await.unwrap().key_count(), Some(0));
    let uploads = client.list_multipart_uploads().bucket("photos").send().await.unwrap();
    assert_eq!(uploads.uploads()[0].upload_id(), Some(id.as_str()));

    let complete = client.complete_multipart_upload().bucket("photos").key("big").upload_id(&id);
    let complete = complete.multipart_upload(all(vec![a, b, c]));
    let done = complete.clone().send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-3\""), "{:?}", done.e_tag());
    let again = complete.send().await.unwrap();
    assert_eq!(again.e_tag(), done.e_tag());
    let got = client.get_object().bucket("photos").key("big").send().await.unwrap();
    assert_eq!((got.content_type(), got.metadata().unwrap()["m"].as_str()), (Some("text/x"), "1"));
    assert_eq!(got.e_tag(), done.e_tag());
    assert!(got.body.collect().await.unwrap().to_vec() == [one, two, three].concat());
    assert!(client.list_multipart_uploads().bucket("photos").send().await.unwrap().uploads().is_empty());
}

#[tokio::test]
async fn what_is_no_upload_or_no_part_is_refused() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    let id = begin(&client, "k").await;
    let small = part(&client, "k", &id, 1, bytes(100, 1)).await;
    let last = part(&client, "k", &id, 2, bytes(100, 2)).await;
    let complete = |id: &str, parts: Vec<CompletedPart>| {
        let complete = client.complete_multipart_upload().bucket("photos").key("k").upload_id(id);
        complete.multipart_upload(all(parts)).send()
    };
    assert_eq!(code(complete(&id, vec![small.clone(), last.clone()]).await), "EntityTooSmall");
    assert_eq!(code(complete(&id, vec![last.clone(), small.clone()]).await), "InvalidPartOrder");
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"00000000000000000000000000000000\"").build();
    assert_eq!(code(complete(&id, vec![wrong]).await), "InvalidPart");
    assert_eq!(code(complete("no-such-upload", vec![last.clone()]).await), "NoSuchUpload");
    let stray = client.upload_part().bucket("photos").key("other").upload_id(&id).part_number(1);
    assert_eq!(code(stray.body(ByteStream::from_static(b"x")).send().await), "NoSuchUpload");
    let zero = client.upload_part().bucket("photos").key("k").upload_id(&id).part_number(0);
    assert_eq!(code(zero.body(ByteStream::from_static(b"x")).send().await), "InvalidArgument");
    let abort = || client.abort_multipart_upload().bucket("photos").key("k").upload_id(&id).send();
    abort().await.unwrap();
    assert_eq!(code(abort().await), "NoSuchUpload");
    assert_eq!(code(complete(&id, vec![last]).await), "NoSuchUpload");
    assert_eq!(code(client.get_object().bucket("photos").key("k").send().await), "NoSuchKey");
}

#[tokio::test]
async fn parts_are_copied_from_objects() {
    let server = Server::with_bucket("photos").await;
    server.bucket_of("acme", "videos").await;
    let client = server.client(ACME);
    let source = bytes(12 << 20, 6);
    for bucket in ["photos", "videos"] {
        let put = client.put_object().bucket(bucket).key("source").body(ByteStream::from(source.clone()));
        put.send().await.unwrap();
    }
    let id = begin(&client, "joined").await;
    let mut parts = Vec::new();
    for (number, from, range) in [
        (1, "photos/source", Some("bytes=5-5242884")),
        (2, "videos/source", Some("bytes=0-5242879")),
        (3, "photos/source", None),
    ] {
        let copy =
            client.upload_part_copy().bucket("photos").key("joined").upload_id(&id).part_number(number);
        let copy =
            copy.copy_source(from).set_copy_source_range(range.map(str::to_owned)).send().await.unwrap();
        let etag = copy.copy_part_result().unwrap().e_tag().map(str::to_owned);
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    let copy = || client.upload_part_copy().bucket("photos").key("joined").upload_id(&id).part_number(4);
    let bad = copy().copy_source("photos/source").copy_source_range("bytes=0-99999999").send().await;
    assert_eq!(code(bad), "InvalidRange");
    let bad = copy().copy_source("photos/source").copy_source_range("bytes=5").send().await;
    assert_eq!(code(bad), "InvalidArgument");
    let complete = client.complete_multipart_upload().bucket("photos").key("joined").upload_id(&id);
    complete.multipart_upload(all(parts)).send().await.unwrap();
    let got = client.get_object().bucket("photos").key("joined").send().await.unwrap();
    let want = [&source[5..5_242_885], &source[..5_242_880], &source[..]].concat();
    assert!(got.body.collect().await.unwrap().to_vec() == want);
}

#[tokio::test]
async fn checksums_of_parts_become_one_of_the_whole() {
    let server = Server::with_bucket("photos").await;
    let client = server.client(ACME);
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ] {
        let upload = client.create_multipart_upload().bucket("photos").key("k");
        let upload =
            upload.checksum_algorithm(algorithm.clone()).checksum_type(kind.clone()).send().await.unwrap();
        let id = upload.upload_id().unwrap();
        let (one, two) = (bytes(MIN, 1), bytes(1000, 2));
        let mut parts = Vec::new();
        for (number, body) in [(1, one.clone()), (2, two.clone())] {
            let part = client.upload_part().bucket("photos").key("k").upload_id(id).part_number(number);
            let part =
                part.checksum_algorithm(algorithm.clone()).body(ByteStream::from(body)).send().await.unwrap();
            let done = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag().map(str::to_owned))
                .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
                .set_checksum_crc64_nvme(part.checksum_crc64_nvme().map(str::to_owned))
                .set_checksum_sha256(part.checksum_sha256().map(str::to_owned));
            parts.push(done.build());
        }
        let complete = client.complete_multipart_upload().bucket("photos").key("k").upload_id(id);
        complete.multipart_upload(all(parts)).send().await.unwrap();
        let head = client.head_object().bucket("photos").key("k").checksum_mode(ChecksumMode::Enabled);
        let head = head.send().await.unwrap();
        assert_eq!(head.checksum_type(), Some(&kind), "{algorithm:?} {head:?}");
        let told = [head.checksum_crc32(), head.checksum_crc64_nvme(), head.checksum_sha256()];
        let told: Vec<_> = told.into_iter().flatten().collect();
        assert_eq!((told.len(), told[0].ends_with("-2")), (1, kind == ChecksumType::Composite), "{told:?}");
        let got = client
            .get_object()
            .bucket("photos")
            .key("k")
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        assert!(got.body.collect().await.unwrap().to_vec() == [one, two].concat());
    }
}
