//! Names: looking them up, making and removing them. Each change is one request, done before it is answered.

use std::time::Duration;

use bytes::Bytes;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::types::{Attr, Ino, Name, NewNode, RenameMode};
use rustix::io::Errno;

use super::convert::{permissions, special_kind};
use super::{Door, FOR_EVER, errno, name, odd};
use crate::fuse::{Caller, Entry, NodeId, Result};

/// Entries of a directory that are all asked for, to know what is not there; one page of the gateway's.
const MAX_LISTED: u32 = 1024;

/// What the cache knows of a name.
enum Known {
    Nothing,
    Absent,
    Node(Ino),
}

impl Door {
    pub(super) async fn op_lookup(&self, parent: NodeId, bytes: &Bytes) -> Result<Entry> {
        let (parent, name) = (self.to_ino(parent)?, name(bytes)?);
        let mut known = self.known(parent, &name);
        if matches!(known, Known::Nothing) && self.worth_listing(parent) {
            // Nothing is said of names: the directory is too large, or may not be listed.
            let request = Request::ReadDir { ino: parent, after: Vec::new(), limit: MAX_LISTED, plus: false };
            if self.ask(request).await.is_ok() {
                known = self.known(parent, &name);
            }
        }
        match known {
            Known::Absent => return self.absent(parent, bytes),
            Known::Node(ino) => {
                let node = self.table.get(ino);
                if let Some((attr, hold)) = node.cached_attr() {
                    return Ok(self.to_entry(&attr, hold, self.tell(parent, bytes)));
                }
                let (attr, hold) = self.fetch_attr(&node).await?;
                return Ok(self.to_entry(&attr, hold, false));
            }
            Known::Nothing => {}
        }
        match self.ask(Request::Lookup { parent, name: name.clone() }).await {
            Ok(Reply::Entry { attr }) => self.entry(parent, bytes, attr),
            Ok(other) => Err(odd(&other)),
            Err(status) if errno(status) == Errno::NOENT => self.absent(parent, bytes),
            Err(status) => Err(errno(status)),
        }
    }

    fn known(&self, parent: Ino, name: &Name) -> Known {
        let dir = self.table.get(parent);
        let mut state = dir.state.lock();
        state.used = std::time::Instant::now();
        if !state.covered() {
            return Known::Nothing;
        }
        match state.names.get(name) {
            // Reachable by name, and in no listing.
            None if name.as_bytes() == Name::SNAPSHOTS => Known::Nothing,
            None if state.complete => Known::Absent,
            None => Known::Nothing,
            Some(None) => Known::Absent,
            Some(Some(ino)) => Known::Node(*ino),
        }
    }

    /// Whether to ask for all names of a directory instead of one: when another one did not exist, once for each lease.
    /// Whoever makes files asks first for each whether it is there.
    fn worth_listing(&self, parent: Ino) -> bool {
        let dir = self.table.get(parent);
        let mut state = dir.state.lock();
        state.covered() && state.missed && !std::mem::replace(&mut state.listed, true)
    }

    /// Whether the kernel may keep the name; if so it is noted, to be dropped there with the directory's lease.
    fn tell(&self, parent: Ino, bytes: &Bytes) -> bool {
        if !self.read_only {
            return false;
        }
        let dir = self.table.get(parent);
        let mut state = dir.state.lock();
        let may = state.kernel_may_keep();
        if may {
            state.told.insert(bytes.clone());
        }
        may
    }

    fn absent(&self, parent: Ino, bytes: &Bytes) -> Result<Entry> {
        let entry_ttl = if self.tell(parent, bytes) { FOR_EVER } else { Duration::ZERO };
        Ok(Entry { attr: None, entry_ttl, attr_ttl: Duration::ZERO, hold: None })
    }

    fn entry(&self, parent: Ino, bytes: &Bytes, attr: Attr) -> Result<Entry> {
        let node = self.table.get(attr.ino);
        let (attr, hold) = self.settle(&node, attr);
        let keep_name = hold.is_some() && self.tell(parent, bytes);
        Ok(self.to_entry(&attr, hold, keep_name))
    }

    pub(super) async fn op_mknod(
        &self,
        by: Caller,
        parent: NodeId,
        bytes: &Bytes,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry> {
        let node = match special_kind(mode) {
            Some(kind) => NewNode::Special { kind, rdev },
            None if mode & libc::S_IFMT == libc::S_IFREG || mode & libc::S_IFMT == 0 => {
                NewNode::File { open: None }
            }
            None => return Err(Errno::INVAL),
        };
        self.op_make(by, parent, bytes, mode, node).await
    }

    pub(super) async fn op_make(
        &self,
        by: Caller,
        parent: NodeId,
        bytes: &Bytes,
        mode: u32,
        node: NewNode,
    ) -> Result<Entry> {
        let (parent, name) = (self.to_ino(parent)?, name(bytes)?);
        let mode = permissions(mode);
        let request = Request::Create { parent, name, mode, uid: by.uid, gid: by.gid, node, exclusive: true };
        match self.ask(request).await.map_err(errno)? {
            Reply::Entry { attr } => self.entry(parent, bytes, attr),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_link(&self, node: NodeId, parent: NodeId, bytes: &Bytes) -> Result<Entry> {
        let (ino, parent, name) = (self.to_ino(node)?, self.to_ino(parent)?, name(bytes)?);
        // The new name must not come before the data.
        self.hand_over(&self.table.get(ino)).await;
        match self.ask(Request::Link { ino, parent, name }).await.map_err(errno)? {
            Reply::Entry { attr } => self.entry(parent, bytes, attr),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_unlink(&self, parent: NodeId, bytes: &Bytes) -> Result<()> {
        let request = Request::Unlink { parent: self.to_ino(parent)?, name: name(bytes)? };
        self.done(request).await
    }

    pub(super) async fn op_rmdir(&self, parent: NodeId, bytes: &Bytes) -> Result<()> {
        let request = Request::RmDir { parent: self.to_ino(parent)?, name: name(bytes)? };
        self.done(request).await
    }

    pub(super) async fn op_rename(
        &self,
        from: (NodeId, Bytes),
        to: (NodeId, Bytes),
        flags: u32,
    ) -> Result<()> {
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return Err(Errno::INVAL),
        };
        let (parent, name) = (self.to_ino(from.0)?, name(&from.1)?);
        let (new_parent, new_name) = (self.to_ino(to.0)?, super::name(&to.1)?);
        // Programs replace a file by writing another and renaming it: the data has to be there before the name.
        match self.hinted(parent, &name) {
            Some(ino) => self.hand_over(&self.table.get(ino)).await,
            None => self.hand_over_all().await,
        }
        self.done(Request::Rename { parent, name, new_parent, new_name, mode }).await
    }

    /// A request with nothing to say but that it is done.
    pub(super) async fn done(&self, request: Request) -> Result<()> {
        match self.ask(request).await.map_err(errno)? {
            Reply::Done => Ok(()),
            other => Err(odd(&other)),
        }
    }
}
