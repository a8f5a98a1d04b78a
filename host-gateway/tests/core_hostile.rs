//! A guest that does what no honest one does: each time a clear refusal, others served, memory bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use core_support::agent::{READ, WRITE, name, send};
use core_support::{Agent, Conduct, LIMIT, World};
use mooring_policy::action::ActionSet;
use mooring_protocol::caps;
use mooring_protocol::frame::{FrameReader, HEADER_LEN, Header, Kind, Side, encode_into};
use mooring_protocol::message::{Ack, Hello, Reply, Request, Resume};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, LeaseGrant, LeaseMode, NewNode, OpenMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Somebody else is still served, at once.
async fn others_are_served(world: &World) {
    let start = Instant::now();
    let other = world.agent("two").await;
    other.getattr(Ino::ROOT).await.unwrap();
    let file = format!("ok-{}", other.welcome.session);
    let (handle, attr) = other.create(Ino::ROOT, &file, WRITE).await.unwrap();
    other.write(attr.ino, handle, 0, b"ok").await.unwrap();
    other.release(handle).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

async fn raw(world: &World) -> UnixStream {
    UnixStream::connect(world.socket("acme", "one")).await.unwrap()
}

/// The gateway closes the stream by itself.
async fn is_cut_off(mut stream: UnixStream) {
    let mut rest = Vec::new();
    // A reset is as good an end as any.
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("cut off in time");
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn frame(header: &Header, body: &impl serde::Serialize, payload: &[u8]) -> Vec<u8> {
    let mut head = BytesMut::new();
    encode_into(&mut head, header, body, payload.len()).unwrap();
    head.extend_from_slice(payload);
    head.to_vec()
}

fn request(agent: &Agent, id: u64, door: u64) -> Header {
    Header { volume: door, epoch: agent.welcome.epoch, request: id, ..Header::new(Kind::Request) }
}

fn hello() -> Hello {
    Hello { versions: (1, 1), agent: "x".into(), boot: [9; 16], enrolment: None, token: None, resume: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_framing_ends_the_connection_and_nothing_else() {
    let world = World::new().await;
    let good = frame(&Header::new(Kind::Hello), &hello(), &[]);
    // Half a greeting; garbage; a flipped bit; another version; not a greeting; a greeting over its bound.
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    let mut version = good.clone();
    version[4] = 99;
    let early = frame(&Header::new(Kind::Request), &Request::StatFs, &[]);
    let long = Hello { agent: "x".repeat(caps::MAX_HELLO_BODY), ..hello() };
    let long = frame(&Header::new(Kind::Hello), &long, &[]);
    let half = good[..HEADER_LEN / 2].to_vec();
    for bytes in [half, flipped, version, early, long, b"MRNG".repeat(100)] {
        let mut stream = raw(&world).await;
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        is_cut_off(stream).await;
    }
    // Nothing at all: cut off when the greeting is overdue.
    let idle = raw(&world).await;
    let start = Instant::now();
    is_cut_off(idle).await;
    assert!(start.elapsed() >= caps::HELLO_DEADLINE - Duration::from_millis(200));
    others_are_served(&world).await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_request_is_refused_and_the_session_goes_on() {
    let world = World::new().await;
    let stream = raw(&world).await;
    let (read, mut write) = stream.into_split();
    send(&mut write, &Header::new(Kind::Hello), &hello(), &[]).await;
    let mut reader = FrameReader::new(read, Side::Agent);
    let welcome: mooring_protocol::message::Welcome =
        reader.next().await.unwrap().unwrap().message().unwrap();
    reader.open();
    let door = welcome.doors[0].id;
    let header =
        |request| Header { volume: door, epoch: welcome.epoch, request, ..Header::new(Kind::Request) };
    // An operation that does not exist, an inode that cannot be, trailing bytes, a name that could escape.
    send(&mut write, &header(1), &200u8, &[]).await;
    send(&mut write, &header(2), &(1u8, 7u64 << 48), &[]).await;
    send(&mut write, &header(3), &(Request::StatFs, 7u8), &[]).await;
    send(&mut write, &header(4), &(0u8, 1u64, b"../../etc".to_vec()), &[]).await;
    for _ in 0..4 {
        let reply = reader.next().await.unwrap().unwrap();
        assert_eq!(reply.header.status, Status::Malformed, "request {}", reply.header.request);
    }
    // Request id zero, an epoch that is not ours, and a request that is in order.
    send(&mut write, &header(0), &Request::StatFs, &[]).await;
    assert_eq!(reader.next().await.unwrap().unwrap().header.status, Status::Malformed);
    let wrong = Header { epoch: welcome.epoch + 1, ..header(5) };
    send(&mut write, &wrong, &Request::StatFs, &[]).await;
    assert_eq!(reader.next().await.unwrap().unwrap().header.status, Status::NoSession);
    send(&mut write, &header(6), &Request::GetAttr { ino: Ino::ROOT }, &[]).await;
    assert_eq!(reader.next().await.unwrap().unwrap().header.status, Status::Ok);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_theirs_is_not_found() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let foreign = world.agent_with("globex", "g", Conduct::Honest).await;
    let (handle, f) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let photos = agent.door().id;
    for door in [0, 7_777, u64::MAX, 1 << 63, photos] {
        let refused = foreign.call_at(door, &Request::GetAttr { ino: Ino::ROOT }, &[]).await.unwrap_err();
        assert_eq!(refused, Status::NotFound, "door {door}: the same whether there is one or not");
    }
    // A share's door is its grantee's alone: its owner comes in by its own, and before it was accepted nobody did.
    agent.mkdir(Ino::ROOT, "given").await.unwrap();
    let (_, share) = world.share("given", ActionSet::READ).await;
    assert_eq!(agent.call_at(share, &Request::StatFs, &[]).await.unwrap_err(), Status::NotFound);
    foreign.call_at(share, &Request::StatFs, &[]).await.unwrap();
    let next = foreign.call_at(share ^ 1, &Request::StatFs, &[]).await;
    assert_eq!(next.unwrap_err(), Status::NotFound);
    let nowhere = Ino::new(Ino::MAX).unwrap();
    assert!(agent.getattr(nowhere).await.is_err());
    // Views that are no snapshot's, and what only the owner's whole bucket has.
    assert_eq!(agent.getattr(Ino::ROOT.in_view(7)).await.err(), Some(Status::Stale));
    for view in [1, 0x7FFF, u16::MAX] {
        let ask = Request::GetAttr { ino: Ino::ROOT.in_view(view) };
        assert!(foreign.call_at(share, &ask, &[]).await.is_err(), "view {view}");
    }
    assert!(agent.open(nowhere, READ).await.is_err());
    assert_eq!(agent.read(f.ino, Handle(4_711), 0, 10).await, Err(Status::BadHandle));
    assert_eq!(agent.read(nowhere, handle, 0, 10).await, Err(Status::BadHandle));
    let stolen = Resume { session: agent.welcome.session, epoch: u64::MAX };
    let other = Agent::connect(&world.socket("acme", "two"), Conduct::Honest, Some((stolen, [9; 16]))).await;
    assert_ne!(other.welcome.session, agent.welcome.session);
    others_are_served(&world).await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_out_of_bounds_are_refused_before_anything_is_allocated() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (handle, f) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let before = resident();
    let door = agent.door().id;
    for size in [u32::MAX, caps::MAX_PAYLOAD as u32 + 1] {
        let read = Request::Read { ino: f.ino, handle, offset: 0, size, want_lease: false };
        assert_eq!(agent.call(read).await, Err(Status::Invalid));
    }
    let read = Request::Read { ino: f.ino, handle, offset: u64::MAX, size: 4096, want_lease: false };
    let (_, data) = agent.call_at(door, &read, &[]).await.unwrap();
    assert!(data.is_empty());
    assert_eq!(agent.write(f.ino, handle, u64::MAX - 1, b"xyz").await, Err(Status::FileTooLarge));
    let allocate = Request::Allocate {
        ino: f.ino,
        handle,
        offset: u64::MAX,
        length: u64::MAX,
        how: mooring_protocol::types::Allocate::Reserve { keep_size: false },
    };
    assert_eq!(agent.call(allocate).await, Err(Status::FileTooLarge));
    let list = Request::ReadDir { ino: Ino::ROOT, after: vec![b'x'; 200_000], limit: u32::MAX, plus: true };
    assert_eq!(agent.call(list).await, Err(Status::Invalid));
    let xattr = Request::SetXattr {
        ino: f.ino,
        name: b"user.x".to_vec(),
        value: vec![0; caps::MAX_XATTR_VALUE + 1],
        mode: mooring_protocol::types::XattrMode::Set,
    };
    assert_eq!(agent.call(xattr).await, Err(Status::ArgumentTooLarge));
    assert!(resident() < before + (64 << 20), "{} MiB more", (resident() - before) >> 20);

    // A frame that announces 4 GiB is cut off by its header alone.
    let header = request(&agent, 1, door).to_bytes(10, u32::MAX);
    let mut stream = raw(&world).await;
    stream.write_all(&frame(&Header::new(Kind::Hello), &hello(), &[])).await.unwrap();
    let mut first = [0; HEADER_LEN];
    stream.read_exact(&mut first).await.unwrap();
    stream.write_all(&header).await.unwrap();
    is_cut_off(stream).await;
    others_are_served(&world).await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opens_without_end_stop_at_the_bound() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (first, f) = agent.create(Ino::ROOT, "f", READ).await.unwrap();
    let door = agent.door().id;
    let open = Request::Open { ino: f.ino, mode: READ };
    let mut opened = 1;
    let before = resident();
    let mut refused = None;
    while refused.is_none() {
        let mut asked = Vec::new();
        for _ in 0..caps::MAX_IN_FLIGHT / 2 {
            asked.push(agent.ask(door, &open, &[]).await.1);
        }
        for answer in asked {
            match answer.await.unwrap() {
                Ok(_) => opened += 1,
                Err(status) => refused = Some(status),
            }
        }
        assert!(opened <= caps::MAX_HANDLES);
    }
    assert_eq!((refused, opened), (Some(Status::TooManyHandles), caps::MAX_HANDLES));
    println!("{opened} handles cost {} KiB", (resident().saturating_sub(before)) >> 10);
    assert!(resident() < before + (128 << 20));
    agent.release(first).await.unwrap();
    agent.open(f.ino, READ).await.expect("one closed makes room for one");
    others_are_served(&world).await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_never_reads_is_throttled_and_memory_stays_bounded() {
    let world = World::new().await;
    let maker = world.agent("two").await;
    let (handle, f) = maker.create(Ino::ROOT, "big", WRITE).await.unwrap();
    let block = vec![7u8; caps::MAX_PAYLOAD];
    maker.write(f.ino, handle, 0, &block).await.unwrap();
    maker.release(handle).await.unwrap();

    let mut stream = raw(&world).await;
    stream.write_all(&frame(&Header::new(Kind::Hello), &hello(), &[])).await.unwrap();
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).await.unwrap();
    let body = u32::from_le_bytes(head[64..68].try_into().unwrap()) as usize;
    let mut welcome = vec![0; body];
    stream.read_exact(&mut welcome).await.unwrap();
    let welcome: mooring_protocol::message::Welcome = postcard::from_bytes(&welcome).unwrap();
    let door = welcome.doors[0].id;
    let header =
        |request| Header { volume: door, epoch: welcome.epoch, request, ..Header::new(Kind::Request) };
    let mode = OpenMode { read: true, write: false, append: false, truncate: false };
    stream.write_all(&frame(&header(1), &Request::Open { ino: f.ino, mode }, &[])).await.unwrap();
    let before = resident();
    // It asks for gigabytes and reads nothing: at some point nothing more is taken from it.
    let read = Request::Read {
        ino: f.ino,
        handle: Handle(1),
        offset: 0,
        size: caps::MAX_PAYLOAD as u32,
        want_lease: false,
    };
    let mut sent = 0u64;
    loop {
        let bytes = frame(&header(2 + sent), &read, &[]);
        if tokio::time::timeout(Duration::from_secs(2), stream.write_all(&bytes)).await.is_err() {
            break;
        }
        sent += 1;
        assert!(sent < 200_000, "it is never throttled");
    }
    let grown = resident().saturating_sub(before);
    println!("throttled after {sent} requests; {} MiB more", grown >> 20);
    assert!(grown < caps::MAX_IN_FLIGHT_BYTES + (64 << 20), "{} MiB", grown >> 20);
    others_are_served(&world).await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_nobody_asked_for_change_nothing() {
    let world = World::new().await;
    let a = world.agent_with("acme", "one", Conduct::Manual).await;
    let b = world.agent("two").await;
    let (_, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let door = a.door().id;
    let held = a.leases.lock().get(&f.ino).copied().unwrap();
    for seq in [0, held.seq, held.seq + 1, u64::MAX] {
        a.ack(door, Ack::Recalled { ino: f.ino, seq }).await;
        a.ack(door, Ack::Barrier { id: seq }).await;
        a.ack(door + 1, Ack::Recalled { ino: f.ino, seq }).await;
    }
    a.ack(door, Ack::Revoked).await;
    let bogus = LeaseGrant { ino: f.ino, mode: LeaseMode::Write, seq: u64::MAX };
    a.call(Request::Return { leases: vec![bogus; 100] }).await.unwrap();
    // Its lease is still there, so a look from elsewhere still asks it.
    let (_, looking) = b.ask(door, &Request::GetAttr { ino: f.ino }, &[]).await;
    let (_, notice) = a.notice().await;
    let mooring_protocol::message::Notice::Recall { grant, .. } = notice else { panic!("{notice:?}") };
    assert_eq!(grant, held);
    a.ack(door, Ack::Recalled { ino: f.ino, seq: held.seq }).await;
    looking.await.unwrap().unwrap();
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_is_bounded() {
    let world = World::new().await;
    let mut idle = Vec::new();
    for _ in 0..1200 {
        match tokio::time::timeout(
            Duration::from_millis(500),
            UnixStream::connect(world.socket("acme", "one")),
        )
        .await
        {
            Ok(Ok(stream)) => idle.push(stream),
            _ => break,
        }
    }
    others_are_served(&world).await;
    drop(idle);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_used_twice_is_carried_out_once() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let door = agent.door().id;
    let make = Request::Create {
        parent: Ino::ROOT,
        name: name("d"),
        mode: 0o755,
        uid: 0,
        gid: 0,
        node: NewNode::Dir,
        exclusive: true,
    };
    let first = agent.ask_as(500, door, &make, &[]).await.await.unwrap().unwrap().0;
    let again = agent.ask_as(500, door, &make, &[]).await.await.unwrap().unwrap().0;
    let (Reply::Entry { attr: a }, Reply::Entry { attr: b }) = (first.reply, again.reply) else { panic!() };
    assert_eq!(a, b);
    world.core.shutdown().await;
}
