//! One agent, a real gateway, a real socket: greeting, files, and what a session keeps.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use core_support::agent::{READ, WRITE};
use core_support::{Agent, Conduct, World, tenant};
use mooring_protocol::message::{DoorKind, Reply, Request, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseMode};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_welcomed_and_writes_and_reads_a_file() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    assert_eq!(agent.welcome.tenant, tenant("acme"));
    assert_eq!(agent.welcome.vm.as_ref().unwrap().as_str(), "one");
    assert_eq!(agent.welcome.resumed, Resumed::Fresh);
    assert!(matches!(&agent.door().kind, DoorKind::Bucket { name } if name.as_str() == "photos"));

    let dir = agent.mkdir(Ino::ROOT, "2026").await.unwrap();
    let (handle, attr) = agent.create(dir.ino, "a.txt", WRITE).await.unwrap();
    assert_eq!(agent.mode(attr.ino), LeaseMode::Write, "whoever makes a file may cache it");
    let attr = agent.write(attr.ino, handle, 0, b"hello, world").await.unwrap();
    assert_eq!(attr.size, 12);
    assert_eq!(&agent.read(attr.ino, handle, 7, 100).await.unwrap()[..], b"world");
    agent.call(Request::Fsync { ino: attr.ino }).await.unwrap();
    agent.release(handle).await.unwrap();
    assert_eq!(agent.release(handle).await, Err(Status::BadHandle));

    let found = agent.lookup(dir.ino, "a.txt").await.unwrap();
    assert_eq!((found.ino, found.size), (attr.ino, 12));
    let request = Request::ReadDir { ino: dir.ino, after: Vec::new(), limit: 100, plus: true };
    let Reply::Entries { entries, end } = agent.call(request).await.unwrap() else { panic!() };
    assert!(end && entries.len() == 1 && entries[0].attr.as_ref().unwrap().size == 12);
    assert_eq!(agent.lookup(dir.ino, "b.txt").await, Err(Status::NotFound));
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_after_its_connection_broke() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (handle, attr) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    agent.write(attr.ino, handle, 0, b"before").await.unwrap();
    let door = agent.door().id;
    let request = Request::Create {
        parent: Ino::ROOT,
        name: core_support::agent::name("once"),
        mode: 0o644,
        uid: 0,
        gid: 0,
        node: mooring_protocol::types::NewNode::Dir,
        exclusive: true,
    };
    let (id, answer) = agent.ask(door, &request, &[]).await;
    let (first, _) = answer.await.unwrap().unwrap();
    let resume = agent.hang_up().await;

    let agent = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(resume)).await;
    assert_eq!(agent.welcome.resumed, Resumed::Kept);
    assert_eq!(agent.welcome.epoch, resume.0.epoch + 1);
    // The same request again: answered from the cache, not carried out twice, and without its leases.
    let (again, _) = agent.ask_as(id, door, &request, &[]).await.await.unwrap().unwrap();
    assert_eq!(again.reply, first.reply);
    assert!(again.leases.is_empty());
    assert_eq!(&agent.read(attr.ino, handle, 0, 100).await.unwrap()[..], b"before");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_take_a_session_over() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    agent.mkdir(Ino::ROOT, "d").await.unwrap();
    let stolen = agent.resume();
    for (owner, vm) in [("acme", "two"), ("globex", "g")] {
        let thief = Agent::connect(&world.socket(owner, vm), Conduct::Honest, Some(stolen)).await;
        assert_eq!(thief.welcome.resumed, Resumed::Lost);
        assert_ne!(thief.welcome.session, stolen.0.session);
    }
    agent.getattr(Ino::ROOT).await.expect("the session's own connection is not disturbed");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_boots_again_does_not_wait_for_what_it_held_before() {
    let world = World::new().await;
    let before = world.agent("one").await;
    let (_, attr) = before.create(Ino::ROOT, "f", WRITE).await.unwrap();
    before.hang_up().await;
    let start = std::time::Instant::now();
    let after = world.agent("one").await;
    after.open(attr.ino, WRITE).await.unwrap();
    assert_eq!(after.mode(attr.ino), LeaseMode::Write);
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "it waited for its own ghost");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_open_may_not_write_and_a_handle_is_of_one_file() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (w, a) = agent.create(Ino::ROOT, "a", WRITE).await.unwrap();
    let (_, b) = agent.create(Ino::ROOT, "b", WRITE).await.unwrap();
    let (r, _) = agent.open(a.ino, READ).await.unwrap();
    assert_eq!(agent.write(a.ino, r, 0, b"x").await, Err(Status::BadHandle));
    assert_eq!(agent.write(b.ino, w, 0, b"x").await, Err(Status::BadHandle));
    agent.write(a.ino, w, 0, b"x").await.unwrap();
    world.core.shutdown().await;
}
