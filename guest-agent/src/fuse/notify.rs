//! Telling the kernel to forget.
//!
//! `FUSE_NOTIFY_INVAL_INODE` waits for the locks of the pages it drops, `FUSE_NOTIFY_INVAL_ENTRY` for the lock of the
//! directory: while a read or write of such a page or a create in such a directory waits for *our* answer, the
//! notification waits with it. Three rules keep that from closing a circle:
//!
//! 1. Notifications run on threads of their own (the runtime's pool for blocking work), never on one that answers
//!    requests, and one that waits keeps no other from running.
//! 2. Nobody waits for one while holding a lock that answering a request needs.
//! 3. Who waits for one knows what it may be waiting for: see `fs::recall` for reads and for writes under way.
//!
//! Invalidations of inodes are written here and not by `fuser`, which does not tell whether the kernel knew the inode.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::runtime::Handle;

use super::types::NodeId;

/// Bytes of a file: from `offset`, `len` of them; `len` 0 is to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// How many; 0 = to the end.
    pub len: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Range = Range { offset: 0, len: 0 };
}

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing of it is left in the kernel, also not what is in an answer that the kernel has taken but not used yet.
    Dropped,
    /// The kernel does not know the inode. It may learn of it by an answer that it has taken but not used yet.
    Unknown,
}

enum What {
    Inode { node: NodeId, offset: i64, len: i64 },
    Entry { parent: NodeId, name: Bytes },
    Delete { parent: NodeId, child: NodeId, name: Bytes },
}

/// Sends notifications for one mount. Cheap to clone. A future that is dropped leaves its notification to finish by
/// itself.
#[derive(Clone)]
pub struct Notifier {
    kernel: fuser::Notifier,
    device: Arc<OwnedFd>,
    runtime: Handle,
}

impl Notifier {
    pub(super) fn new(kernel: fuser::Notifier, device: OwnedFd, runtime: Handle) -> Notifier {
        Notifier { kernel, device: Arc::new(device), runtime }
    }

    /// Drops cached pages and attributes of a node. Returns when no cached page of the range is left.
    pub async fn pages(&self, node: NodeId, range: Range) -> Told {
        let offset = i64::try_from(range.offset).unwrap_or(i64::MAX);
        let len = i64::try_from(range.len).unwrap_or(0);
        self.run(What::Inode { node, offset, len }).await
    }

    /// Drops the cached attributes of a node. Never waits for a request.
    pub async fn attr(&self, node: NodeId) -> Told {
        // A negative offset drops the attributes and leaves the pages.
        self.run(What::Inode { node, offset: -1, len: 0 }).await
    }

    /// Drops what is known of a name.
    pub async fn entry(&self, parent: NodeId, name: Bytes) {
        self.run(What::Entry { parent, name }).await;
    }

    /// Drops a name that was removed, and tells watchers (inotify).
    pub async fn delete(&self, parent: NodeId, child: NodeId, name: Bytes) {
        self.run(What::Delete { parent, child, name }).await;
    }

    async fn run(&self, what: What) -> Told {
        let (kernel, device) = (self.kernel.clone(), self.device.clone());
        let told = self.runtime.spawn_blocking(move || what.tell(&kernel, &device)).await;
        match told {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Told::Unknown,
            // The connection is gone (unmounted), and with it the caches.
            Ok(Err(error)) => tracing::debug!(%error, "notification refused"),
            Err(error) => tracing::debug!(%error, "notification not sent: the runtime ends"),
            Ok(Ok(())) => {}
        }
        Told::Dropped
    }
}

impl What {
    fn tell(&self, kernel: &fuser::Notifier, device: &OwnedFd) -> std::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = |b: &Bytes| std::ffi::OsStr::from_bytes(b).to_os_string();
        match self {
            What::Inode { node, offset, len } => loop {
                match rustix::io::write(device, &inval_inode(*node, *offset, *len)) {
                    Err(Errno::INTR) => {}
                    written => return Ok(written.map(drop)?),
                }
            },
            What::Entry { parent, name } => kernel.inval_entry(fuser::INodeNo(*parent), &os(name)),
            What::Delete { parent, child, name } => {
                kernel.delete(fuser::INodeNo(*parent), fuser::INodeNo(*child), &os(name))
            }
        }
    }
}

/// `FUSE_NOTIFY_INVAL_INODE` as `linux/fuse.h` has it: `fuse_out_header` (length, the notification's code in place of
/// an error, no request), then `fuse_notify_inval_inode_out` (inode, offset, length).
fn inval_inode(node: NodeId, offset: i64, len: i64) -> [u8; 40] {
    const CODE: i32 = 2;
    let mut message = [0; 40];
    message[0..4].copy_from_slice(&40_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&CODE.to_ne_bytes());
    message[16..24].copy_from_slice(&node.to_ne_bytes());
    message[24..32].copy_from_slice(&offset.to_ne_bytes());
    message[32..40].copy_from_slice(&len.to_ne_bytes());
    message
}
