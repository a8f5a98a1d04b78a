//! One file or directory as it is known here.
//!
//! A node stands for one content of one key. While somebody has it open, a content that replaces it in the other store
//! gets a node of its own, and this one is *gone*: it has no name any more, and what was not read of it can only be
//! read as long as the other store has that very content. So a reader never gets bytes of two contents.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mooring_protocol::types::{Attr, FileKind, Ino, Time};
use parking_lot::Mutex;

use crate::config::Look;
use crate::remote::Stat;
use crate::spool::Spool;

/// A file or directory.
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// File or directory.
    pub kind: FileKind,
    /// Held while its bytes change or travel: one at a time.
    pub work: tokio::sync::Mutex<()>,
    /// The rest.
    pub state: Mutex<State>,
    /// When it was last asked for, as a count.
    pub used: AtomicU64,
}

/// What is known of a [`Node`].
pub struct State {
    /// Its key; a directory's ends with `/`, and the root's is empty.
    pub key: Vec<u8>,
    /// Nothing leads to it any more.
    pub gone: bool,
    /// The content it stands for; none: nothing of it is in the other store yet, or it is a directory.
    pub stat: Option<Stat>,
    /// When the other store was last asked, or we told it.
    pub checked: Duration,
    /// Moves with every change that is seen.
    pub version: u64,
    /// Open handles.
    pub pins: u32,
    /// Never forgotten: the root of a share.
    pub sticky: bool,
    /// Its bytes, when they were written or are about to be.
    pub spool: Option<Arc<Spool>>,
    /// What is in the spool is not in the other store.
    pub dirty: Option<Dirty>,
    /// When it came about, as far as we saw it.
    pub born: Time,
    /// Last change made here, until the other store says its own time.
    pub modified: Option<Time>,
}

/// Something waits to be uploaded.
#[derive(Clone, Copy, Debug)]
pub struct Dirty {
    /// The number of the change.
    pub seq: u64,
    /// When it may be uploaded without anybody asking.
    pub due: Duration,
    /// Tries that failed.
    pub failed: u32,
}

impl State {
    /// Bytes it has.
    pub fn size(&self) -> u64 {
        match &self.spool {
            Some(spool) => spool.size(),
            None => self.stat.as_ref().map_or(0, |stat| stat.size),
        }
    }

    /// Last change of content.
    pub fn mtime(&self) -> Time {
        self.modified.or(self.stat.as_ref().map(|stat| stat.modified)).unwrap_or(self.born)
    }

    /// It may be forgotten: what is known of it can be asked for again.
    pub fn is_spare(&self) -> bool {
        self.pins == 0 && !self.sticky && self.spool.is_none() && self.dirty.is_none()
    }
}

impl Node {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }

    /// What `stat` shows.
    pub fn attr(&self, look: &Look) -> Attr {
        let state = self.state.lock();
        let (size, mode) = match self.kind {
            FileKind::Dir => (4096, look.dir_mode),
            _ => (state.size(), look.file_mode),
        };
        let mtime = state.mtime();
        Attr {
            ino: self.ino,
            kind: self.kind,
            mode,
            nlink: match (state.gone, self.kind) {
                (true, _) => 0,
                (false, FileKind::Dir) => 2,
                (false, _) => 1,
            },
            uid: look.uid,
            gid: look.gid,
            rdev: 0,
            size,
            blocks: size.div_ceil(512),
            atime: mtime,
            mtime,
            ctime: mtime,
            btime: state.born,
            version: state.version,
        }
    }
}
