//! Promise 1 and its limits: two or three agents and a one-shot caller on one real volume.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use core_support::agent::{APPEND, READ, WRITE, name};
use core_support::{Agent, Conduct, LIMIT, World};
use mooring_policy::action::ActionSet;
use mooring_protocol::caps;
use mooring_protocol::message::{Ack, Notice, Reply, Request, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, LeaseMode, LockKind, LockRange, RenameMode, SetAttr};
use mooring_store::api::{Condition, ListQuery, Objects as _, Tree as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_look_from_elsewhere_takes_a_writer_down_to_reading_after_it_handed_over() {
    let world = World::new().await;
    let a = world.agent_with("acme", "one", Conduct::Manual).await;
    let b = world.agent("two").await;
    let (handle, attr) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();

    let (_, looking) = b.ask(b.door().id, &Request::Lookup { parent: Ino::ROOT, name: name("f") }, &[]).await;
    let (door, notice) = a.notice().await;
    let Notice::Recall { grant, to, deadline_ms } = notice else { panic!("{notice:?}") };
    assert_eq!((grant.ino, grant.mode, to), (attr.ino, LeaseMode::Write, LeaseMode::Read));
    assert_eq!(u128::from(deadline_ms), caps::RECALL_DEADLINE.as_millis());
    // It hands over what it gathered, then acknowledges: b sees it.
    a.write(attr.ino, handle, 0, b"gathered").await.unwrap();
    a.ack(door, Ack::Recalled { ino: grant.ino, seq: grant.seq }).await;
    let (answer, _) = looking.await.unwrap().unwrap();
    let Reply::Entry { attr: seen } = answer.reply else { panic!() };
    assert_eq!(seen.size, 8);
    assert!(
        answer.leases.iter().any(|l| l.ino == attr.ino && l.mode == LeaseMode::Read),
        "{:?}",
        answer.leases
    );
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_every_other_lease_on_what_it_touches_and_keeps_the_own() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let c = world.agent("three").await;
    let (ha, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (_, g) = a.create(Ino::ROOT, "g", WRITE).await.unwrap();
    a.release(ha).await.unwrap();
    for agent in [&a, &b, &c] {
        agent.lookup(Ino::ROOT, "f").await.unwrap();
        agent.lookup(Ino::ROOT, "g").await.unwrap();
    }
    for agent in [&b, &c] {
        assert_eq!((agent.mode(Ino::ROOT), agent.mode(f.ino)), (LeaseMode::Read, LeaseMode::Read));
    }
    // The attributes of an unlinked file change (nlink, ctime), its directory's entries do; its neighbour's do not.
    b.unlink(Ino::ROOT, "f").await.unwrap();
    assert_eq!((a.mode(f.ino), c.mode(f.ino)), (LeaseMode::None, LeaseMode::None));
    assert_eq!((a.mode(Ino::ROOT), c.mode(Ino::ROOT)), (LeaseMode::None, LeaseMode::None));
    assert_eq!(b.mode(Ino::ROOT), LeaseMode::Read, "its own leases stay");
    assert_eq!(c.mode(g.ino), LeaseMode::Read);

    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    c.call(Request::SetAttr { ino: g.ino, set, handle: None }).await.unwrap();
    assert_eq!((a.mode(g.ino), b.mode(g.ino)), (LeaseMode::None, LeaseMode::None));
    assert_eq!(b.getattr(g.ino).await.unwrap().mode, 0o600);

    let dir = a.mkdir(Ino::ROOT, "d").await.unwrap();
    for agent in [&b, &c] {
        agent.lookup(Ino::ROOT, "d").await.unwrap();
        agent.lookup(Ino::ROOT, "g").await.unwrap();
    }
    let rename = Request::Rename {
        parent: Ino::ROOT,
        name: name("g"),
        new_parent: dir.ino,
        new_name: name("h"),
        mode: RenameMode::Replace,
    };
    a.call(rename).await.unwrap();
    for ino in [Ino::ROOT, dir.ino, g.ino] {
        assert_eq!((b.mode(ino), c.mode(ino)), (LeaseMode::None, LeaseMode::None), "{ino}");
    }
    assert_eq!(b.lookup(dir.ino, "h").await.unwrap().ino, g.ino);
    assert_eq!(b.lookup(Ino::ROOT, "g").await, Err(Status::NotFound));
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_shot_reader_asks_for_a_barrier_and_leaves_the_lease() {
    let world = World::new().await;
    let a = world.agent_with("acme", "one", Conduct::Manual).await;
    let (handle, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (_, g) = a.create(Ino::ROOT, "g", WRITE).await.unwrap();

    let (s3, cx) = world.one_shot().await;
    let head = tokio::spawn(async move { s3.head(&cx, b"f").await });
    let (door, notice) = a.notice().await;
    let Notice::Barrier { id, ino, .. } = notice else { panic!("{notice:?}") };
    assert_eq!(ino, Some(f.ino));
    a.write(f.ino, handle, 0, b"gathered").await.unwrap();
    a.ack(door, Ack::Barrier { id }).await;
    assert_eq!(head.await.unwrap().unwrap().size, 8);

    // A listing sends one message for everything the session holds.
    let (s3, cx) = world.one_shot().await;
    let query = ListQuery { limit: 100, ..ListQuery::default() };
    let list = tokio::spawn(async move { s3.list(&cx, &query).await });
    let (door, notice) = a.notice().await;
    let Notice::Barrier { id, ino: None, .. } = notice else { panic!("{notice:?}") };
    a.ack(door, Ack::Barrier { id }).await;
    assert_eq!(list.await.unwrap().unwrap().objects.len(), 2);
    assert!(a.notices.lock().await.try_recv().is_err(), "one message per session and volume");

    // The leases are still there: a change by S3 recalls exactly the file's.
    assert_eq!(a.mode(g.ino), LeaseMode::Write);
    let (s3, cx) = world.one_shot().await;
    let put = tokio::spawn(async move {
        let staged = s3.stage(&cx).await?;
        s3.stage_write(&cx, staged, bytes::Bytes::from_static(b"new")).await?;
        s3.put(&cx, staged, b"f", "00".repeat(16), Default::default(), &Condition::default()).await
    });
    let mut recalled = Vec::new();
    while recalled.len() < 2 {
        let (door, notice) = a.notice().await;
        let Notice::Recall { grant, to: LeaseMode::None, .. } = notice else { panic!("{notice:?}") };
        recalled.push(grant.ino);
        a.ack(door, Ack::Recalled { ino: grant.ino, seq: grant.seq }).await;
    }
    recalled.sort();
    assert_eq!(recalled, [Ino::ROOT, f.ino]);
    let put = put.await.unwrap().unwrap();
    assert_eq!(put.replaced, Some(f.ino));
    assert_eq!(
        &a.read(f.ino, handle, 0, 100).await.unwrap()[..],
        b"gathered",
        "open handles keep the old bytes"
    );
    assert_eq!(a.lookup(Ino::ROOT, "f").await.unwrap().size, 3);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_evicted_at_the_deadline_and_nobody_waits_twice() {
    let world = World::new().await;
    let mut silent = world.agent_with("acme", "one", Conduct::Silent).await;
    let b = world.agent("two").await;
    let (handle, f) = silent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (_, g) = silent.create(Ino::ROOT, "g", WRITE).await.unwrap();
    let start = Instant::now();
    b.open(f.ino, WRITE).await.unwrap();
    let took = start.elapsed();
    println!("open past a silent holder took {took:?}");
    assert!(took >= caps::RECALL_DEADLINE - Duration::from_millis(100) && took < caps::RECALL_DEADLINE * 2);
    let start = Instant::now();
    b.open(g.ino, WRITE).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "waited for the same guest twice");
    silent.closed().await;
    let fenced = silent.call(Request::Write {
        ino: f.ino,
        handle,
        offset: 0,
        append: false,
        stamp: None,
        clear_suid_sgid: false,
    });
    assert!(fenced.await.is_err(), "what an evicted session sends is not taken");
    let back = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(silent.resume())).await;
    assert_eq!(back.welcome.resumed, Resumed::Lost);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_waits_for_a_grantee_at_most_a_fifth_of_a_second() {
    let world = World::new().await;
    let owner = world.agent("one").await;
    let dir = owner.mkdir(Ino::ROOT, "pub").await.unwrap();
    let (handle, f) = owner.create(dir.ino, "f", WRITE).await.unwrap();
    owner.write(f.ino, handle, 0, b"shared").await.unwrap();
    let (_, door) = world.share("pub", ActionSet::READ).await;
    let guest = world.agent_with("globex", "g", Conduct::Silent).await;
    assert_eq!(guest.welcome.doors.len(), 1);
    assert_eq!((guest.door().id, guest.door().root, guest.door().read_only), (door, dir.ino, true));
    // The owner gives its write lease up when the guest looks, and the guest then holds a read lease.
    assert_eq!(guest.lookup(dir.ino, "f").await.unwrap().size, 6);
    assert_eq!(guest.mode(f.ino), LeaseMode::Read);
    let start = Instant::now();
    owner.write(f.ino, handle, 0, b"changed").await.unwrap();
    let took = start.elapsed();
    println!("a write past a silent grantee took {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_share_is_refused_at_once_with_files_open() {
    let world = World::new().await;
    let owner = world.agent("one").await;
    let dir = owner.mkdir(Ino::ROOT, "pub").await.unwrap();
    let (handle, f) = owner.create(dir.ino, "f", WRITE).await.unwrap();
    owner.write(f.ino, handle, 0, b"shared").await.unwrap();
    owner.mkdir(Ino::ROOT, "private").await.unwrap();
    let (grant, door) = world.share("pub", ActionSet::READ).await;
    let guest = world.agent_with("globex", "g", Conduct::Honest).await;
    let (open, _) = guest.open(f.ino, READ).await.unwrap();
    assert_eq!(&guest.read(f.ino, open, 0, 100).await.unwrap()[..], b"shared");
    // It cannot write, leave the share, or tell what is beside it from what is not there.
    assert_eq!(guest.open(f.ino, WRITE).await, Err(Status::ReadOnly));
    assert_eq!(guest.lookup(Ino::ROOT, "private").await, guest.lookup(Ino::ROOT, "nothing").await);
    assert!(guest.getattr(Ino::ROOT).await.is_err());

    world.core.realm().grant_revoke(grant).await.unwrap();
    let start = Instant::now();
    world.core.reload().await.unwrap();
    let report = world.core.revoke_door(door).await;
    let took = start.elapsed();
    println!("revoke to confirmation took {took:?} ({:?} of it the sessions)", report.took);
    assert_eq!(report.sessions.len(), 1);
    assert!(report.sessions[0].confirmed);
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!(guest.read(f.ino, open, 0, 100).await, Err(Status::Revoked));
    assert!(guest.getattr(dir.ino).await.is_err());
    let later = Agent::connect(&world.socket("globex", "g"), Conduct::Honest, None).await;
    assert!(later.welcome.doors.is_empty());
    assert!(later.call_at(door, &Request::GetAttr { ino: dir.ino }, &[]).await.is_err());
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_runs_out_is_closed_like_a_revoked_one() {
    let world = World::new().await;
    let owner = world.agent("one").await;
    let dir = owner.mkdir(Ino::ROOT, "pub").await.unwrap();
    let until = world.core.now().saturating_add(Duration::from_secs(2));
    let (_, door) = world.share_until("pub", ActionSet::READ, Some(until)).await;
    let guest = world.agent_with("globex", "g", Conduct::Honest).await;
    guest.getattr(dir.ino).await.unwrap();
    loop {
        let (from, notice) = guest.notice().await;
        if matches!(notice, Notice::Revoked { .. }) {
            assert_eq!(from, door);
            break;
        }
    }
    assert!(guest.getattr(dir.ino).await.is_err());
    let (_, notice) = guest.notice().await;
    assert!(matches!(&notice, Notice::Doors { doors } if doors.is_empty()), "{notice:?}");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_grantee_is_fenced_from_a_revoked_share_and_named() {
    let world = World::new().await;
    let owner = world.agent("one").await;
    let dir = owner.mkdir(Ino::ROOT, "pub").await.unwrap();
    let (grant, door) = world.share("pub", ActionSet::READ).await;
    let guest = world.agent_with("globex", "g", Conduct::Silent).await;
    guest.getattr(dir.ino).await.unwrap();
    world.core.realm().grant_revoke(grant).await.unwrap();
    world.core.reload().await.unwrap();
    let report = world.core.revoke_door(door).await;
    assert!(!report.sessions[0].confirmed);
    assert_eq!(report.sessions[0].who.vm().unwrap().as_str(), "g");
    assert!(report.took < caps::FOREIGN_RECALL_DEADLINE + Duration::from_millis(300), "{:?}", report.took);
    assert_eq!(guest.getattr(dir.ino).await, Err(Status::Revoked));
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_from_two_sessions_lose_nothing() {
    const EACH: usize = 100;
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let (ha, f) = a.create(Ino::ROOT, "log", APPEND).await.unwrap();
    let (hb, _) = b.open(f.ino, APPEND).await.unwrap();
    let append = async |agent: &Agent, handle: Handle, mark: u8| {
        for i in 0..EACH {
            let line = format!("{}{i:06}\n", mark as char);
            let request = Request::Write {
                ino: f.ino,
                handle,
                offset: 0,
                append: true,
                stamp: None,
                clear_suid_sgid: false,
            };
            agent.call_at(agent.door().id, &request, line.as_bytes()).await.unwrap();
        }
    };
    tokio::join!(append(&a, ha, b'a'), append(&b, hb, b'b'));
    let data = a.read(f.ino, ha, 0, 1 << 20).await.unwrap();
    let mut seen: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for line in data.chunks(8) {
        let number = std::str::from_utf8(&line[1..7]).unwrap().parse().unwrap();
        seen.entry(line[0]).or_default().push(number);
    }
    let all: Vec<usize> = (0..EACH).collect();
    assert_eq!(seen, BTreeMap::from([(b'a', all.clone()), (b'b', all)]));
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_changes_in_two_directories_never_stand_still() {
    const ROUNDS: usize = 40;
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let x = a.mkdir(Ino::ROOT, "x").await.unwrap().ino;
    let y = a.mkdir(Ino::ROOT, "y").await.unwrap().ino;
    let work = async |agent: &Agent, from: Ino, to: Ino, tag: &str| {
        for i in 0..ROUNDS {
            let (made, moved) = (format!("{tag}{i}"), format!("{tag}{i}-moved"));
            let (handle, attr) = agent.create(from, &made, WRITE).await.unwrap();
            agent.write(attr.ino, handle, 0, b"x").await.unwrap();
            let rename = Request::Rename {
                parent: from,
                name: name(&made),
                new_parent: to,
                new_name: name(&moved),
                mode: RenameMode::Replace,
            };
            // A kernel that is told ESTALE asks again once; so does this.
            if agent.call(rename.clone()).await == Err(Status::Stale) {
                agent.call(rename).await.unwrap();
            }
            agent.lookup(to, &moved).await.unwrap();
            agent.release(handle).await.unwrap();
            if i % 2 == 0 {
                agent.unlink(to, &moved).await.unwrap();
            }
        }
    };
    let both = async { tokio::join!(work(&a, x, y, "a"), work(&b, y, x, "b")) };
    tokio::time::timeout(LIMIT, both).await.expect("no round stands still");
    for (dir, tag) in [(y, "a"), (x, "b")] {
        for i in 0..ROUNDS {
            let found = a.lookup(dir, &format!("{tag}{i}-moved")).await;
            assert_eq!(found.is_ok(), i % 2 == 1, "{tag}{i}");
        }
    }
    world.core.shutdown().await;
}

fn lock(ino: Ino, owner: u64, kind: LockKind, wait: bool) -> Request {
    Request::LockSet { ino, owner, pid: 42, range: LockRange { start: 0, end: 9 }, kind, wait }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_wait_are_cancelled_and_end_with_their_session() {
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let (_, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let door = a.door().id;
    a.call(lock(f.ino, 1, LockKind::Write, false)).await.unwrap();
    assert_eq!(b.call(lock(f.ino, 1, LockKind::Read, false)).await, Err(Status::WouldBlock));
    let range = LockRange { start: 5, end: 5 };
    let held = b.call(Request::LockGet { ino: f.ino, owner: 1, range, kind: LockKind::Read }).await.unwrap();
    assert!(matches!(held, Reply::Lock { holder: Some((LockKind::Write, _, 42)) }));

    let (id, waiting) = b.ask(door, &lock(f.ino, 1, LockKind::Write, true), &[]).await;
    b.cancel(id).await;
    assert_eq!(waiting.await.unwrap().unwrap_err(), Status::Interrupted);

    let (_, waiting) = b.ask(door, &lock(f.ino, 1, LockKind::Write, true), &[]).await;
    a.call(lock(f.ino, 1, LockKind::Unlock, false)).await.unwrap();
    waiting.await.unwrap().unwrap();

    // b holds it now; a waits until b's session is gone.
    let (_, waiting) = a.ask(door, &lock(f.ino, 1, LockKind::Write, true), &[]).await;
    assert_eq!(world.core.end_vm(&core_support::tenant("acme"), &"two".parse().unwrap()), 1);
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_is_said_again_after_a_reconnect() {
    let world = World::new().await;
    let a = world.agent_with("acme", "one", Conduct::Manual).await;
    let b = world.agent("two").await;
    let (_, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let resume = a.hang_up().await;
    let (_, opening) = b.ask(b.door().id, &Request::Open { ino: f.ino, mode: WRITE }, &[]).await;
    let a = Agent::connect(&world.socket("acme", "one"), Conduct::Honest, Some(resume)).await;
    assert_eq!(a.welcome.resumed, Resumed::Kept);
    let (answer, _) = tokio::time::timeout(caps::RECALL_DEADLINE, opening).await.unwrap().unwrap().unwrap();
    assert!(answer.leases.iter().any(|l| l.ino == f.ino && l.mode == LeaseMode::Write));
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_look_that_begins_after_a_change_returned_is_stale() {
    const ROUNDS: u64 = 150;
    let world = World::new().await;
    let a = world.agent("one").await;
    let b = world.agent("two").await;
    let (handle, f) = a.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let (s3, cx) = world.one_shot().await;
    let mut cached = 0;
    for size in 1..=ROUNDS {
        let (writer, other) = if size % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        writer.call(Request::SetAttr { ino: f.ino, set, handle: None }).await.unwrap();
        // Whoever still holds a lease would answer from its cache: it must not.
        assert_eq!(other.mode(f.ino), LeaseMode::None, "round {size}");
        assert_eq!(other.getattr(f.ino).await.unwrap().size, size);
        assert_eq!(other.lookup(Ino::ROOT, "f").await.unwrap().size, size);
        cached += u32::from(other.mode(f.ino) == LeaseMode::Read);
    }
    assert_eq!(u64::from(cached), ROUNDS, "looks that nobody disturbs bring a lease");
    assert_eq!(s3.getattr(&cx, f.ino).await.unwrap().size, ROUNDS);
    a.release(handle).await.unwrap();
    world.core.shutdown().await;
}
