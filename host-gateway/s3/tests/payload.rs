//! Bodies: chunked, signed, with trailers; broken, short, long, lying. What is refused leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::raw::{Answer, Request, send};
use common::sign::{Signer, mac, sha256};
use common::{ACME, Server, bytes};

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The CRC32 of `hello, chunked world`, base64.
const HELLO: &[u8] = b"hello, chunked world";

fn crc32(data: &[u8]) -> String {
    use base64::Engine as _;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, data) as u32;
    base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
}

/// A request whose head is signed now and whose body is made knowing the signature.
struct Chunked {
    request: Request,
    signer: Signer,
    previous: String,
    body: Vec<u8>,
}

impl Chunked {
    fn new(server: &Server, path: &str, kind: &str, length: usize, trailer: Option<&str>) -> Chunked {
        let signer = Signer::new(ACME);
        let mut request = Request::new("PUT", path)
            .header("host", &server.address.to_string())
            .header("content-encoding", "aws-chunked")
            .header("x-amz-decoded-content-length", &length.to_string());
        if let Some(trailer) = trailer {
            request = request.header("x-amz-trailer", trailer);
        }
        let previous = signer.header("PUT", path, "", &mut request.headers, kind);
        Chunked { request, signer, previous, body: Vec::new() }
    }

    fn link(&mut self, kind: &str, tail: &str) -> String {
        let text =
            format!("{kind}\n{}\n{}\n{}\n{tail}", self.signer.timestamp, self.signer.scope(), self.previous);
        self.previous = hex::encode(mac(&self.signer.signing_key(), &text));
        self.previous.clone()
    }

    fn signed_chunk(mut self, data: &[u8]) -> Chunked {
        let tail = format!("{}\n{}", sha256(b""), sha256(data));
        let signature = self.link("AWS4-HMAC-SHA256-PAYLOAD", &tail);
        self.body.extend(format!("{:x};chunk-signature={signature}\r\n", data.len()).bytes());
        self.body.extend(data);
        if !data.is_empty() {
            self.body.extend(b"\r\n");
        }
        self
    }

    fn chunk(mut self, data: &[u8]) -> Chunked {
        self.body.extend(format!("{:x}\r\n", data.len()).bytes());
        self.body.extend(data);
        if !data.is_empty() {
            self.body.extend(b"\r\n");
        }
        self
    }

    fn raw(mut self, text: &str) -> Chunked {
        self.body.extend(text.bytes());
        self
    }

    fn signed_trailer(mut self, line: &str) -> Chunked {
        let signature = self.link("AWS4-HMAC-SHA256-TRAILER", &sha256(format!("{line}\n").as_bytes()));
        self.raw(&format!("{line}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"))
    }

    async fn send(mut self, server: &Server) -> Answer {
        self.request.body = self.body;
        self.request.unsigned(server.address).await
    }
}

async fn get(server: &Server, path: &str) -> Answer {
    Request::new("GET", path).signed(server.address, &Signer::new(ACME)).await
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}\n{}", answer.head, answer.text());
}

#[tokio::test]
async fn chunks_with_and_without_signatures_and_trailers_come_in_whole() {
    let server = Server::with_bucket("photos").await;
    let big = bytes(3 << 20, 1);
    let answer = Chunked::new(&server, "/photos/signed", SIGNED, big.len(), None)
        .signed_chunk(&big[..1 << 20])
        .signed_chunk(&big[1 << 20..])
        .signed_chunk(b"")
        .raw("\r\n")
        .send(&server)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(get(&server, "/photos/signed").await.body == big);

    let line = format!("x-amz-checksum-crc32:{}", crc32(HELLO));
    let answer =
        Chunked::new(&server, "/photos/both", SIGNED_TRAILER, HELLO.len(), Some("x-amz-checksum-crc32"))
            .signed_chunk(HELLO)
            .signed_chunk(b"")
            .signed_trailer(&line)
            .send(&server)
            .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-amz-checksum-crc32"), Some(crc32(HELLO).as_str()));
    assert_eq!(get(&server, "/photos/both").await.body, HELLO);

    let answer =
        Chunked::new(&server, "/photos/trailer", UNSIGNED_TRAILER, HELLO.len(), Some("x-amz-checksum-crc32"))
            .chunk(&HELLO[..7])
            .chunk(&HELLO[7..])
            .chunk(b"")
            .raw(&format!("{line}\r\n\r\n"))
            .send(&server)
            .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kept = Request::new("HEAD", "/photos/trailer").header("x-amz-checksum-mode", "ENABLED");
    let kept = kept.signed(server.address, &Signer::new(ACME)).await;
    assert_eq!(kept.header("x-amz-checksum-crc32"), Some(crc32(HELLO).as_str()));
    assert_eq!(kept.header("content-encoding"), None);
}

#[tokio::test]
async fn tampered_chunks_and_trailers_leave_nothing_behind() {
    let server = Server::with_bucket("photos").await;
    let new = |kind, trailer| Chunked::new(&server, "/photos/k", kind, HELLO.len(), trailer);
    let trailer = Some("x-amz-checksum-crc32");
    let line = format!("x-amz-checksum-crc32:{}", crc32(HELLO));

    let mut tampered = new(SIGNED, None).signed_chunk(HELLO).signed_chunk(b"").raw("\r\n");
    let at = tampered.body.windows(5).position(|w| w == b"hello").unwrap();
    tampered.body[at] = b'j';
    refused(&tampered.send(&server).await, 403, "SignatureDoesNotMatch");
    let unsigned = new(SIGNED, None).chunk(HELLO).chunk(b"").raw("\r\n");
    refused(&unsigned.send(&server).await, 400, "IncompleteBody");
    // Cut at a chunk's end: whole chunks, but not all of them.
    refused(&new(SIGNED, None).signed_chunk(HELLO).send(&server).await, 400, "IncompleteBody");
    let unsigned_trailer =
        new(SIGNED_TRAILER, trailer).signed_chunk(HELLO).signed_chunk(b"").raw(&format!("{line}\r\n\r\n"));
    refused(&unsigned_trailer.send(&server).await, 400, "MalformedTrailerError");

    let wrong =
        new(UNSIGNED_TRAILER, trailer).chunk(HELLO).chunk(b"").raw("x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
    refused(&wrong.send(&server).await, 400, "BadDigest");
    let none = new(UNSIGNED_TRAILER, trailer).chunk(HELLO).chunk(b"").raw("\r\n");
    refused(&none.send(&server).await, 400, "MalformedTrailerError");
    let other =
        new(UNSIGNED_TRAILER, trailer).chunk(HELLO).chunk(b"").raw("x-amz-checksum-sha1:AAAA\r\n\r\n");
    refused(&other.send(&server).await, 400, "MalformedTrailerError");
    let unknown = new(UNSIGNED_TRAILER, Some("x-amz-meta-later"))
        .chunk(HELLO)
        .chunk(b"")
        .raw("x-amz-meta-later:1\r\n\r\n");
    refused(&unknown.send(&server).await, 501, "NotImplemented");

    // More and fewer bytes than declared.
    let long =
        new(UNSIGNED_TRAILER, trailer).chunk(HELLO).chunk(b"more").chunk(b"").raw(&format!("{line}\r\n\r\n"));
    refused(&long.send(&server).await, 400, "IncompleteBody");
    let short = new(UNSIGNED_TRAILER, trailer).chunk(&HELLO[..5]).chunk(b"").raw(&format!("{line}\r\n\r\n"));
    refused(&short.send(&server).await, 400, "IncompleteBody");
    let endless = new(UNSIGNED_TRAILER, trailer).raw(&"f".repeat(100_000));
    refused(&endless.send(&server).await, 400, "IncompleteBody");
    let huge = new(UNSIGNED_TRAILER, trailer).raw("ffffffffffffffff\r\nabc");
    refused(&huge.send(&server).await, 400, "IncompleteBody");

    refused(&get(&server, "/photos/k").await, 404, "NoSuchKey");
}

#[tokio::test]
async fn lengths_and_digests_must_be_true() {
    let server = Server::with_bucket("photos").await;
    let at = server.address;
    let signer = Signer::new(ACME);
    let put = || Request::new("PUT", "/photos/k").body(HELLO);
    refused(&put().signed_as(at, &signer, &sha256(b"other")).await, 400, "XAmzContentSHA256Mismatch");
    refused(
        &put().header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==").signed(at, &signer).await,
        400,
        "BadDigest",
    );
    refused(&put().header("content-md5", "nonsense").signed(at, &signer).await, 400, "InvalidDigest");
    refused(&put().header("x-amz-checksum-crc32", "AAAAAA==").signed(at, &signer).await, 400, "BadDigest");
    refused(&put().header("x-amz-checksum-sha256", "AAAA").signed(at, &signer).await, 400, "BadDigest");
    let two = put().header("x-amz-checksum-crc32", &crc32(HELLO)).header("x-amz-checksum-sha1", "AAAA");
    refused(&two.signed(at, &signer).await, 400, "InvalidRequest");
    let named = put().late("x-amz-sdk-checksum-algorithm", "CRC32");
    refused(&named.signed(at, &signer).await, 400, "InvalidRequest");
    let endless = put().late("transfer-encoding", "chunked");
    let answer = endless.signed_as(at, &signer, "UNSIGNED-PAYLOAD").await;
    refused(&answer, 411, "MissingContentLength");
    let large = put().late("content-length", &(6u64 << 30).to_string());
    refused(&large.signed_as(at, &signer, "UNSIGNED-PAYLOAD").await, 400, "EntityTooLarge");

    // A connection that ends early.
    let mut cut = put().header("host", &at.to_string());
    signer.header("PUT", "/photos/k", "", &mut cut.headers, &sha256(HELLO));
    let wire = cut.wire(at);
    send(at, &wire[..wire.len() - 3], true).await;
    // A body longer than declared: the rest is no part of it, and no second request either.
    let long = put().late("content-length", "5");
    refused(&long.signed(at, &signer).await, 400, "XAmzContentSHA256Mismatch");
    refused(&get(&server, "/photos/k").await, 404, "NoSuchKey");

    let good = put().header("x-amz-checksum-crc32", &crc32(HELLO)).header("expect", "100-continue");
    let answer = good.signed(at, &signer).await;
    assert!(answer.head.contains("100 Continue") || answer.status == 200, "{}", answer.head);
    assert_eq!(get(&server, "/photos/k").await.body, HELLO);
}

#[tokio::test]
async fn a_refused_upload_is_not_asked_for_its_body() {
    let server = Server::with_bucket("photos").await;
    let put = Request::new("PUT", "/nobody-has-this/k").header("expect", "100-continue");
    let put = put.late("content-length", "1000000");
    let answer = put.signed_as(server.address, &Signer::new(ACME), "UNSIGNED-PAYLOAD").await;
    refused(&answer, 404, "NoSuchBucket");
    assert!(!answer.head.contains("100 Continue"), "{}", answer.head);
}
