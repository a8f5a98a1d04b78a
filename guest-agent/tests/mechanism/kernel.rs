//! The kernel's side of the bargain: what it tells us, what it makes of what it is told.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use mooring_agent::fuse::wait::WaitTable;
use mooring_agent::fuse::{
    Attr, Caller, DirPage, Entry, Errno, Filesystem, Mount, MountOptions, NodeId, Opened, ROOT, Range,
    Result, Stat, Told,
};
use tokio::sync::Semaphore;

use super::stage::wait_for;

const FILE: NodeId = 7;
const HANDLE: u64 = 42;

/// One file, whose opening waits until it is allowed.
#[derive(Default)]
struct Slow {
    allowed: Option<Arc<Semaphore>>,
    /// Attributes asked for.
    asked: AtomicU64,
    opening: AtomicU64,
    released: AtomicU64,
}

fn attr(node: NodeId) -> Attr {
    let kind = if node == ROOT { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
    let (atime, mtime, ctime) = (UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH);
    Attr { ino: node, size: 0, blocks: 0, mode: kind, nlink: 1, uid: 0, gid: 0, rdev: 0, atime, mtime, ctime }
}

impl Filesystem for Slow {
    async fn lookup(&self, _: Caller, _: NodeId, name: Bytes) -> Result<Entry> {
        if name != "file" {
            return Err(Errno::NOENT);
        }
        let ttl = Duration::from_secs(1000);
        Ok(Entry { attr: Some(attr(FILE)), entry_ttl: ttl, attr_ttl: ttl, hold: None })
    }

    async fn getattr(&self, _: Caller, node: NodeId, _: Option<u64>) -> Result<Stat> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Stat { attr: attr(node), ttl: Duration::from_secs(1000), hold: None })
    }

    async fn open(&self, _: Caller, _: NodeId, _: i32) -> Result<Opened> {
        self.opening.fetch_add(1, Ordering::SeqCst);
        if let Some(allowed) = &self.allowed {
            allowed.acquire().await.map_err(|_| Errno::IO)?.forget();
        }
        Ok(Opened { fh: HANDLE, ..Opened::default() })
    }

    async fn release(&self, node: NodeId, fh: u64) -> Result<()> {
        assert_eq!((node, fh), (FILE, HANDLE));
        self.released.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn readdir(&self, _: Caller, _: NodeId, _: u64, _: u64) -> Result<DirPage> {
        Ok(DirPage { entries: Arc::default(), from: 0, base: 0 })
    }
}

fn mount(fs: &Arc<Slow>, dir: &std::path::Path, runtime: &tokio::runtime::Runtime) -> Mount {
    let _in_runtime = runtime.enter();
    let waits = WaitTable::start();
    Mount::new(fs.clone(), dir, &MountOptions::default(), runtime.handle(), &waits).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn what_a_killed_program_was_opening_is_closed() {
    let (runtime, dir, allowed) = (runtime(), tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(0)));
    let fs = Arc::new(Slow { allowed: Some(allowed.clone()), ..Slow::default() });
    let mount = mount(&fs, dir.path(), &runtime);
    let mut program = Command::new("cat").arg(dir.path().join("file")).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the open", || fs.opening.load(Ordering::SeqCst) > 0);
    program.kill().unwrap();
    // Ends although the open has no answer yet.
    program.wait().unwrap();
    assert_eq!(fs.released.load(Ordering::SeqCst), 0);
    allowed.add_permits(1);
    wait_for("the release", || fs.released.load(Ordering::SeqCst) == 1);
    mount.unmount().unwrap();
}

#[test]
fn the_kernel_says_whether_it_knew_what_it_dropped() {
    let (runtime, dir) = (runtime(), tempfile::tempdir().unwrap());
    let fs = Arc::new(Slow::default());
    let mount = mount(&fs, dir.path(), &runtime);
    let notifier = mount.notifier().clone();
    let tell = |what: &str| match what {
        "attributes" => runtime.block_on(notifier.attr(FILE)),
        _ => runtime.block_on(notifier.pages(FILE, Range::ALL)),
    };
    assert_eq!((tell("attributes"), tell("pages")), (Told::Unknown, Told::Unknown));
    let path = dir.path().join("file");
    for what in ["attributes", "pages"] {
        std::fs::metadata(&path).unwrap();
        let before = fs.asked.load(Ordering::SeqCst);
        std::fs::metadata(&path).unwrap();
        assert_eq!(fs.asked.load(Ordering::SeqCst), before, "the kernel keeps attributes");
        assert_eq!(tell(what), Told::Dropped);
        std::fs::metadata(&path).unwrap();
        assert_eq!(fs.asked.load(Ordering::SeqCst), before + 1, "{what}: dropped, so asked for again");
    }
    mount.unmount().unwrap();
}
