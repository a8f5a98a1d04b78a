//! The system calls of a volume, as strace sees them: how many times the disk is waited for, and in which order.
//!
//! A child, this binary again, runs under strace and writes a mark to its standard output before and after each
//! operation. The parent reads calls and marks in order. Two things are held to: an operation that promises durability has
//! an fdatasync that *began* after the last write to every journal and pack file it depends on and ended before it
//! returned; and it costs no more of them than stated here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Condition, ObjectMeta, Objects, Tree, WriteAt};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use volumes::{directory, name, open, owner};

/// Objects that are deleted together.
const MANY: usize = 50;
const CHILD: &str = "MOORING_STRACE_CHILD";

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes.into()
}

fn mark(what: &str) {
    // One write, which is one line of the trace.
    std::io::stdout().write_all(format!("@{what}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

async fn marked<T>(what: &str, operation: impl Future<Output = T>) -> T {
    mark(&format!("begin {what}"));
    let done = operation.await;
    mark(&format!("end {what}"));
    done
}

async fn work(dir: &Path) {
    let (volume, cx) = (open(dir).await, owner());
    let file = NewNode::File { open: None };
    // A first file, so that journal and pack exist.
    for number in 0..6_u64 {
        let called = name(&format!("f{number}"));
        let ino = volume.create(&cx, Ino::ROOT, &called, 0o644, (0, 0), &file).await.unwrap().ino;
        // Small enough for its row, or not.
        let bytes = noise(number, if number % 2 == 0 { 100_000 } else { 1000 });
        let written = volume.write(&cx, ino, WriteAt::End, bytes, None, false);
        marked("write", written).await.unwrap();
        marked("fsync", volume.fsync(&cx, ino)).await.unwrap();
        marked("idle", volume.fsync(&cx, ino)).await.unwrap();
    }
    for number in 0..3_u64 {
        let put = async {
            let staged = volume.stage(&cx).await.unwrap();
            volume.stage_write(&cx, staged, noise(10 + number, 50_000)).await.unwrap();
            let (meta, when) = (ObjectMeta::default(), Condition::default());
            volume.put(&cx, staged, format!("o{number}").as_bytes(), "e".into(), meta, &when).await.unwrap();
        };
        marked("put", put).await;
    }
    for number in 0..MANY {
        volume.create(&cx, Ino::ROOT, &name(&format!("m{number}")), 0o644, (0, 0), &file).await.unwrap();
    }
    volume.sync().await.unwrap();
    let many = async {
        for number in 0..MANY {
            let (key, when) = (format!("m{number}"), Condition::default());
            let gone = volume.delete_one_of_many(&cx, key.as_bytes(), &when).await.unwrap();
            assert!(!gone.unwrap().durable);
        }
        volume.sync().await.unwrap();
    };
    marked("many", many).await;
    marked("close", volume.close()).await.unwrap();
}

/// What a line of the trace tells.
#[derive(Debug, PartialEq)]
enum Seen {
    Mark(String),
    Wrote(String),
    SyncBegan(u32, String),
    SyncEnded(u32),
}

/// `strace -f -y` writes `pid call(fd<path>, ...) = result`, cut in two when another thread comes between.
fn read_line(line: &str) -> Option<Seen> {
    let (pid, call) = line.split_once(' ')?;
    let (pid, call) = (pid.parse().ok()?, call.trim_start());
    let path = || Some(call.split_once('<')?.1.split_once('>')?.0.to_owned());
    if let Some((_, said)) = call.split_once("\"@").filter(|_| call.starts_with("write(1<")) {
        return Some(Seen::Mark(said.split_once("\\n")?.0.to_owned()));
    }
    if call.starts_with("pwrite64(") {
        return Some(Seen::Wrote(path()?));
    }
    if call.starts_with("fdatasync(") || call.starts_with("fsync(") {
        return Some(Seen::SyncBegan(pid, path()?));
    }
    call.starts_with("<... f").then_some(Seen::SyncEnded(pid)).filter(|_| call.contains("sync resumed"))
}

/// What happened between two marks, and what was still unsynced at the second.
#[derive(Debug, Default)]
struct Operation {
    syncs: Vec<String>,
    unsynced: Vec<String>,
}

#[derive(Default)]
struct Trace {
    /// Files with bytes that no finished sync covers: the number of the last write.
    dirty: BTreeMap<String, u64>,
    /// Syncs under way: path, and the number of the last write when it began.
    running: BTreeMap<u32, (String, u64)>,
    number: u64,
    now: BTreeMap<String, Operation>,
    done: BTreeMap<String, Vec<Operation>>,
}

impl Trace {
    fn see(&mut self, seen: Seen, whole: bool) {
        self.number += 1;
        match seen {
            // The journal and packs; tables are written under another name and synced before they get theirs.
            Seen::Wrote(path) if path.contains("/journal/") || path.contains("/packs/") => {
                self.dirty.insert(path, self.number);
            }
            Seen::Wrote(_) => {}
            Seen::SyncBegan(pid, path) => {
                self.running.insert(pid, (path, self.number));
                if whole {
                    self.ended(pid);
                }
            }
            Seen::SyncEnded(pid) => self.ended(pid),
            Seen::Mark(said) => match said.split_once(' ') {
                Some(("begin", what)) => drop(self.now.insert(what.to_owned(), Operation::default())),
                Some(("end", what)) => {
                    let mut operation = self.now.remove(what).unwrap();
                    operation.unsynced = self.dirty.keys().cloned().collect();
                    self.done.entry(what.to_owned()).or_default().push(operation);
                }
                _ => {}
            },
        }
    }

    fn ended(&mut self, pid: u32) {
        let Some((path, began)) = self.running.remove(&pid) else { return };
        if self.dirty.get(&path).is_some_and(|written| *written < began) {
            self.dirty.remove(&path);
        }
        // The pack that was closed has another name by now.
        for operation in self.now.values_mut() {
            operation.syncs.push(path.clone());
        }
    }
}

#[test]
fn what_is_durable_was_synced_after_its_last_write_and_no_oftener_than_needed() {
    if let Ok(dir) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(work(Path::new(&dir)));
    }
    let dir = directory();
    let out = dir.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-s", "64", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o"])
        .arg(&out)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("what_is_durable_was_synced_after_its_last_write_and_no_oftener_than_needed")
        .env(CHILD, dir.path())
        .stdout(Stdio::null())
        .status()
        .expect("strace is installed: cargo xtask setup");
    assert!(status.success(), "{status}");
    let mut trace = Trace::default();
    for line in std::fs::read_to_string(&out).unwrap().lines() {
        if let Some(seen) = read_line(line) {
            trace.see(seen, !line.contains("<unfinished"));
        }
    }
    let of = |what: &str| trace.done.get(what).map(Vec::as_slice).unwrap_or_default();
    for what in ["write", "fsync", "idle", "put", "many", "close"] {
        let counts: Vec<usize> = of(what).iter().map(|operation| operation.syncs.len()).collect();
        println!("{what}: {counts:?} syncs");
    }
    assert_eq!((of("fsync").len(), of("put").len(), of("close").len()), (6, 3, 1), "marks are missing");
    for what in ["fsync", "put", "many", "close"] {
        for operation in of(what) {
            assert_eq!(operation.unsynced, [""; 0], "{what} returned before this was durable");
        }
    }
    // An fsync waits for the pack (and, once, its directory) and for the journal; one sync more may be the background's.
    assert!(
        of("fsync").iter().all(|operation| (1..=4).contains(&operation.syncs.len())),
        "{:?}",
        of("fsync")
    );
    let small = of("fsync").iter().skip(1).step_by(2);
    assert!(small.map(|operation| operation.syncs.len()).min() <= Some(2), "{:?}", of("fsync"));
    // Nothing was written since, so nothing is waited for.
    assert!(of("idle").iter().all(|operation| operation.syncs.is_empty()), "{:?}", of("idle"));
    assert!(of("put").iter().all(|operation| operation.syncs.len() <= 5), "{:?}", of("put"));
    // All of them wait once.
    let [many] = of("many") else { panic!("the mark of many is missing") };
    assert!((1..=4).contains(&many.syncs.len()), "{:?}", many.syncs);
}
