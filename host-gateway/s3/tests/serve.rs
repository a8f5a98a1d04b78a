//! Streams: who the channel says it is, how many may come at once, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::raw::Request;
use common::sign::{Signer, sha256};
use common::{ACME, SESSION, Server, bytes, principal};
use mooring_s3::{Limits, Peer, S3Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn request(server: &Server, path: &str) -> Vec<u8> {
    let mut request = Request::new("GET", path).header("host", &server.address.to_string());
    Signer::new(SESSION).header("GET", path, "", &mut request.headers, &sha256(b""));
    request.wire(server.address)
}

#[tokio::test]
async fn the_peer_of_a_channel_reaches_the_registry() {
    let server = Server::with_bucket("photos").await;
    for (tenant, status) in [("acme", "HTTP/1.1 200"), ("globex", "HTTP/1.1 400")] {
        let (mut client, stream) = tokio::io::duplex(64 << 10);
        let peer = Peer(principal(tenant).principal);
        let serving = tokio::spawn(mooring_s3::serve_connection(stream, server.router.clone(), Some(peer)));
        client.write_all(&request(&server, "/photos")).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(status), "{tenant}: {answer}");
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_cannot_claim_to_be_a_peer() {
    let server = Server::with_bucket("photos").await;
    let claim = Request::new("GET", "/photos").header("peer", "acme").header("x-mooring-peer", "tenant/acme");
    assert_eq!(claim.unsigned(server.address).await.status, 403);
}

#[tokio::test]
async fn nagle_is_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = mooring_s3::accept(&listener).await.unwrap();
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn who_finds_no_turn_in_time_is_told_to_slow_down() {
    let limits = Limits { requests: 1, queue_wait: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_with(S3Config { limits, ..S3Config::default() }).await;
    server.bucket_of("acme", "photos").await;
    let big = bytes(32 << 20, 1);
    let put = Request::new("PUT", "/photos/big").body(&big).signed(server.address, &Signer::new(ACME)).await;
    assert_eq!(put.status, 200, "{}", put.text());
    // A client that asks and does not read keeps the only turn.
    let mut greedy = tokio::net::TcpStream::connect(server.address).await.unwrap();
    greedy.write_all(&request(&server, "/photos/big")).await.unwrap();
    let mut first = [0; 12];
    greedy.read_exact(&mut first).await.unwrap();
    let other = Request::new("GET", "/photos").signed(server.address, &Signer::new(ACME)).await;
    assert_eq!((other.status, other.code().as_str()), (503, "SlowDown"));
    // When it hangs up, its turn is free again.
    drop(greedy);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let other = Request::new("GET", "/photos").signed(server.address, &Signer::new(ACME)).await;
        if other.status == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the turn never came back: {}", other.text());
    }
}

#[tokio::test]
async fn stopping_lets_the_answer_under_way_finish() {
    let server = Server::with_bucket("photos").await;
    let big = bytes(8 << 20, 2);
    let put = Request::new("PUT", "/photos/big").body(&big).signed(server.address, &Signer::new(ACME)).await;
    assert_eq!(put.status, 200);
    let (mut client, stream) = tokio::io::duplex(64 << 10);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = server.router.clone();
    let serving = tokio::spawn(mooring_s3::serve_connection_until(stream, router, None, async {
        let _ = stopped.await;
    }));
    client.write_all(&request(&server, "/photos/big")).await.unwrap();
    let mut answer = vec![0; 1000];
    client.read_exact(&mut answer).await.unwrap();
    stop.send(()).unwrap();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&big));
    serving.await.unwrap().unwrap();
}
