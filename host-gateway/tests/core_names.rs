//! Names that could escape, end early or overflow, in every request that carries one: refused, whatever the request;
//! and names that are only strange: taken as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use core_support::agent::{WRITE, name};
use core_support::{Agent, World};
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, Name, NewNode, RenameMode, XattrMode};

/// Stands for the hostile name until the request is encoded: a [`Name`] cannot hold one.
const PLACE: &[u8] = b"@@@@";

/// The request's body with other bytes where [`PLACE`] was.
fn with_name(request: &Request, hostile: &[u8]) -> Vec<u8> {
    let body = postcard::to_stdvec(request).unwrap();
    let place: Vec<u8> = postcard::to_stdvec(&PLACE.to_vec()).unwrap();
    let at = body.windows(place.len()).position(|w| w == place).expect("it carries a name");
    let name = postcard::to_stdvec(&hostile.to_vec()).unwrap();
    [&body[..at], &name[..], &body[at + place.len()..]].concat()
}

fn create(file: Name, node: NewNode) -> Request {
    Request::Create { parent: Ino::ROOT, name: file, mode: 0o644, uid: 0, gid: 0, node, exclusive: true }
}

fn rename(from: Name, to: Name, mode: RenameMode) -> Request {
    Request::Rename { parent: Ino::ROOT, name: from, new_parent: Ino::ROOT, new_name: to, mode }
}

/// Every request that carries the name of an entry, with it in each place.
fn requests(file: Ino) -> Vec<Request> {
    let place = || Name::new(PLACE).unwrap();
    let parent = Ino::ROOT;
    vec![
        Request::Lookup { parent, name: place() },
        create(place(), NewNode::File { open: None }),
        create(place(), NewNode::File { open: Some(WRITE) }),
        create(place(), NewNode::Dir),
        create(place(), NewNode::Symlink { target: b"f".to_vec() }),
        Request::Unlink { parent, name: place() },
        Request::RmDir { parent, name: place() },
        rename(place(), name("to"), RenameMode::Replace),
        rename(name("f"), place(), RenameMode::Replace),
        rename(name("f"), place(), RenameMode::NoReplace),
        rename(name("f"), place(), RenameMode::Exchange),
        Request::Link { ino: file, parent, name: place() },
    ]
}

async fn raw(agent: &Agent, body: &[u8]) -> Result<Reply, Status> {
    let answer = agent.ask_raw(agent.door().id, body).await;
    tokio::time::timeout(core_support::LIMIT, answer).await.unwrap().unwrap().map(|(answer, _)| answer.reply)
}

async fn listing(agent: &Agent) -> Vec<Vec<u8>> {
    let list = Request::ReadDir { ino: Ino::ROOT, after: Vec::new(), limit: 1000, plus: false };
    let Reply::Entries { entries, end: true } = agent.call(list).await.unwrap() else { panic!() };
    entries.iter().map(|e| e.name.as_bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_takes_a_name_that_could_escape() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (_, f) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let long = [b'x'; caps::MAX_NAME + 1];
    let longest = vec![b'y'; 64 << 10];
    let hostile: [&[u8]; 12] = [
        b"",
        b".",
        b"..",
        b"/",
        b"a/b",
        b"../f",
        b"../../etc/passwd",
        b"/etc/passwd",
        b"\0",
        b"f\0",
        &long,
        &longest,
    ];
    for request in requests(f.ino) {
        for bad in hostile {
            let refused = raw(&agent, &with_name(&request, bad)).await;
            assert_eq!(refused, Err(Status::Malformed), "{request:?} with {}", bad.escape_ascii());
        }
    }
    assert_eq!(listing(&agent).await, [b"f"], "nothing was made, moved or removed");
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_only_strange_are_taken_as_they_are() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let full = [0xfe; caps::MAX_NAME];
    let strange: [&[u8]; 8] =
        [b"...", b"..a", b" ", b"\n", b"\xff\xfe", b"\xc0\xaf\xc0\xae", b"-rf *", &full];
    for bytes in strange {
        let file = Name::new(bytes).unwrap();
        agent.call(create(file.clone(), NewNode::Dir)).await.unwrap();
        let Reply::Entry { attr } =
            agent.call(Request::Lookup { parent: Ino::ROOT, name: file }).await.unwrap()
        else {
            panic!()
        };
        assert!(attr.ino != Ino::ROOT);
    }
    let mut wanted: Vec<Vec<u8>> = strange.iter().map(|s| s.to_vec()).collect();
    wanted.sort();
    let mut found = listing(&agent).await;
    found.sort();
    assert_eq!(found, wanted);
    world.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_attributes_and_targets_of_links_are_checked() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let (_, f) = agent.create(Ino::ROOT, "f", WRITE).await.unwrap();
    let long = vec![b'x'; caps::MAX_XATTR_NAME + 1];
    let bad: [(&[u8], Status); 3] =
        [(b"", Status::Invalid), (b"user.\0x", Status::Invalid), (&long, Status::Range)];
    for (attribute, status) in bad {
        let (ino, name) = (f.ino, attribute.to_vec());
        for mode in [XattrMode::Set, XattrMode::Create, XattrMode::Replace] {
            let set = Request::SetXattr { ino, name: name.clone(), value: b"v".to_vec(), mode };
            assert_eq!(agent.call(set).await, Err(status));
        }
        assert_eq!(agent.call(Request::GetXattr { ino, name: name.clone() }).await, Err(status));
        assert_eq!(agent.call(Request::RemoveXattr { ino, name }).await, Err(status));
    }
    let Reply::Bytes { value } = agent.call(Request::ListXattr { ino: f.ino }).await.unwrap() else {
        panic!()
    };
    assert!(value.is_empty());

    let too_long = vec![b'x'; caps::MAX_SYMLINK + 1];
    let targets: [(&[u8], Status); 3] =
        [(b"", Status::Invalid), (b"a\0b", Status::Invalid), (&too_long, Status::NameTooLong)];
    for (target, status) in targets {
        let node = NewNode::Symlink { target: target.to_vec() };
        assert_eq!(agent.call(create(name("link"), node)).await, Err(status));
    }
    // Where a link leads is the guest's affair: nothing here follows it.
    let node = NewNode::Symlink { target: b"../../../etc/passwd\xff".to_vec() };
    let Reply::Entry { attr } = agent.call(create(name("link"), node)).await.unwrap() else { panic!() };
    let through = Request::Lookup { parent: attr.ino, name: name("x") };
    assert_eq!(agent.call(through).await, Err(Status::NotDir));
    assert_eq!(agent.lookup(f.ino, "x").await, Err(Status::NotDir));

    // The place to go on in a listing may be any bytes: it is compared, never looked up.
    for after in [&b"\0"[..], b"..", b"../../x", b"\xff\xff", &[b'z'; 256]] {
        let list = Request::ReadDir { ino: Ino::ROOT, after: after.to_vec(), limit: 10, plus: true };
        assert!(matches!(agent.call(list).await, Ok(Reply::Entries { .. })), "{}", after.escape_ascii());
    }
    world.core.shutdown().await;
}
