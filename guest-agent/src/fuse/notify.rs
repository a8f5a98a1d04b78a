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

use bytes::Bytes;
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

enum What {
    Pages { node: NodeId, range: Range },
    Attr { node: NodeId },
    Entry { parent: NodeId, name: Bytes },
    Delete { parent: NodeId, child: NodeId, name: Bytes },
}

/// Sends notifications for one mount. Cheap to clone. A future that is dropped leaves its notification to finish by
/// itself.
#[derive(Clone)]
pub struct Notifier {
    kernel: fuser::Notifier,
    runtime: Handle,
}

impl Notifier {
    pub(super) fn new(kernel: fuser::Notifier, runtime: Handle) -> Notifier {
        Notifier { kernel, runtime }
    }

    /// Drops cached pages and attributes of a node. Returns when no cached page of the range is left.
    pub async fn pages(&self, node: NodeId, range: Range) {
        self.run(What::Pages { node, range }).await;
    }

    /// Drops the cached attributes of a node. Never waits for a request.
    pub async fn attr(&self, node: NodeId) {
        self.run(What::Attr { node }).await;
    }

    /// Drops what is known of a name.
    pub async fn entry(&self, parent: NodeId, name: Bytes) {
        self.run(What::Entry { parent, name }).await;
    }

    /// Drops a name that was removed, and tells watchers (inotify).
    pub async fn delete(&self, parent: NodeId, child: NodeId, name: Bytes) {
        self.run(What::Delete { parent, child, name }).await;
    }

    async fn run(&self, what: What) {
        let kernel = self.kernel.clone();
        let told = self.runtime.spawn_blocking(move || what.tell(&kernel)).await;
        match told {
            // The connection is gone (unmounted), and with it the caches.
            Ok(Err(error)) => tracing::debug!(%error, "notification refused"),
            Err(error) => tracing::debug!(%error, "notification not sent: the runtime ends"),
            Ok(Ok(())) => {}
        }
    }
}

impl What {
    fn tell(&self, kernel: &fuser::Notifier) -> std::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = |b: &Bytes| std::ffi::OsStr::from_bytes(b).to_os_string();
        match self {
            What::Pages { node, range } => {
                let offset = i64::try_from(range.offset).unwrap_or(i64::MAX);
                let len = i64::try_from(range.len).unwrap_or(0);
                kernel.inval_inode(fuser::INodeNo(*node), offset, len)
            }
            // A negative offset drops the attributes and leaves the pages.
            What::Attr { node } => kernel.inval_inode(fuser::INodeNo(*node), -1, 0),
            What::Entry { parent, name } => kernel.inval_entry(fuser::INodeNo(*parent), &os(name)),
            What::Delete { parent, child, name } => {
                kernel.delete(fuser::INodeNo(*parent), fuser::INodeNo(*child), &os(name))
            }
        }
    }
}
