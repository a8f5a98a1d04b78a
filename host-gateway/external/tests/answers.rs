//! What the other store may answer, and what becomes of it: refusals, failures, lies. The store is a listener that says
//! whatever the test wants.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mooring_external::{External, Look, Options, Place, probe};
use mooring_policy::action::Action;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::SystemRandom;
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Allocate, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, XattrMode};
use mooring_store::api::{
    Authority, Caller, Condition, ListQuery, ObjectMeta, Objects, PartInfo, Result, Staged, Tree, WriteAt,
};
use mooring_store::error::StoreError;
use mooring_store::seal::TenantKey;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers a request, given its first line.
type Answer = fn(&str) -> Reply;

/// Whether it is the right error.
type Kind = fn(&StoreError) -> bool;

/// Status, more headers, and a body with the length it claims.
struct Reply(u16, &'static str, Vec<u8>);

fn ok(body: &str) -> Reply {
    Reply(200, "", body.as_bytes().to_vec())
}

struct Store {
    place: Place,
    asked: Arc<AtomicUsize>,
}

impl Store {
    async fn new(answer: Answer) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, answer, Arc::clone(&count)));
            }
        });
        let place = Place {
            endpoint: Some(endpoint),
            region: "r".to_owned(),
            bucket: "shop".to_owned(),
            prefix: "pre/".to_owned(),
            path_style: true,
            access_key: "id".to_owned(),
            secret: "secret".to_owned().into(),
        };
        Store { place, asked }
    }

    fn open(&self) -> Arc<External> {
        External::open(Options {
            volume: VolumeId(1),
            place: self.place.clone(),
            look: Look::default(),
            spool: std::env::temp_dir(),
            hash: TenantKey::generate(&SystemRandom).hash_key(),
            clock: Arc::new(SystemClock::new()),
        })
        .unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn talk(stream: TcpStream, answer: Answer, asked: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        let Reply(status, headers, body) = answer(&first);
        let claimed = if headers.contains("content-length") {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let head = format!("HTTP/1.1 {status} X\r\n{claimed}{headers}\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
        if headers.contains("connection: close") {
            return;
        }
    }
}

struct Says(bool);

impl Authority for Says {
    fn check(&self, action: Action, _: Option<&[u8]>) -> Result<()> {
        if self.0 { Ok(()) } else { Err(StoreError::AccessDenied(action.to_string())) }
    }
}

fn caller(may: bool) -> Caller {
    let now = Time { secs: 2_000_000_000, nanos: 0 };
    Caller { authority: Arc::new(Says(may)), root: Ino::ROOT, confined: false, now, trace: 0 }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn each_refusal_has_its_error_and_tries_are_bounded() {
    let refuse: [(Answer, Kind, usize); 6] = [
        (|_| Reply(403, "", Vec::new()), |e| matches!(e, StoreError::AccessDenied(_)), 1),
        (|_| Reply(404, "", Vec::new()), |e| matches!(e, StoreError::NotFound), 1),
        (|_| Reply(500, "", Vec::new()), |e| matches!(e, StoreError::Unavailable(_)), 4),
        (|_| Reply(503, "", Vec::new()), |e| matches!(e, StoreError::Unavailable(_)), 4),
        (|_| Reply(429, "", Vec::new()), |e| matches!(e, StoreError::Unavailable(_)), 4),
        (|_| Reply(418, "", Vec::new()), |e| matches!(e, StoreError::Store(_)), 1),
    ];
    let looks = refuse.into_iter().map(|(answer, is_right, most)| async move {
        let store = Store::new(answer).await;
        let error = store.open().head(&caller(true), b"key").await.unwrap_err();
        assert!(is_right(&error), "{error:?}");
        assert!((1..=most).contains(&store.asked()), "{} tries: {error}", store.asked());
    });
    futures::future::join_all(looks).await;
}

#[tokio::test]
async fn bytes_of_another_content_are_never_given() {
    // It ignores the condition; another content is there than the one that was looked at.
    let store = Store::new(|first| match first.starts_with("HEAD") {
        true => Reply(200, "etag: \"one\"\r\ncontent-length: 5\r\n", Vec::new()),
        false if first.starts_with("GET /shop/pre/key") => Reply(200, "etag: \"two\"\r\n", b"other".to_vec()),
        false => ok("<ListBucketResult></ListBucketResult>"),
    })
    .await;
    let external = store.open();
    let info = external.head(&caller(true), b"key").await.unwrap();
    let read = external.read(&caller(true), info.ino, 0, 5).await;
    assert!(matches!(read, Err(StoreError::Stale(ino)) if ino == info.ino), "{read:?}");
}

#[tokio::test]
async fn an_answer_too_long_or_too_short_is_an_error() {
    for body in [&b"more than was asked for"[..], b"less"] {
        let answer: Answer = match body.len() {
            4 => |first| answers(first, b"less"),
            _ => |first| answers(first, b"more than was asked for"),
        };
        let store = Store::new(answer).await;
        let external = store.open();
        let info = external.head(&caller(true), b"key").await.unwrap();
        let read = external.read(&caller(true), info.ino, 0, 8).await;
        assert!(matches!(read, Err(StoreError::Store(_) | StoreError::Unavailable(_))), "{read:?}");
    }
}

fn answers(first: &str, body: &[u8]) -> Reply {
    match first.starts_with("HEAD") {
        true => Reply(200, "etag: \"one\"\r\ncontent-length: 8\r\n", Vec::new()),
        false => Reply(206, "etag: \"one\"\r\n", body.to_vec()),
    }
}

#[tokio::test]
async fn a_listing_that_lies_is_an_error_and_ends() {
    const BESIDE: &str = "<ListBucketResult><Contents><Key>else/x</Key><Size>1</Size><ETag>e</ETag></Contents></ListBucketResult>";
    const ENDLESS: &str = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    const GARBAGE: &str = "<ListBucketResult><Contents><Key>pre/";
    let all: [(&str, Answer); 3] =
        [(BESIDE, |_| ok(BESIDE)), (ENDLESS, |_| ok(ENDLESS)), (GARBAGE, |_| ok(GARBAGE))];
    for (body, answer) in all {
        let store = Store::new(answer).await;
        let listed = store.open().readdir(&caller(true), Ino::ROOT, b"", 100, true).await;
        assert!(listed.is_err(), "{body}: {listed:?}");
        assert!(store.asked() <= 4, "{body}: asked {} times", store.asked());
    }
    assert!(probe(&Store::new(|_| Reply(403, "", Vec::new())).await.place).await.is_err());
}

#[tokio::test]
async fn who_may_not_is_refused_before_the_other_store_is_asked() {
    let store = Store::new(|_| panic!("nobody may ask")).await;
    let (e, cx, ino) = (store.open(), &caller(false), Ino::ROOT);
    let (n, at, when, staged) = (&name("n"), WriteAt::End, &Condition::default(), Staged { ino });
    let (file, replace) = (&NewNode::File { open: None }, RenameMode::Replace);
    let reserve = Allocate::Reserve { keep_size: true };
    let part = || PartInfo {
        number: 1,
        size: 0,
        etag: String::new(),
        checksums: Vec::new(),
        modified: Time::default(),
    };
    let refused: Vec<(&str, Option<StoreError>)> = vec![
        ("lookup", e.lookup(cx, ino, n).await.err()),
        ("getattr", e.getattr(cx, ino).await.err()),
        ("setattr", e.setattr(cx, ino, &SetAttr::default()).await.err()),
        ("create", e.create(cx, ino, n, 0, (0, 0), file).await.err()),
        ("link", e.link(cx, ino, ino, n).await.err()),
        ("unlink", e.unlink(cx, ino, n).await.err()),
        ("rmdir", e.rmdir(cx, ino, n).await.err()),
        ("rename", e.rename(cx, ino, n, ino, n, replace).await.err()),
        ("readlink", e.readlink(cx, ino).await.err()),
        ("readdir", e.readdir(cx, ino, b"", 1, true).await.err()),
        ("read", e.read(cx, ino, 0, 1).await.err()),
        ("write", e.write(cx, ino, at, Bytes::new(), None, false).await.err()),
        ("allocate", e.allocate(cx, ino, 0, 1, reserve).await.err()),
        ("seek", e.seek(cx, ino, 0, Seek::Data).await.err()),
        ("copy_range", e.copy_range(cx, (ino, 0), (ino, 0), 1).await.err()),
        ("getxattr", e.getxattr(cx, ino, b"a").await.err()),
        ("listxattr", e.listxattr(cx, ino).await.err()),
        ("setxattr", e.setxattr(cx, ino, b"a", b"b", XattrMode::Set).await.err()),
        ("removexattr", e.removexattr(cx, ino, b"a").await.err()),
        ("statfs", e.statfs(cx).await.err()),
        ("pin", e.pin(cx, ino).await.err()),
        ("fsync", e.fsync(cx, ino).await.err()),
        ("head", e.head(cx, b"k").await.err()),
        ("stage", e.stage(cx).await.err()),
        ("stage_write", e.stage_write(cx, staged, Bytes::new()).await.err()),
        ("stage_abort", e.stage_abort(cx, staged).await.err()),
        ("put", e.put(cx, staged, b"k", String::new(), ObjectMeta::default(), when).await.err()),
        ("delete", e.delete(cx, b"k", when).await.err()),
        ("stage_copy", e.stage_copy(cx, ino, 0, 1, staged).await.err()),
        ("list", e.list(cx, &ListQuery::default()).await.err()),
        ("upload_create", e.upload_create(cx, b"k", ObjectMeta::default()).await.err()),
        ("upload_get", e.upload_get(cx, b"k", "id").await.err()),
        ("upload_part", e.upload_part(cx, b"k", "id", part(), staged).await.err()),
        ("upload_parts", e.upload_parts(cx, b"k", "id", 0, 1).await.err()),
        ("uploads", e.uploads(cx, b"", (b"", ""), 1).await.err()),
        ("upload_complete", e.upload_complete(cx, b"k", "id", &[], Vec::new(), when).await.err()),
        ("upload_abort", e.upload_abort(cx, b"k", "id").await.err()),
    ];
    for (method, error) in refused {
        assert!(matches!(error, Some(StoreError::AccessDenied(_))), "{method}: {error:?}");
    }
    assert_eq!(store.asked(), 0);
}
