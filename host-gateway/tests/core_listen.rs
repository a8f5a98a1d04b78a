//! The ways in: who somebody is by where it came in, and what its first bytes mean.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use core_support::{Agent, Conduct, LIMIT, World, tenant};
use mooring_gateway::core::identity::Peer;
use mooring_gateway::core::listen::{HttpDoors, ListenError, Port};
use mooring_protocol::frame::{FrameReader, Header, Kind, Side, encode_into};
use mooring_protocol::message::{Hello, Welcome};
use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;
use mooring_store::realm::Channel;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Answers who asks and where.
struct Echo;

impl HttpDoors for Echo {
    fn router(&self, peer: &Peer, port: Port) -> Router {
        let text =
            format!("{port:?} {}", peer.who.as_ref().map_or("unknown".into(), |w| w.principal.to_string()));
        Router::new().route("/", get(async move || text))
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_vsock_is_a_family_of_sockets_that_only_its_vm_can_reach() {
    let world = World::new().await;
    world.core.set_http(Arc::new(Echo));
    let base = world.dir.join("vms/web/vsock");
    let realm = world.core.realm();
    let vm = realm
        .vm_attach(&tenant("acme"), &"web".parse().unwrap(), Channel::Hybrid(base.clone()))
        .await
        .unwrap();
    world.core.listen(&vm).await.unwrap();
    let at = |port: u32| base.with_file_name(format!("vsock_{port}"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(base.parent().unwrap()), 0o700);
    assert_eq!(mode(&at(5000)), 0o600);

    let agent = Agent::connect(&at(5000), Conduct::Honest, None).await;
    assert_eq!(agent.welcome.vm.as_ref().unwrap().as_str(), "web");
    assert_eq!(http(UnixStream::connect(at(5001)).await.unwrap()).await, "S3 tenant/acme/vm/web");
    assert_eq!(http(UnixStream::connect(at(5002)).await.unwrap()).await, "Api tenant/acme/vm/web");

    // Attached anew: the sockets are made anew, whatever was there.
    world.core.listen(&vm).await.unwrap();
    Agent::connect(&at(5000), Conduct::Honest, None).await;
    world.core.unlisten(&vm).await;
    assert!(!at(5000).exists() && !at(5001).exists() && !at(5002).exists());
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_tell_frames_from_http() {
    let world = World::new().await;
    world.core.set_http(Arc::new(Echo));
    let path = world.socket("acme", "one");
    assert_eq!(http(UnixStream::connect(&path).await.unwrap()).await, "Any tenant/acme/vm/one");
    world.agent("one").await.getattr(Ino::ROOT).await.unwrap();
    world.core.shutdown().await;
    assert!(!path.exists(), "a stopped gateway leaves no sockets behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_somebody_answers_on_is_not_taken_and_a_dead_one_is() {
    let world = World::new().await;
    let taken = world.dir.join("taken.sock");
    let other = std::os::unix::net::UnixListener::bind(&taken).unwrap();
    let name = "web".parse().unwrap();
    let vm =
        world.core.realm().vm_attach(&tenant("acme"), &name, Channel::Unix(taken.clone())).await.unwrap();
    let error = world.core.listen(&vm).await.unwrap_err();
    assert!(matches!(&error, ListenError::Socket { path, .. } if *path == taken), "{error}");
    drop(other);
    assert!(taken.exists(), "what a dead program leaves");
    world.core.listen(&vm).await.unwrap();
    Agent::connect(&taken, Conduct::Honest, None).await;

    let file = world.dir.join("file");
    std::fs::write(&file, b"precious").unwrap();
    let vm = world.core.realm().vm_attach(&tenant("acme"), &name, Channel::Unix(file.clone())).await.unwrap();
    assert!(world.core.listen(&vm).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_kernel_vsock_serves_everybody_else() {
    let world = World::new().await;
    world.core.listeners().listen_vsock();
    world.agent("one").await.getattr(Ino::ROOT).await.unwrap();
    world.core.shutdown().await;
}

/// A greeting over any stream; the welcome or the status it was refused with.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    token: Option<String>,
) -> Result<Welcome, Status> {
    let hello =
        Hello { versions: (1, 1), agent: "t".into(), boot: [3; 16], enrolment: None, token, resume: None };
    let mut head = bytes::BytesMut::new();
    encode_into(&mut head, &Header::new(Kind::Hello), &hello, 0).unwrap();
    stream.write_all(&head).await.unwrap();
    let mut reader = FrameReader::new(stream, Side::Agent);
    let frame = tokio::time::timeout(LIMIT, reader.next()).await.unwrap().unwrap().unwrap();
    match frame.header.kind {
        Kind::Welcome => Ok(frame.message().unwrap()),
        _ => Err(frame.header.status),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_a_token_says_who_it_is() {
    let world = World::new().await;
    world.core.set_http(Arc::new(Echo));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.clone()], key).unwrap());
    let address = world.core.listeners().listen_tls("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let dial = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    };
    assert_eq!(greet(dial().await, None).await.unwrap_err(), Status::Unauthenticated);
    assert_eq!(greet(dial().await, Some("a.b.c".into())).await.unwrap_err(), Status::Unauthenticated);
    let token = world.agent("two").await.welcome.token;
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    assert_eq!(greet(dial().await, Some(forged)).await.unwrap_err(), Status::Unauthenticated);
    let welcome = greet(dial().await, Some(token)).await.unwrap();
    assert_eq!((welcome.tenant, welcome.vm.unwrap().as_str()), (tenant("acme"), "two"));
    assert_eq!(http(dial().await).await, "Any unknown", "whoever answers HTTP asks for a token itself");

    // Without TLS nothing is said.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    world.core.shutdown().await;
}
