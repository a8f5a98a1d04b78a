//! Frames that come when they should not, numbers used twice, and epochs of other times.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::time::Duration;

use bytes::BytesMut;
use core_support::agent::{READ, WRITE, name};
use core_support::raw::Raw;
use core_support::{Agent, Conduct, World};
use mooring_protocol::caps;
use mooring_protocol::frame::{Header, Kind, encode_into};
use mooring_protocol::message::{Ack, Hello, Notice, Reply, Request, Resume, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseMode, LockKind, LockRange, NewNode};
use tokio::io::AsyncWriteExt;

fn mkdir(dir: &str) -> Request {
    let node = NewNode::Dir;
    Request::Create { parent: Ino::ROOT, name: name(dir), mode: 0o755, uid: 0, gid: 0, node, exclusive: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_only_a_gateway_may_send_end_the_connection() {
    let world = World::new().await;
    for kind in [Kind::Welcome, Kind::Reply, Kind::Notice, Kind::Hello] {
        let mut guest = Raw::connect(&world.socket("acme", "one")).await;
        // What came before is answered, what comes after is not even read.
        guest.send(1, &mkdir(&format!("before-{kind:?}"))).await;
        assert_eq!(guest.answer(1).await, Status::Ok);
        guest.frame(&Header { epoch: guest.welcome.epoch, ..Header::new(kind) }, &(), &[]).await;
        guest.send(2, &mkdir(&format!("after-{kind:?}"))).await;
        guest.ends_cut_off().await;
    }
    let other = world.agent("two").await;
    for kind in ["Welcome", "Reply", "Notice", "Hello"] {
        other.lookup(Ino::ROOT, &format!("before-{kind}")).await.unwrap();
        assert_eq!(other.lookup(Ino::ROOT, &format!("after-{kind}")).await, Err(Status::NotFound));
    }
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_cut_short_is_not_carried_out() {
    let world = World::new().await;
    let guest = Raw::connect(&world.socket("acme", "one")).await;
    let other = world.agent("two").await;
    let (handle, f) = other.create(Ino::ROOT, "f", WRITE).await.unwrap();
    other.write(f.ino, handle, 0, b"whole").await.unwrap();
    let mut bytes = BytesMut::new();
    let header = guest.header(1);
    encode_into(&mut bytes, &header, &mkdir("half"), 0).unwrap();
    for cut in [1, 40, bytes.len() - 1] {
        let mut guest = Raw::connect(&world.socket("acme", "one")).await;
        let mut bytes = BytesMut::new();
        encode_into(&mut bytes, &guest.header(1), &mkdir("half"), 0).unwrap();
        guest.write.write_all(&bytes[..cut]).await.unwrap();
        guest.write.shutdown().await.unwrap();
        guest.ends_cut_off().await;
    }
    // A payload that is announced and never comes.
    let mut guest = Raw::connect(&world.socket("acme", "one")).await;
    guest.send(1, &Request::Open { ino: f.ino, mode: WRITE }).await;
    let Some(Reply::Opened { handle, .. }) = guest.reply(1).await else { panic!() };
    let write =
        Request::Write { ino: f.ino, handle, offset: 0, append: false, stamp: None, clear_suid_sgid: false };
    let mut bytes = BytesMut::new();
    encode_into(&mut bytes, &guest.header(2), &write, 1000).unwrap();
    guest.write.write_all(&bytes).await.unwrap();
    guest.write.write_all(&[b'x'; 999]).await.unwrap();
    guest.write.shutdown().await.unwrap();
    guest.ends_cut_off().await;
    assert_eq!(other.lookup(Ino::ROOT, "half").await, Err(Status::NotFound));
    let (handle, _) = other.open(f.ino, READ).await.unwrap();
    assert_eq!(&other.read(f.ino, handle, 0, 4096).await.unwrap()[..], b"whole");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_may_come_in_any_order_and_count_once() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let door = agent.door().id;
    let mut asked = Vec::new();
    for id in [900, u64::MAX, 3, 1 << 63, 899, 1] {
        asked.push((id, agent.ask_as(id, door, &mkdir(&format!("d-{id}")), &[]).await));
    }
    for (id, answer) in asked {
        answer.await.unwrap().unwrap_or_else(|status| panic!("request {id}: {status}"));
    }
    // The number decides, not what comes with it the second time: the first answer, and nothing is made.
    for id in [900, u64::MAX, 3, 1 << 63, 899, 1] {
        let again = agent.ask_as(id, door, &mkdir("other"), &[]).await.await.unwrap().unwrap();
        assert!(matches!(again.0.reply, Reply::Entry { .. }) && again.0.leases.is_empty());
    }
    assert_eq!(agent.lookup(Ino::ROOT, "other").await, Err(Status::NotFound));
    // What failed fails again under its number, although it would go now.
    let exists = agent.ask_as(5, door, &mkdir("d-1"), &[]).await.await.unwrap();
    assert_eq!(exists.unwrap_err(), Status::Exists);
    agent.call(Request::RmDir { parent: Ino::ROOT, name: name("d-1") }).await.unwrap();
    let again = agent.ask_as(5, door, &mkdir("d-1"), &[]).await.await.unwrap();
    assert_eq!(again.unwrap_err(), Status::Exists);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_still_running_is_answered_once() {
    let world = World::new().await;
    let holder = world.agent_with("acme", "two", Conduct::Manual).await;
    let (_, f) = holder.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let held = holder.leases.lock()[&f.ino];
    let mut guest = Raw::connect(&world.socket("acme", "one")).await;
    let look = Request::GetAttr { ino: f.ino };
    for _ in 0..100 {
        guest.send(7, &look).await;
    }
    let (_, notice) = holder.notice().await;
    assert!(matches!(notice, Notice::Recall { .. }), "{notice:?}");
    // Its answer says that all hundred were read while the first was running.
    guest.send(8, &Request::StatFs).await;
    assert_eq!(guest.next().await.header.request, 8);
    holder.ack(holder.door().id, Ack::Recalled { ino: f.ino, seq: held.seq }).await;
    assert_eq!(guest.next().await.header.request, 7);
    assert!(guest.is_silent(Duration::from_millis(200)).await, "a hundred times asked, once answered");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_of_another_time_is_no_ones() {
    let world = World::new().await;
    let first = world.agent("one").await;
    let (handle, f) = first.create(Ino::ROOT, "f", WRITE).await.unwrap();
    first.write(f.ino, handle, 0, b"kept").await.unwrap();
    let (resume, boot) = first.resume();
    // The same session again while the first connection is there: it takes over, and the first one ends.
    let second = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some((resume, boot))).await;
    assert_eq!((second.welcome.resumed, second.welcome.epoch), (Resumed::Kept, resume.epoch + 1));
    let mut first = first;
    first.closed().await;
    let mut guest = Raw::resume(&world.socket("acme", "one"), second.resume()).await;
    let now = guest.welcome.epoch;
    assert_eq!(now, resume.epoch + 2);
    for (n, epoch) in [0, now - 1, now - 2, now + 1, u64::MAX].into_iter().enumerate() {
        let id = 1000 + n as u64;
        guest.frame(&Header { epoch, ..guest.header(id) }, &mkdir("no"), &[]).await;
        assert_eq!(guest.answer(id).await, Status::NoSession, "epoch {epoch} of {now}");
        // Acknowledgements and cancellations of another time are nobody's either, and end nothing.
        let header = Header { epoch, ..Header::new(Kind::Ack) };
        guest.frame(&header, &Ack::Recalled { ino: f.ino, seq: u64::MAX }, &[]).await;
        guest.frame(&Header { epoch, request: id, ..Header::new(Kind::Cancel) }, &(), &[]).await;
    }
    // Of the future: it cannot have been told that epoch, so it is not the one that it says it is.
    let mad = (Resume { epoch: now + 1, ..resume }, boot);
    let stranger = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(mad)).await;
    assert_eq!(stranger.welcome.resumed, Resumed::Lost);
    let read = Request::Read { ino: f.ino, handle, offset: 0, size: 10, want_lease: false };
    guest.send(2000, &read).await;
    assert_eq!(guest.answer(2000).await, Status::Ok, "the session itself goes on");
    guest.send(2001, &Request::Lookup { parent: Ino::ROOT, name: name("no") }).await;
    assert_eq!(guest.answer(2001).await, Status::NotFound);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reclaimed_without_a_restart_is_not_given() {
    let world = World::new().await;
    let owner = world.agent("two").await;
    let (handle, f) = owner.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let lease = owner.leases.lock()[&f.ino];
    let thief = world.agent("one").await;
    let held = mooring_protocol::message::HeldHandle { handle, ino: f.ino, mode: WRITE };
    let lock = mooring_protocol::message::HeldLock {
        ino: f.ino,
        owner: 1,
        pid: 1,
        range: LockRange { start: 0, end: u64::MAX },
        kind: LockKind::Write,
    };
    let reclaim =
        Request::Reclaim { handles: vec![held], leases: vec![lease], locks: vec![lock], more: false };
    let nothing = Reply::Reclaimed { handles: Vec::new(), leases: Vec::new() };
    assert_eq!(thief.call(reclaim).await, Ok(nothing));
    assert_eq!(thief.read(f.ino, handle, 0, 10).await, Err(Status::BadHandle));
    let get = Request::LockGet { ino: f.ino, owner: 9, range: lock.range, kind: LockKind::Write };
    assert_eq!(owner.call(get).await, Ok(Reply::Lock { holder: None }));
    assert_eq!(owner.mode(f.ino), LeaseMode::Write, "nobody asked for it back");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_an_enrolment_value_that_nobody_handed_out_is_refused() {
    let world = World::new().await;
    let hello = Hello { enrolment: Some(vec![7; 32]), ..core_support::raw::hello() };
    assert_eq!(Raw::greet(&world.socket("acme", "one"), &hello).await.err(), Some(Status::Unauthenticated));
    let hello = Hello { token: Some("x".repeat(caps::MAX_HELLO_BODY / 2)), ..core_support::raw::hello() };
    let guest = Raw::greet(&world.socket("acme", "one"), &hello).await.unwrap();
    assert_eq!(guest.welcome.vm.unwrap().as_str(), "one", "the channel says who it is, whatever the token");
    world.core.shutdown().await;
}
