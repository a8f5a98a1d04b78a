//! A gateway that starts again: its agents put back what they held, and nobody comes between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::agent::{WRITE, name};
use core_support::{Agent, Conduct, LIMIT, World};
use mooring_protocol::caps;
use mooring_protocol::message::{
    Ack, HeldHandle, HeldLock, Notice, Reply, Request, Resumed, reclaim_in_parts,
};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, LeaseGrant, LeaseMode, LockKind, LockRange, NewNode};

fn lock(ino: Ino, owner: u64, kind: LockKind, wait: bool) -> Request {
    Request::LockSet { ino, owner, pid: 42, range: LockRange { start: 0, end: 9 }, kind, wait }
}

/// What the gateway's death leaves: volumes and registry are dropped without any goodbye to sessions.
async fn restart(world: World) -> World {
    let (dir, temp) = (world.dir.clone(), world.temp());
    world.core.shutdown().await;
    drop(world);
    World::again(&dir, Some(temp)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_put_back_what_they_held_after_a_restart() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let (handle, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    a.write(f.ino, handle, 0, b"kept").await.unwrap();
    let (doomed, gone) = a.create(Ino::ROOT, "gone", WRITE).await.unwrap();
    a.write(gone.ino, doomed, 0, b"unlinked but open").await.unwrap();
    a.unlink(Ino::ROOT, "gone").await.unwrap();
    a.call(lock(f.ino, 7, LockKind::Write, false)).await.unwrap();
    b.getattr(Ino::ROOT).await.unwrap();
    let make = Request::Create {
        parent: Ino::ROOT,
        name: name("once"),
        mode: 0o755,
        uid: 0,
        gid: 0,
        node: NewNode::Dir,
        exclusive: true,
    };
    let (made, answer) = a.ask(a.door().id, &make, &[]).await;
    let (first, _) = answer.await.unwrap().unwrap();
    let (ra, rb, door) = (a.resume(), b.resume(), a.door().id);
    let held = a.leases.lock().get(&f.ino).copied().unwrap();
    assert_eq!(held.mode, LeaseMode::Write);

    let world = restart(world).await;
    let b = Agent::connect(&world.socket("acme", "two"), Conduct::Honest, Some(rb)).await;
    assert_eq!(b.welcome.resumed, Resumed::Reclaim);
    let nothing = Request::Reclaim { handles: vec![], leases: vec![], locks: vec![], more: false };
    b.call(nothing).await.unwrap();
    // While a is awaited nothing that could conflict with what it holds is done.
    let (_, waiting) = b.ask(door, &Request::Open { ino: f.ino, mode: WRITE }, &[]).await;
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());

    let a = Agent::connect(&world.socket("acme", "one"), Conduct::Manual, Some(ra)).await;
    assert_eq!(a.welcome.resumed, Resumed::Reclaim);
    let mode = WRITE;
    let lost = LeaseGrant { ino: f.ino, ..held };
    let reclaim = Request::Reclaim {
        handles: vec![
            HeldHandle { handle, ino: f.ino, mode },
            HeldHandle { handle: doomed, ino: gone.ino, mode },
            HeldHandle { handle: Handle(99), ino: Ino::new(4_000_000).unwrap(), mode },
        ],
        leases: vec![lost],
        locks: vec![HeldLock {
            ino: f.ino,
            owner: 7,
            pid: 42,
            range: LockRange { start: 0, end: 9 },
            kind: LockKind::Write,
        }],
        more: false,
    };
    let Reply::Reclaimed { handles, leases } = a.call(reclaim).await.unwrap() else { panic!() };
    assert_eq!(handles, [handle, doomed], "what never was is not given");
    assert_eq!((leases[0].ino, leases[0].mode), (f.ino, LeaseMode::Write));
    // The grace period is over early: everybody is back. Now b's open recalls a's lease.
    let (door, notice) = a.notice().await;
    let Notice::Recall { grant, .. } = notice else { panic!("{notice:?}") };
    assert_eq!(grant.seq, leases[0].seq);
    a.write(f.ino, handle, 0, b"KEPT").await.unwrap();
    a.ack(door, Ack::Recalled { ino: grant.ino, seq: grant.seq }).await;
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(&a.read(gone.ino, doomed, 0, 100).await.unwrap()[..], b"unlinked but open");
    assert_eq!(b.call(lock(f.ino, 7, LockKind::Read, false)).await, Err(Status::WouldBlock));
    // Sent again after the restart: done once.
    let (again, _) = a.ask_as(made, door, &make, &[]).await.await.unwrap().unwrap();
    let (Reply::Entry { attr: was }, Reply::Entry { attr: is }) = (first.reply, again.reply) else {
        panic!()
    };
    assert_eq!(was.ino, is.ino);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_into_one_frame_is_put_back_in_parts_and_nobody_comes_between() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let (handle, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (resume, door) = (a.resume(), a.door().id);
    let world = restart(world).await;
    let a = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(resume)).await;
    let b = world.agent("two").await;
    let (_, waiting) = b.ask(door, &Request::Open { ino: f.ino, mode: WRITE }, &[]).await;
    tokio::pin!(waiting);

    // As many as a guest has that has looked at so many files, and the one that somebody waits for is the last.
    let lease = |ino, mode| LeaseGrant { ino, mode, seq: 9 };
    let mut leases: Vec<LeaseGrant> =
        (1_000..61_000).map(|n| lease(Ino::new(n).unwrap(), LeaseMode::Read)).collect();
    leases.push(lease(f.ino, LeaseMode::Write));
    let handles = [HeldHandle { handle, ino: f.ino, mode: WRITE }];
    let mut kept = 0;
    for part in reclaim_in_parts(&handles, &leases, &[]) {
        assert!(futures::poll!(&mut waiting).is_pending(), "the open went before a part of what is held");
        let Reply::Reclaimed { leases, .. } = a.call(part).await.unwrap() else { panic!() };
        kept += leases.len();
    }
    assert_eq!(kept, leases.len());
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_ne!(a.mode(f.ino), LeaseMode::Write, "it was asked back");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_come_back_after_a_restart_holds_nobody_up_for_long() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let (_, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let resume = a.resume();
    let world = restart(world).await;
    let b = world.agent("two").await;
    let start = Instant::now();
    b.open(f.ino, WRITE).await.unwrap();
    let took = start.elapsed();
    println!("open during grace took {took:?}");
    assert!(took > Duration::from_secs(1) && took < caps::GRACE + Duration::from_secs(3), "{took:?}");
    let late = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(resume)).await;
    assert_eq!(late.welcome.resumed, Resumed::Lost);
    world.core.shutdown().await;
}

/// A release that was under way when the gateway died comes again, behind an open that came again before it. Handles of
/// the two are never the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_comes_late_does_not_close_what_was_opened_since() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let (before, _) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (resume, door, old) = (a.resume(), a.door().id, a);
    let world = restart(world).await;
    let a = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(resume)).await;
    assert_eq!(a.welcome.resumed, Resumed::Reclaim);
    let nothing = Request::Reclaim { handles: vec![], leases: vec![], locks: vec![], more: false };
    a.continue_ids(&old);
    a.call_at(door, &nothing, &[]).await.unwrap();
    let (since, g) = a.create(Ino::ROOT, "g", WRITE).await.unwrap();
    assert_ne!(before, since);
    assert_eq!(a.release(before).await, Err(Status::BadHandle));
    a.write(g.ino, since, 0, b"still open").await.unwrap();
}
