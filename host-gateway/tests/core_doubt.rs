//! A gateway dies between a change's commit and its answer, or just before the commit. Its agent, which cannot know
//! which, sends the request again: it must come to what doing it once comes to.
//!
//! The process kills itself by SIGKILL at a named point of the store: just before, or just after, the commit's record is
//! in the journal.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::path::PathBuf;

use core_support::agent::{APPEND, READ, WRITE, name};
use core_support::process::Gateway;
use core_support::{Agent, Conduct, LIMIT};
use mooring_protocol::message::{HeldHandle, Notice, Reply, Request, Resumed};
use mooring_protocol::status::Status;
use mooring_protocol::types::{
    Allocate, Attr, FileKind, Handle, Ino, NewNode, OpenMode, RenameMode, SetAttr, XattrMode,
};
use mooring_store::failpoints::Point;
use tempfile::TempDir;

/// Not a test of its own: the process that dies.
#[tokio::test(flavor = "multi_thread")]
async fn gateway_process() {
    core_support::process::serve_if_asked().await;
}

/// A gateway that can be killed, in a directory that stays.
struct Site {
    dir: TempDir,
    gateway: Option<Gateway>,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Some(Gateway::start(dir.path()));
        Site { dir, gateway }
    }

    fn socket(&self, vm: &str) -> PathBuf {
        self.dir.path().join(format!("acme-{vm}.sock"))
    }

    async fn agent(&self, vm: &str, conduct: Conduct) -> Agent {
        Agent::connect(&self.socket(vm), conduct, None).await
    }

    /// Sends a request at which the gateway dies; its id, to be sent again under.
    async fn dies_at(&mut self, point: Point, agent: &Agent, request: &Request, payload: &[u8]) -> u64 {
        let mut gateway = self.gateway.take().unwrap();
        gateway.dies_at(point);
        let (id, answer) = agent.ask(agent.door().id, request, payload).await;
        let answer = tokio::time::timeout(LIMIT, answer).await;
        assert!(answer.expect("the gateway lives").is_err(), "{request:?} was answered");
        gateway.wait();
        id
    }

    fn restart(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.kill();
        }
        self.gateway = Some(Gateway::start(self.dir.path()));
    }

    /// An agent comes back and puts back what it had.
    async fn back(&self, vm: &str, agent: &Agent, handles: Vec<HeldHandle>) -> Agent {
        let back = Agent::connect(&self.socket(vm), Conduct::Honest, Some(agent.resume())).await;
        assert_eq!(back.welcome.resumed, Resumed::Reclaim);
        back.continue_ids(agent);
        let leases = agent.leases.lock().values().copied().collect();
        let numbers: Vec<Handle> = handles.iter().map(|h| h.handle).collect();
        let reclaim = Request::Reclaim { handles, leases, locks: Vec::new(), more: false };
        let Reply::Reclaimed { handles, .. } = back.call(reclaim).await.unwrap() else { panic!() };
        assert_eq!(handles, numbers);
        back
    }
}

async fn again(agent: &Agent, id: u64, request: &Request, payload: &[u8]) -> Result<Reply, Status> {
    let answer = agent.ask_as(id, agent.door().id, request, payload).await;
    tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap().map(|(answer, _)| answer.reply)
}

/// A directory with something of everything that the requests below change.
struct Fixture {
    dir: Ino,
    a: Attr,
    handle: Handle,
    appending: Handle,
}

impl Fixture {
    async fn make(agent: &Agent, label: &str) -> Fixture {
        let dir = agent.mkdir(Ino::ROOT, label).await.unwrap().ino;
        let (handle, a) = agent.create(dir, "a", WRITE).await.unwrap();
        agent.write(a.ino, handle, 0, b"alpha alpha\n").await.unwrap();
        let (appending, _) = agent.open(a.ino, APPEND).await.unwrap();
        let (other, b) = agent.create(dir, "b", WRITE).await.unwrap();
        agent.write(b.ino, other, 0, b"beta\n").await.unwrap();
        agent.release(other).await.unwrap();
        agent.mkdir(dir, "empty").await.unwrap();
        agent.call(set_xattr(a.ino, b"user.old", XattrMode::Create)).await.unwrap();
        Fixture { dir, a, handle, appending }
    }

    fn held(&self) -> Vec<HeldHandle> {
        let ino = self.a.ino;
        vec![
            HeldHandle { handle: self.handle, ino, mode: WRITE },
            HeldHandle { handle: self.appending, ino, mode: APPEND },
        ]
    }

    /// Everything that a program could see of it.
    async fn describe(&self, agent: &Agent) -> Vec<String> {
        let list = Request::ReadDir { ino: self.dir, after: Vec::new(), limit: 100, plus: true };
        let Reply::Entries { entries, .. } = agent.call(list).await.unwrap() else { panic!() };
        let mut seen = Vec::new();
        for entry in entries {
            let attr = entry.attr.unwrap();
            let content = match attr.kind {
                FileKind::File => {
                    let (handle, _) = agent.open(attr.ino, READ).await.unwrap();
                    let bytes = agent.read(attr.ino, handle, 0, 4096).await.unwrap();
                    agent.release(handle).await.unwrap();
                    bytes.escape_ascii().to_string()
                }
                FileKind::Symlink => format!("{:?}", agent.call(Request::ReadLink { ino: attr.ino }).await),
                _ => String::new(),
            };
            let Reply::Bytes { value } = agent.call(Request::ListXattr { ino: attr.ino }).await.unwrap()
            else {
                panic!()
            };
            let is_a = attr.ino == self.a.ino;
            let what = (attr.kind, attr.mode, attr.nlink, attr.size, is_a);
            seen.push(format!("{} {what:?} {content} {}", entry.name, value.escape_ascii()));
        }
        seen
    }

    async fn close(&self, agent: &Agent) {
        agent.release(self.handle).await.unwrap();
        agent.release(self.appending).await.unwrap();
    }
}

fn create(parent: Ino, file: &str, node: NewNode) -> Request {
    Request::Create { parent, name: name(file), mode: 0o750, uid: 0, gid: 0, node, exclusive: true }
}

fn lock_file(parent: Ino) -> Request {
    create(parent, "lock", NewNode::File { open: Some(WRITE) })
}

fn rename(dir: Ino, from: &str, to: &str, mode: RenameMode) -> Request {
    Request::Rename { parent: dir, name: name(from), new_parent: dir, new_name: name(to), mode }
}

fn set_xattr(ino: Ino, name: &[u8], mode: XattrMode) -> Request {
    Request::SetXattr { ino, name: name.to_vec(), value: b"value".to_vec(), mode }
}

fn write(ino: Ino, handle: Handle, offset: u64, append: bool) -> Request {
    Request::Write { ino, handle, offset, append, stamp: None, clear_suid_sgid: false }
}

fn open_to_write(truncate: bool) -> OpenMode {
    OpenMode { truncate, ..WRITE }
}

/// Every kind of change, made of a fixture; of what is written, the bytes.
fn changes(f: &Fixture) -> Vec<(&'static str, Request, &'static [u8])> {
    let (dir, a) = (f.dir, f.a.ino);
    let set = |set: SetAttr| Request::SetAttr { ino: a, set, handle: None };
    let pipe = NewNode::Special { kind: FileKind::Fifo, rdev: 0 };
    let to_a = NewNode::Symlink { target: b"a".to_vec() };
    let punch =
        Request::Allocate { ino: a, handle: f.handle, offset: 0, length: 6, how: Allocate::PunchHole };
    let copy = Request::CopyRange { source: a, source_offset: 0, target: a, target_offset: 20, length: 6 };
    vec![
        ("create", create(dir, "new", NewNode::File { open: None }), b""),
        ("create and open", create(dir, "new", NewNode::File { open: Some(WRITE) }), b""),
        ("mkdir", create(dir, "new", NewNode::Dir), b""),
        ("symlink", create(dir, "new", to_a), b""),
        ("mkfifo", create(dir, "new", pipe), b""),
        ("link", Request::Link { ino: a, parent: dir, name: name("new") }, b""),
        ("unlink", Request::Unlink { parent: dir, name: name("b") }, b""),
        ("unlink of an open file", Request::Unlink { parent: dir, name: name("a") }, b""),
        ("rmdir", Request::RmDir { parent: dir, name: name("empty") }, b""),
        ("rename", rename(dir, "a", "new", RenameMode::NoReplace), b""),
        ("rename over", rename(dir, "a", "b", RenameMode::Replace), b""),
        ("rename of a directory", rename(dir, "empty", "new", RenameMode::Replace), b""),
        ("exchange", rename(dir, "a", "empty", RenameMode::Exchange), b""),
        ("write", write(a, f.handle, 6, false), b"omega"),
        ("append", write(a, f.appending, 0, true), b"once\n"),
        ("append of what is there", write(a, f.appending, 0, true), b"alpha\n"),
        ("open to empty", Request::Open { ino: a, mode: open_to_write(true) }, b""),
        ("truncate", set(SetAttr { size: Some(3), ..SetAttr::default() }), b""),
        ("chmod", set(SetAttr { mode: Some(0o600), ..SetAttr::default() }), b""),
        ("chown", set(SetAttr { uid: Some(7), gid: Some(8), ..SetAttr::default() }), b""),
        ("setxattr", set_xattr(a, b"user.new", XattrMode::Set), b""),
        ("setxattr, create", set_xattr(a, b"user.new", XattrMode::Create), b""),
        ("setxattr, replace", set_xattr(a, b"user.old", XattrMode::Replace), b""),
        ("removexattr", Request::RemoveXattr { ino: a, name: b"user.old".to_vec() }, b""),
        ("punch", punch, b""),
        ("copy", copy, b""),
    ]
}

/// What of an answer does not depend on numbers.
fn shape(reply: &Reply) -> String {
    match reply {
        Reply::Entry { attr } | Reply::Attr { attr } => {
            format!("{:?} {} {}", attr.kind, attr.mode, attr.size)
        }
        Reply::Opened { attr, created, .. } => format!("opened {created} {:?} {}", attr.kind, attr.size),
        Reply::Written { count, attr } => format!("wrote {count} of {}", attr.size),
        Reply::Done => "done".to_owned(),
        other => panic!("{other:?}"),
    }
}

async fn each_change_is_made_once(point: Point) {
    let mut site = Site::new();
    let mut agent = site.agent("one", Conduct::Honest).await;
    let mut nth = 0;
    loop {
        let once = Fixture::make(&agent, &format!("once-{nth}")).await;
        let Some((what, request, payload)) = changes(&once).into_iter().nth(nth) else { break };
        let (answer, _) = agent.call_at(agent.door().id, &request, payload).await.unwrap();
        let (wanted, expected) = (shape(&answer.reply), once.describe(&agent).await);
        once.close(&agent).await;

        let killed = Fixture::make(&agent, &format!("killed-{nth}")).await;
        let (_, request, payload) = changes(&killed).into_iter().nth(nth).unwrap();
        let id = site.dies_at(point, &agent, &request, payload).await;
        site.restart();
        agent = site.back("one", &agent, killed.held()).await;
        // Also a second time: the answer to the first may be lost as well.
        for _ in 0..2 {
            let reply = again(&agent, id, &request, payload).await;
            let reply = reply.unwrap_or_else(|status| panic!("{what}, killed at {point:?}: {status}"));
            assert_eq!(shape(&reply), wanted, "the answer to {what}, killed at {point:?}");
            assert_eq!(killed.describe(&agent).await, expected, "{what}, killed at {point:?}");
        }
        killed.close(&agent).await;
        nth += 1;
    }
    assert_eq!(nth, 26, "every change was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_commit_was_in_is_not_made_again() {
    each_change_is_made_once(Point::JournalAfterWrite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_commit_was_not_in_is_made() {
    each_change_is_made_once(Point::JournalBeforeWrite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_lock_file_does_not_pass_for_ones_own() {
    let mut site = Site::new();
    let a = site.agent("one", Conduct::Honest).await;
    let b = site.agent("two", Conduct::Manual).await;
    let dir = a.mkdir(Ino::ROOT, "d").await.unwrap().ino;
    let request = lock_file(dir);
    // B looks into the directory and keeps it, so A's request waits for B; then B makes the very same file.
    let list = Request::ReadDir { ino: dir, after: Vec::new(), limit: 10, plus: false };
    b.call(list).await.unwrap();
    let (id, waiting) = a.ask(a.door().id, &request, &[]).await;
    let (_, notice) = b.notice().await;
    assert!(matches!(notice, Notice::Recall { grant, .. } if grant.ino == dir), "{notice:?}");
    b.call(request.clone()).await.expect("what a holder has issued goes first");
    site.restart();
    assert!(waiting.await.is_err(), "it was not answered");
    let a = site.back("one", &a, Vec::new()).await;
    let _b = site.back("two", &b, Vec::new()).await;
    assert_eq!(again(&a, id, &request, &[]).await, Err(Status::Exists), "B has the lock, so A has not");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_puts_under_the_name_meanwhile_stays() {
    let mut site = Site::new();
    let a = site.agent("one", Conduct::Honest).await;
    let b = site.agent("two", Conduct::Honest).await;
    let dir = a.mkdir(Ino::ROOT, "d").await.unwrap().ino;
    a.create(dir, "lock", WRITE).await.unwrap();
    let unlock = Request::Unlink { parent: dir, name: name("lock") };
    let id = site.dies_at(Point::JournalAfterWrite, &a, &unlock, &[]).await;
    site.restart();
    let a = site.back("one", &a, Vec::new()).await;
    let b = site.back("two", &b, Vec::new()).await;
    // Unlocked it is, so B may lock; and A's word comes again.
    let (_, locked) = b.create(dir, "lock", WRITE).await.unwrap();
    assert_eq!(again(&a, id, &unlock, &[]).await, Ok(Reply::Done));
    assert_eq!(b.lookup(dir, "lock").await.unwrap().ino, locked.ino, "B's lock stands");

    let (handle, new) = a.create(dir, "file.tmp", WRITE).await.unwrap();
    let replace = rename(dir, "file.tmp", "file", RenameMode::Replace);
    let id = site.dies_at(Point::JournalAfterWrite, &a, &replace, &[]).await;
    site.restart();
    let a = site.back("one", &a, vec![HeldHandle { handle, ino: new.ino, mode: WRITE }]).await;
    let b = site.back("two", &b, Vec::new()).await;
    let (_, tmp) = b.create(dir, "file.tmp", WRITE).await.unwrap();
    assert_eq!(again(&a, id, &replace, &[]).await, Ok(Reply::Done));
    assert_eq!(a.lookup(dir, "file").await.unwrap().ino, new.ino, "A's file is whole");
    assert_eq!(b.lookup(dir, "file.tmp").await.unwrap().ino, tmp.ino, "B's is still being written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_found_among_those_of_others() {
    let mut site = Site::new();
    let a = site.agent("one", Conduct::Honest).await;
    let b = site.agent("two", Conduct::Honest).await;
    let (handle, log) = a.create(Ino::ROOT, "log", APPEND).await.unwrap();
    let line = write(log.ino, handle, 0, true);
    a.call_at(a.door().id, &line, b"tick\n").await.unwrap();
    // The same line again: that it ends the file already says nothing.
    let id = site.dies_at(Point::JournalBeforeWrite, &a, &line, b"tick\n").await;
    site.restart();
    let held = || vec![HeldHandle { handle, ino: log.ino, mode: APPEND }];
    let a = site.back("one", &a, held()).await;
    let b = site.back("two", &b, Vec::new()).await;
    again(&a, id, &line, b"tick\n").await.unwrap();
    let id = site.dies_at(Point::JournalAfterWrite, &a, &line, b"tock\n").await;
    site.restart();
    let a = site.back("one", &a, held()).await;
    let b = site.back("two", &b, Vec::new()).await;
    // Another's line comes behind it before it is asked for again.
    let (theirs, _) = b.open(log.ino, APPEND).await.unwrap();
    b.call_at(b.door().id, &write(log.ino, theirs, 0, true), b"boom\n").await.unwrap();
    again(&a, id, &line, b"tock\n").await.unwrap();
    assert_eq!(&a.read(log.ino, handle, 0, 100).await.unwrap()[..], b"tick\ntick\ntock\nboom\n");
}
