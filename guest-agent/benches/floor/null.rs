//! A file system that keeps names and sizes and no data: what FUSE itself costs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mooring_agent::fuse::{
    Attr, Caller, Created, DirEntry, DirPage, Entry, Errno, Filesystem, NodeId, Opened, ROOT, Result,
    SetAttr, Stat, WriteIn,
};
use parking_lot::Mutex;

/// Attributes are kept under a lease; names are asked for each time. The same rules as the agent's.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// One flat directory.
pub struct Null {
    files: Mutex<(BTreeMap<Bytes, NodeId>, HashMap<NodeId, u64>)>,
    next: AtomicU64,
    zeros: Bytes,
}

impl Null {
    pub fn new() -> Arc<Null> {
        let zeros = Bytes::from(vec![0u8; 1 << 20]);
        Arc::new(Null { files: Mutex::default(), next: AtomicU64::new(2), zeros })
    }

    fn attr(&self, node: NodeId) -> Result<Attr> {
        let (mode, size) = match node {
            ROOT => (libc::S_IFDIR | 0o755, 0),
            _ => (libc::S_IFREG | 0o644, *self.files.lock().1.get(&node).ok_or(Errno::NOENT)?),
        };
        let epoch = SystemTime::UNIX_EPOCH;
        let (nlink, blocks) = (1, size.div_ceil(512));
        Ok(Attr {
            ino: node,
            size,
            blocks,
            mode,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
        })
    }

    fn entry(&self, node: NodeId) -> Result<Entry> {
        Ok(Entry { attr: Some(self.attr(node)?), entry_ttl: Duration::ZERO, attr_ttl: FOR_EVER, hold: None })
    }
}

impl Filesystem for Null {
    async fn lookup(&self, _: Caller, _: NodeId, name: Bytes) -> Result<Entry> {
        let node = self.files.lock().0.get(&name).copied().ok_or(Errno::NOENT)?;
        self.entry(node)
    }

    async fn getattr(&self, _: Caller, node: NodeId, _: Option<u64>) -> Result<Stat> {
        Ok(Stat { attr: self.attr(node)?, ttl: FOR_EVER, hold: None })
    }

    async fn setattr(&self, _: Caller, node: NodeId, set: SetAttr) -> Result<Stat> {
        if let Some(size) = set.size {
            self.files.lock().1.insert(node, size);
        }
        Ok(Stat { attr: self.attr(node)?, ttl: FOR_EVER, hold: None })
    }

    async fn open(&self, _: Caller, _: NodeId, _: i32) -> Result<Opened> {
        Ok(Opened { keep_cache: true, ..Opened::default() })
    }

    async fn create(&self, _: Caller, _: NodeId, name: Bytes, _: u32, _: i32) -> Result<Created> {
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut files = self.files.lock();
            files.0.insert(name, node);
            files.1.insert(node, 0);
        }
        let opened = Opened { keep_cache: true, ..Opened::default() };
        Ok(Created { entry: self.entry(node)?, opened })
    }

    async fn unlink(&self, _: Caller, _: NodeId, name: Bytes) -> Result<()> {
        let mut files = self.files.lock();
        let node = files.0.remove(&name).ok_or(Errno::NOENT)?;
        files.1.remove(&node);
        Ok(())
    }

    async fn read(&self, _: Caller, node: NodeId, _: u64, offset: u64, size: u32) -> Result<Bytes> {
        let len = self.attr(node)?.size;
        let n = len.saturating_sub(offset).min(u64::from(size));
        Ok(self.zeros.slice(..usize::try_from(n).unwrap_or(0)))
    }

    async fn write(&self, _: Caller, node: NodeId, _: u64, write: WriteIn) -> Result<u32> {
        let mut files = self.files.lock();
        let size = files.1.get_mut(&node).ok_or(Errno::NOENT)?;
        *size = (*size).max(write.offset + write.data.len() as u64);
        u32::try_from(write.data.len()).map_err(|_| Errno::INVAL)
    }

    async fn fsync(&self, _: Caller, _: NodeId, _: u64, _: bool) -> Result<()> {
        Ok(())
    }

    async fn readdir(&self, _: Caller, _: NodeId, _: u64, offset: u64) -> Result<DirPage> {
        let names: Vec<(Bytes, NodeId)> =
            self.files.lock().0.iter().map(|(name, &node)| (name.clone(), node)).collect();
        let entries =
            names.into_iter().map(|(name, ino)| DirEntry { ino, kind: libc::S_IFREG, name }).collect();
        let from = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        Ok(DirPage { entries: Arc::new(entries), from, base: 0 })
    }
}
