//! A share is a bucket: what may be done in it is what was granted, now.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use common::raw::Request;
use common::sign::Signer;
use common::{ACME, GLOBEX, Server, bytes};
use mooring_policy::action::ActionSet;
use mooring_store::api::Tree;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, E>) -> String {
    let error = result.expect_err("it must fail");
    error.code().map_or_else(|| format!("{error:?}"), str::to_owned)
}

async fn server() -> Server {
    let server = Server::with_bucket("photos").await;
    server.bucket_of("globex", "own-things").await;
    let acme = server.client(ACME);
    for key in ["private", "shared/a", "shared/sub/b", "shared-not/c"] {
        let put = acme.put_object().bucket("photos").key(key).body(ByteStream::from(key.as_bytes().to_vec()));
        put.send().await.unwrap();
    }
    server
}

#[tokio::test]
async fn a_share_looks_like_a_bucket_and_shows_nothing_else() {
    let server = server().await;
    let globex = server.client(GLOBEX);
    let listed = || async {
        let list = globex.list_objects_v2().bucket("acme.holiday").send().await.unwrap();
        list.contents().iter().map(|o| o.key().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(code(globex.list_objects_v2().bucket("acme.holiday").send().await), "NoSuchBucket");
    *server.world.share.lock().unwrap() = Some(ActionSet::READ);
    let names = globex.list_buckets().send().await.unwrap();
    assert!(names.buckets().iter().any(|b| b.name() == Some("acme.holiday")));
    globex.head_bucket().bucket("acme.holiday").send().await.unwrap();
    assert_eq!(listed().await, ["a", "sub/b"]);
    let get = |key: &str| globex.get_object().bucket("acme.holiday").key(key).send();
    assert_eq!(get("a").await.unwrap().body.collect().await.unwrap().to_vec(), b"shared/a");
    for key in ["../private", "../shared-not/c", "private", "/private"] {
        assert_eq!(code(get(key).await), "NoSuchKey", "{key}");
    }
    // The owner's name for it is nothing to the grantee.
    assert_eq!(code(globex.get_object().bucket("photos").key("shared/a").send().await), "NoSuchBucket");
    // Copied out with the grantee's own rights.
    let copy = globex.copy_object().bucket("own-things").key("mine").copy_source("acme.holiday/a");
    copy.send().await.unwrap();
    let copy = globex.copy_object().bucket("own-things").key("mine").copy_source("photos/private");
    assert_eq!(code(copy.send().await), "NoSuchBucket");
}

#[tokio::test]
async fn reading_is_not_writing() {
    let server = server().await;
    let globex = server.client(GLOBEX);
    *server.world.share.lock().unwrap() = Some(ActionSet::READ);
    let put = || {
        globex.put_object().bucket("acme.holiday").key("a").body(ByteStream::from_static(b"changed")).send()
    };
    assert_eq!(code(put().await), "AccessDenied");
    let delete = globex.delete_object().bucket("acme.holiday").key("a").send().await;
    assert_eq!(code(delete), "AccessDenied");
    let copy =
        globex.copy_object().bucket("acme.holiday").key("b").copy_source("acme.holiday/a").send().await;
    assert_eq!(code(copy), "AccessDenied");
    let upload = globex.create_multipart_upload().bucket("acme.holiday").key("b").send().await;
    assert_eq!(code(upload), "AccessDenied");
    *server.world.share.lock().unwrap() = Some(ActionSet::WRITE);
    put().await.unwrap();
    let got = server.client(ACME).get_object().bucket("photos").key("shared/a").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"changed");
}

#[tokio::test]
async fn a_revoked_share_ends_streams_under_way() {
    let server = server().await;
    let size = 64 << 20;
    let big = server
        .client(ACME)
        .put_object()
        .bucket("photos")
        .key("shared/big")
        .body(ByteStream::from(bytes(size, 1)));
    big.send().await.unwrap();
    *server.world.share.lock().unwrap() = Some(ActionSet::READ);
    let signer = Signer::new(GLOBEX);
    let mut request = Request::new("GET", "/acme.holiday/big").header("host", &server.address.to_string());
    signer.header("GET", "/acme.holiday/big", "", &mut request.headers, &common::sign::sha256(b""));
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request.wire(server.address)).await.unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"));
    *server.world.share.lock().unwrap() = None;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < size / 2, "{} bytes came after the revocation", rest.len());
}

#[tokio::test]
async fn a_read_under_way_survives_delete_and_replacement_but_never_mixes() {
    let server = server().await;
    let acme = server.client(ACME);
    let body = bytes(32 << 20, 1);
    let put =
        |body: Vec<u8>| acme.put_object().bucket("photos").key("big").body(ByteStream::from(body)).send();
    put(body.clone()).await.unwrap();
    let mut got = acme.get_object().bucket("photos").key("big").send().await.unwrap().body;
    let mut read = got.next().await.unwrap().unwrap().to_vec();
    put(bytes(32 << 20, 2)).await.unwrap();
    acme.delete_object().bucket("photos").key("big").send().await.unwrap();
    while let Some(piece) = got.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(read == body);

    // Written in a mount while it is read: the answer breaks off.
    put(body.clone()).await.unwrap();
    let volume = server.world.volume("acme", "photos").unwrap();
    let cx = server.world.owner();
    let ino = volume.resolve(b"big").await;
    let ino = match ino {
        Ok(attr) => attr.ino,
        Err(_) => {
            let name = mooring_protocol::types::Name::new(b"big").unwrap();
            volume.lookup(&cx, mooring_protocol::types::Ino::ROOT, &name).await.unwrap().ino
        }
    };
    let mut got = acme.get_object().bucket("photos").key("big").send().await.unwrap().body;
    let mut read = got.next().await.unwrap().unwrap().to_vec();
    let at = mooring_store::api::WriteAt::Offset((31 << 20) as u64);
    volume.write(&server.world.owner(), ino, at, vec![9u8; 1000].into(), None, false).await.unwrap();
    let broke = loop {
        match got.next().await {
            Some(Ok(piece)) => read.extend_from_slice(&piece),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broke && body.starts_with(&read));
}
