//! The gateway's process dies by SIGKILL in the middle of work; its agents come back and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::agent::{WRITE, name};
use core_support::process::Gateway;
use core_support::{Agent, Conduct, LIMIT};
use mooring_protocol::message::{HeldHandle, Reply, Request, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, LeaseGrant, NewNode};

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn gateway_process() {
    core_support::process::serve_if_asked().await;
}

fn create(file: &str) -> Request {
    Request::Create {
        parent: Ino::ROOT,
        name: name(file),
        mode: 0o644,
        uid: 0,
        gid: 0,
        node: NewNode::File { open: None },
        exclusive: true,
    }
}

fn append(ino: Ino, handle: Handle) -> Request {
    Request::Write { ino, handle, offset: 0, append: true, stamp: None, clear_suid_sgid: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_comes_back_with_every_answered_request_done_and_none_done_twice() {
    const KILLS: usize = 8;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let socket = dir.join("acme-one.sock");
    let mut gateway = Gateway::start(dir);
    let mut agent = Agent::connect(&socket, Conduct::Honest, None).await;
    let door = agent.door().id;
    let (handle, log) = agent.create(Ino::ROOT, "log", WRITE).await.unwrap();
    let (mut answered, mut appended, mut last) = (Vec::new(), 0u64, None);
    let (mut replays, mut found_done) = (0, 0);
    for round in 0..KILLS {
        // Work goes on until the gateway is dead. What was asked last and not answered is sent again.
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200 + 37 * round as u64)).await;
            tokio::task::spawn_blocking(move || gateway.kill()).await.unwrap();
        });
        let mut number = 0;
        let unanswered = loop {
            let file = format!("f-{round}-{number}");
            let (id, done) = agent.ask(door, &create(&file), &[]).await;
            match tokio::time::timeout(LIMIT, done).await.unwrap() {
                Ok(answer) => {
                    answer.unwrap();
                    answered.push(file);
                }
                Err(_) => {
                    answered.push(file.clone());
                    break (id, create(&file), &b""[..]);
                }
            }
            let line = format!("{round:02}{number:05}\n");
            let (id, done) = agent.ask(door, &append(log.ino, handle), line.as_bytes()).await;
            appended += 1;
            match tokio::time::timeout(LIMIT, done).await.unwrap() {
                Ok(answer) => {
                    answer.unwrap();
                    last = Some((id, line));
                }
                Err(_) => break (id, append(log.ino, handle), Box::leak(line.into_boxed_str()).as_bytes()),
            }
            number += 1;
        };
        killer.await.unwrap();
        assert!(number > 3, "some work was done before the kill");

        let start = Instant::now();
        let started = dir.to_owned();
        gateway = tokio::task::spawn_blocking(move || Gateway::start(&started)).await.unwrap();
        let held = agent.leases.lock().values().copied().collect::<Vec<LeaseGrant>>();
        let back = Agent::connect(&socket, Conduct::Honest, Some(agent.resume())).await;
        assert_eq!(back.welcome.resumed, Resumed::Reclaim);
        back.continue_ids(&agent);
        let handles = vec![HeldHandle { handle, ino: log.ino, mode: WRITE }];
        let reclaim = Request::Reclaim { handles, leases: held, locks: Vec::new(), more: false };
        let Reply::Reclaimed { handles, .. } = back.call(reclaim).await.unwrap() else { panic!() };
        assert_eq!(handles, [handle]);
        // The last answered append sent again, as an agent does that has not read its answer; then what was unanswered.
        let (id, line) = last.take().unwrap();
        let again = back.ask_as(id, door, &append(log.ino, handle), line.as_bytes()).await;
        again.await.unwrap().unwrap();
        let before = back.lookup(Ino::ROOT, answered.last().unwrap()).await;
        let (id, request, data) = unanswered;
        replays += 1;
        found_done += u32::from(matches!(request, Request::Create { .. }) && before.is_ok());
        let again = back.ask_as(id, door, &request, data).await;
        again.await.unwrap().unwrap_or_else(|status| panic!("{request:?} sent again: {status}"));
        println!("back at work {:?} after the restart began", start.elapsed());
        assert_eq!(back.getattr(log.ino).await.unwrap().size, appended * 8, "each append is in once");
        agent = back;
    }
    println!("{replays} requests sent again, {found_done} creates of them were done already");
    for file in &answered {
        agent.lookup(Ino::ROOT, file).await.unwrap_or_else(|status| panic!("{file}: {status}"));
    }
    assert_eq!(agent.lookup(Ino::ROOT, "f-never").await, Err(Status::NotFound));
    println!("{} files and {appended} appends over {KILLS} kills", answered.len());
    drop(gateway);
}
