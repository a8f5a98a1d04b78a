//! A guest that takes all it can get: it meets its own bounds, at once or in time, and the others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::agent::{READ, WRITE};
use core_support::raw::Raw;
use core_support::{Agent, Conduct, LIMIT, World};
use mooring_gateway::core::SessionStatus;
use mooring_gateway::core::limits::Limits;
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request, Resume, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Allocate, Attr, Handle, Ino, LeaseMode, Seek, SetAttr};
use mooring_store::api::Objects;
use tokio::sync::Mutex;

/// Tests that measure this process's memory must not run beside others.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A file of one block, and another guest that has it open.
async fn a_block(world: &World) -> (Agent, Handle, Attr) {
    let agent = world.agent("two").await;
    let (handle, f) = agent.create(Ino::ROOT, "block", WRITE).await.unwrap();
    agent.write(f.ino, handle, 0, &vec![7; caps::MAX_PAYLOAD]).await.unwrap();
    (agent, handle, f)
}

/// Bytes that neither repeat nor can be packed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(caps::MAX_PAYLOAD / 8).flatten().collect()
}

async fn session(world: &World, id: u64) -> SessionStatus {
    world.core.status().await.sessions.into_iter().find(|s| s.id.0 == id).expect("the session is there")
}

/// Waits until the session is as it should be.
async fn until(world: &World, id: u64, what: &str, holds: impl Fn(&SessionStatus) -> bool) {
    let start = Instant::now();
    loop {
        let now = session(world, id).await;
        if holds(&now) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{what}: {now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for a block again and again and reads nothing, until nothing more is taken from it.
async fn ask_and_never_read(guest: &mut Raw, f: &Attr) {
    guest.send(1, &Request::Open { ino: f.ino, mode: READ }).await;
    let Some(Reply::Opened { handle, .. }) = guest.reply(1).await else { panic!() };
    let size = caps::MAX_PAYLOAD as u32;
    let read = Request::Read { ino: f.ino, handle, offset: 0, size, want_lease: false };
    for id in 2.. {
        if tokio::time::timeout(Duration::from_millis(500), guest.send(id, &read)).await.is_err() {
            return;
        }
        assert!(id < 200_000, "it is never throttled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_never_reads_is_cut_off_and_its_session_stays() {
    let _alone = ALONE.lock().await;
    let stalled = Duration::from_secs(3);
    let world = World::with_limits(Limits { stalled, ..Limits::default() }).await;
    let (other, handle, f) = a_block(&world).await;
    let mut guest = Raw::connect(&world.socket("acme", "one")).await;
    let id = guest.welcome.session;
    let start = Instant::now();
    ask_and_never_read(&mut guest, &f).await;
    assert!(session(&world, id).await.in_flight > caps::MAX_IN_FLIGHT / 2, "its answers pile up");
    // Meanwhile somebody else reads what it wants to read, and writes beside it.
    for n in 0..50 {
        other.read(f.ino, handle, 0, caps::MAX_PAYLOAD as u32).await.unwrap();
        other.mkdir(Ino::ROOT, &format!("d-{n}")).await.unwrap();
    }
    until(&world, id, "it is cut off", |s| !s.connected).await;
    assert!(start.elapsed() >= stalled, "after the time that is stated, not before");
    until(&world, id, "what it took is free again", |s| s.in_flight == 0).await;

    // A guest that was only slow comes back to what it had.
    let resume = Resume { session: id, epoch: guest.welcome.epoch };
    let mut back = Raw::resume(&world.socket("acme", "one"), (resume, [9; 16])).await;
    assert_eq!(back.welcome.resumed, Resumed::Kept);
    back.send(1_000_000, &Request::StatFs).await;
    assert_eq!(back.answer(1_000_000).await, Status::Ok);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_of_one_guest_get_no_more_memory_than_one() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let (other, handle, f) = a_block(&world).await;
    // More than caches keep, and no two blocks alike: what waits to be read is held for its reader alone.
    const BLOCKS: u64 = 96;
    for n in 1..BLOCKS {
        other.write(f.ino, handle, n * caps::MAX_PAYLOAD as u64, &noise(n)).await.unwrap();
    }
    let before = resident();
    let mut guests = Vec::new();
    for _ in 0..12 {
        let mut guest = Raw::connect(&world.socket("acme", "one")).await;
        guest.send(1, &Request::Open { ino: f.ino, mode: READ }).await;
        let Some(Reply::Opened { handle, .. }) = guest.reply(1).await else { panic!() };
        let size = caps::MAX_PAYLOAD as u32;
        for id in 2..150 {
            let offset = (id * 7 + guests.len() as u64 * 31) % BLOCKS * u64::from(size);
            guest.send(id, &Request::Read { ino: f.ino, handle, offset, size, want_lease: false }).await;
        }
        guests.push(guest);
    }
    other.read(f.ino, handle, 0, caps::MAX_PAYLOAD as u32).await.unwrap();
    let grown = resident().saturating_sub(before);
    println!("{} MiB more for 12 sessions that read nothing", grown >> 20);
    assert!(grown < caps::MAX_IN_FLIGHT_BYTES + (64 << 20), "{} MiB", grown >> 20);
    // One that reads is served; what the others hold is given back when they end.
    let mut last = guests.pop().unwrap();
    drop(guests);
    for _ in 2..150 {
        assert_eq!(last.next().await.header.status, Status::Ok);
    }
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_opens_over_many_sessions_stop_at_one_bound() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let (other, _, f) = a_block(&world).await;
    let mut opened = 0;
    let mut guests = Vec::new();
    for _ in 0..3 {
        let mut guest = Raw::connect(&world.socket("acme", "one")).await;
        // Each asks for half of the bound: the third finds nothing left.
        for first in (0..caps::MAX_HANDLES as u64 / 2).step_by(128) {
            for id in first..first + 128 {
                guest.send(1 + id, &Request::Open { ino: f.ino, mode: READ }).await;
            }
            for _ in 0..128 {
                match guest.next().await.header.status {
                    Status::Ok => opened += 1,
                    status => assert_eq!(status, Status::TooManyHandles),
                }
            }
        }
        guests.push(guest);
    }
    assert_eq!(opened, caps::MAX_HANDLES);
    other.open(f.ino, READ).await.expect("others have their own");
    let mut last = guests.pop().unwrap();
    last.send(1 << 40, &Request::Open { ino: f.ino, mode: READ }).await;
    assert_eq!(last.answer(1 << 40).await, Status::TooManyHandles);
    guests[0].send(1 << 40, &Request::Release { handle: Handle(1), lock_owner: None }).await;
    assert_eq!(guests[0].answer(1 << 40).await, Status::Ok);
    last.send((1 << 40) + 1, &Request::Open { ino: f.ino, mode: READ }).await;
    assert_eq!(last.answer((1 << 40) + 1).await, Status::Ok, "one closed makes room for one");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_reads_more_files_than_it_may_cache_caches_the_newest() {
    const BOUND: usize = 256;
    const FILES: usize = 2000;
    let world = World::with_limits(Limits { leases: BOUND, ..Limits::default() }).await;
    let maker = world.agent("two").await;
    let mut files = Vec::new();
    for n in 0..FILES {
        let dir = maker.mkdir(Ino::ROOT, &format!("f-{n}")).await.unwrap();
        files.push(dir.ino);
    }
    let honest = world.agent("one").await;
    let mut silent = world.agent_with("acme", "three", Conduct::Silent).await;
    for (n, ino) in files.iter().enumerate() {
        let file = format!("f-{n}");
        assert_eq!(honest.lookup(Ino::ROOT, &file).await.unwrap().ino, *ino);
        assert_eq!(honest.mode(*ino), LeaseMode::Read, "{file}: the newest is always cached");
        assert_eq!(honest.mode(Ino::ROOT), LeaseMode::Read, "and what is used again and again");
        assert!(honest.leases.lock().len() <= BOUND);
        silent.lookup(Ino::ROOT, &file).await.expect("who answers no recall is served all the same");
    }
    let held = honest.leases.lock().len();
    assert!(held >= BOUND - BOUND / 32, "{held} of {BOUND}");
    let quiet = silent.leases.lock().len();
    assert!(quiet <= BOUND + 1, "{quiet}: who answers nothing gets no more than the bound");
    // What it still caches is asked back when it changes, what it gave up is not.
    let before = held;
    for file in ["f-0", "f-1999"] {
        let set = SetAttr { mode: Some(0o700), ..SetAttr::default() };
        let ino = maker.lookup(Ino::ROOT, file).await.unwrap().ino;
        maker.call(Request::SetAttr { ino, set, handle: None }).await.unwrap();
        assert_eq!(honest.mode(ino), LeaseMode::None);
        assert_eq!(honest.lookup(Ino::ROOT, file).await.unwrap().mode, 0o700);
    }
    assert!(honest.leases.lock().len() >= before - 2);
    // Now that somebody waited for what it would not give up.
    silent.closed().await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_answers_no_barrier_is_waited_for_once() {
    let world = World::new().await;
    let mut silent = world.agent_with("acme", "one", Conduct::Silent).await;
    let (_, f) = silent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (_, g) = silent.create(Ino::ROOT, "g", WRITE).await.unwrap();
    assert_eq!((silent.mode(f.ino), silent.mode(g.ino)), (LeaseMode::Write, LeaseMode::Write));
    let start = Instant::now();
    let (s3, cx) = world.one_shot().await;
    s3.head(&cx, b"f").await.expect("what was handed over before is there");
    let took = start.elapsed();
    assert!(took >= caps::RECALL_DEADLINE - Duration::from_millis(100), "{took:?}");
    let (s3, cx) = world.one_shot().await;
    let again = Instant::now();
    s3.head(&cx, b"g").await.unwrap();
    assert!(again.elapsed() < caps::RECALL_DEADLINE / 2, "the same guest was waited for twice");
    silent.closed().await;
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_with_the_numbers_in_a_request() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (handle, f) = agent.create(Ino::ROOT, "huge", WRITE).await.unwrap();
    let (_, g) = agent.create(Ino::ROOT, "copy", WRITE).await.unwrap();
    agent.write(f.ino, handle, 0, b"start").await.unwrap();
    agent.write(f.ino, handle, caps::MAX_FILE_SIZE - 3, b"end").await.unwrap();
    let before = resident();
    let (ino, all, four_gib) = (f.ino, caps::MAX_FILE_SIZE, 4u64 << 30);
    let allocate = |offset, length, how| Request::Allocate { ino, handle, offset, length, how };
    let copy = |source_offset, target_offset, length| Request::CopyRange {
        source: ino,
        source_offset,
        target: g.ino,
        target_offset,
        length,
    };
    let size = |size| Request::SetAttr {
        ino,
        set: SetAttr { size: Some(size), ..SetAttr::default() },
        handle: None,
    };
    let keep = Allocate::Reserve { keep_size: true };
    let zero = Allocate::ZeroRange { keep_size: true };
    let asked = [
        allocate(0, four_gib, keep),
        allocate(0, all, keep),
        allocate(5, all - 10, zero),
        allocate(5, all - 10, Allocate::PunchHole),
        copy(0, 0, four_gib),
        copy(0, 0, all),
        copy(1, 0, u64::MAX),
        copy(0, u64::MAX, 10),
        size(u64::MAX),
        size(all + 1),
        size(four_gib),
        size(all),
        Request::Seek { ino, offset: 6, what: Seek::Data },
        Request::Seek { ino, offset: u64::MAX, what: Seek::Hole },
        Request::Read { ino, handle, offset: all, size: caps::MAX_PAYLOAD as u32, want_lease: true },
        Request::ReadDir { ino: Ino::ROOT, after: Vec::new(), limit: u32::MAX, plus: true },
    ];
    for request in asked {
        let start = Instant::now();
        let answer = agent.call(request.clone()).await;
        let (took, grown) = (start.elapsed(), resident().saturating_sub(before));
        println!("{request:?}: {:?} after {took:?}, {} MiB more", answer.err(), grown >> 20);
        assert!(grown < 64 << 20, "{request:?}: {} MiB", grown >> 20);
    }
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_without_end_stop_at_the_bound() {
    use mooring_protocol::types::{LockKind, LockRange};
    let world = World::new().await;
    let agent = world.agent("one").await;
    let other = world.agent("two").await;
    let (_, f) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let lock = |n: u64| Request::LockSet {
        ino: f.ino,
        owner: 1,
        pid: 1,
        // Every other byte, so that no two become one.
        range: LockRange { start: 2 * n, end: 2 * n },
        kind: LockKind::Write,
        wait: false,
    };
    let mut taken = 0;
    let refused = loop {
        match agent.call(lock(taken)).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
        assert!(taken <= caps::MAX_LOCKS_PER_INODE as u64);
    };
    assert_eq!(refused, Status::TooManyLocks);
    // Taking one may split another, so the last place is kept.
    assert!(taken + 1 >= caps::MAX_LOCKS_PER_INODE as u64, "{taken}");
    let mad = LockRange { start: 9, end: 3 };
    for kind in [LockKind::Read, LockKind::Write, LockKind::Unlock] {
        let set = Request::LockSet { ino: f.ino, owner: 1, pid: 1, range: mad, kind, wait: true };
        assert_eq!(agent.call(set).await, Err(Status::Invalid));
    }
    let (_, g) = other.create(Ino::ROOT, "g", WRITE).await.unwrap();
    let elsewhere = Request::LockSet {
        ino: g.ino,
        owner: 1,
        pid: 1,
        range: LockRange { start: 0, end: u64::MAX },
        kind: LockKind::Write,
        wait: false,
    };
    other.call(elsewhere).await.unwrap();
    agent.unlink(Ino::ROOT, "f").await.unwrap();
    world.core.shutdown().await;
}
