//! The definition of right: a volume as plain maps and vectors in memory, behind the same traits.
//!
//! Nothing here is shared with [`crate::volume::Volume`] but the traits and their types, nothing is fast, and every operation is
//! the few lines its meaning needs. The conformance suite runs on both; the model test compares both after random
//! operations.

use crate::api::{Caller, ObjectMeta, Result};
use crate::error::StoreError;
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, FileKind, Ino, Name, Time};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};

mod bytes;
mod names;
mod objects;
mod snapshots;
mod tree;
mod uploads;

const BLOCK: u64 = 4096;

/// A volume in memory. Survives nothing.
pub struct Oracle {
    state: Mutex<State>,
    min_part_bytes: u64,
    /// By name: what was, and what is told of it.
    snapshots: Mutex<BTreeMap<String, (State, crate::api::SnapshotInfo)>>,
    /// It is a view of a snapshot.
    read_only: bool,
}

#[derive(Clone)]
struct State {
    nodes: BTreeMap<Ino, Node>,
    next: u64,
    uploads: BTreeMap<String, Upload>,
    operations: u64,
}

#[derive(Clone)]
struct Node {
    attr: Attr,
    /// Version of the last change of content.
    content: u64,
    data: Vec<u8>,
    /// Blocks of the data that are no holes.
    blocks: BTreeSet<u64>,
    target: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    children: BTreeMap<Name, Child>,
    /// Where a directory is; where a nameless inode last belonged to.
    parent: Ino,
    implicit: bool,
    object: Option<(u64, String, ObjectMeta)>,
    pins: u64,
    staged: bool,
    part: bool,
}

#[derive(Clone, PartialEq)]
struct Child {
    ino: Ino,
    /// The rest of a key that is no path.
    side: Option<Vec<u8>>,
}

#[derive(Clone)]
struct Upload {
    root: Ino,
    key: Vec<u8>,
    started: Time,
    meta: ObjectMeta,
    completed: Option<Ino>,
    parts: BTreeMap<u16, (Ino, crate::api::PartInfo)>,
}

impl Oracle {
    /// An empty volume, made at `now`.
    #[must_use]
    pub fn new(now: Time) -> Oracle {
        let mut root = Node::new(Ino::ROOT, FileKind::Dir, 0o755, (0, 0), now);
        root.attr.nlink = 2;
        let nodes = BTreeMap::from([(Ino::ROOT, root)]);
        let state = State { nodes, next: 2, uploads: BTreeMap::new(), operations: 0 };
        Oracle::with(state, false)
    }

    fn with(state: State, read_only: bool) -> Oracle {
        Oracle { state: Mutex::new(state), min_part_bytes: 5 << 20, snapshots: Mutex::default(), read_only }
    }

    /// The same, with another bound on parts of uploads.
    #[must_use]
    pub fn with_min_part_bytes(mut self, bytes: u64) -> Oracle {
        self.min_part_bytes = bytes;
        self
    }

    /// What a restart does: handles and uploads of bytes under way are gone, what they held is freed.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        for node in state.nodes.values_mut() {
            node.pins = 0;
            node.staged = false;
        }
        let all: Vec<Ino> = state.nodes.keys().copied().collect();
        all.into_iter().for_each(|ino| state.reap(ino));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.operations += 1;
        state
    }

    /// The state, for a caller that may do this to the volume as a whole.
    fn enter(&self, cx: &Caller, actions: &[Action]) -> Result<MutexGuard<'_, State>> {
        actions.iter().try_for_each(|action| cx.authority.check(*action, None))?;
        self.may(actions)?;
        Ok(self.state())
    }

    /// The state, for a caller that may do this to an object.
    fn enter_key(&self, cx: &Caller, action: Action, key: &[u8]) -> Result<MutexGuard<'_, State>> {
        cx.authority.check(action, Some(key))?;
        self.may(&[action])?;
        Ok(self.state())
    }

    fn may(&self, actions: &[Action]) -> Result<()> {
        let changes = actions.iter().any(|action| matches!(action, Action::Write | Action::Delete));
        if self.read_only && changes { Err(StoreError::ReadOnly) } else { Ok(()) }
    }
}

impl Node {
    fn new(ino: Ino, kind: FileKind, mode: u16, (uid, gid): (u32, u32), now: Time) -> Node {
        let size = if kind == FileKind::Dir { 4096 } else { 0 };
        let attr = Attr {
            ino,
            kind,
            mode: mode & 0o7777,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size,
            blocks: size / 512,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            version: 1,
        };
        Node {
            attr,
            content: 1,
            data: Vec::new(),
            blocks: BTreeSet::new(),
            target: Vec::new(),
            xattrs: BTreeMap::new(),
            children: BTreeMap::new(),
            parent: Ino::ROOT,
            implicit: false,
            object: None,
            pins: 0,
            staged: false,
            part: false,
        }
    }

    fn is_dir(&self) -> bool {
        self.attr.kind == FileKind::Dir
    }

    fn touch(&mut self, now: Time) {
        let after = self.attr.ctime.nanos + 1;
        let least = Time { secs: self.attr.ctime.secs, nanos: after };
        self.attr.ctime = if now > self.attr.ctime { now } else { least };
        self.attr.version += 1;
    }

    fn modify(&mut self, now: Time) {
        self.touch(now);
        self.attr.mtime = self.attr.ctime;
        self.content = self.attr.version;
    }

    /// Brings size and blocks of a file in line with its data.
    fn measure(&mut self) {
        if self.attr.kind == FileKind::File {
            self.attr.size = self.data.len() as u64;
            let end = self.attr.size.div_ceil(BLOCK);
            self.blocks.retain(|block| *block < end);
            self.attr.blocks = self.blocks.len() as u64 * (BLOCK / 512);
        }
    }

    fn shown(&self) -> Attr {
        let directories = self.children.len();
        debug_assert!(self.is_dir() || directories == 0);
        self.attr.clone()
    }
}

impl State {
    fn add(&mut self, mut node: Node) -> Ino {
        let ino = Ino::new(self.next).unwrap_or(Ino::ROOT);
        self.next += 1;
        node.attr.ino = ino;
        self.nodes.insert(ino, node);
        ino
    }

    fn node(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(StoreError::Stale(ino))
    }

    /// A node in the caller's world.
    fn seen(&mut self, cx: &Caller, ino: Ino) -> Result<&mut Node> {
        if cx.confined && !self.within(cx.root, ino) {
            return Err(StoreError::Stale(ino));
        }
        self.node(ino)
    }

    fn dir(&mut self, cx: &Caller, ino: Ino) -> Result<&mut Node> {
        let node = self.seen(cx, ino)?;
        if node.is_dir() { Ok(node) } else { Err(StoreError::NotDir) }
    }

    fn file(&mut self, cx: &Caller, ino: Ino) -> Result<&mut Node> {
        let node = self.seen(cx, ino)?;
        match node.attr.kind {
            FileKind::File => Ok(node),
            FileKind::Dir => Err(StoreError::IsDir),
            _ => Err(StoreError::Invalid("not a regular file")),
        }
    }

    fn within(&self, root: Ino, ino: Ino) -> bool {
        let Some(node) = self.nodes.get(&ino) else { return false };
        if ino == root {
            return true;
        }
        let named = |(_, node): &(&Ino, &Node)| node.children.values().any(|child| child.ino == ino);
        let mut parents: Vec<Ino> = self.nodes.iter().filter(named).map(|(parent, _)| *parent).collect();
        if parents.is_empty() && ino != Ino::ROOT {
            parents.push(node.parent);
        }
        parents.into_iter().any(|parent| self.within(root, parent))
    }

    /// Enters a name.
    fn enter(&mut self, parent: Ino, name: &Name, child: Child, now: Time) {
        let is_dir = self.nodes.get(&child.ino).is_some_and(Node::is_dir);
        if is_dir && let Some(node) = self.nodes.get_mut(&child.ino) {
            node.parent = parent;
        }
        if let Some(directory) = self.nodes.get_mut(&parent) {
            directory.children.insert(name.clone(), child);
            directory.attr.nlink += u32::from(is_dir);
            directory.modify(now);
        }
    }

    /// Takes a name out.
    fn leave(&mut self, parent: Ino, name: &Name, now: Time) {
        let Some(directory) = self.nodes.get_mut(&parent) else { return };
        let Some(child) = directory.children.remove(name) else { return };
        directory.modify(now);
        if self.nodes.get(&child.ino).is_some_and(Node::is_dir)
            && let Some(directory) = self.nodes.get_mut(&parent)
        {
            directory.attr.nlink -= 1;
        }
    }

    /// An inode loses one of its names; with the last it goes, unless something holds it.
    fn lose(&mut self, ino: Ino, parent: Ino, now: Time) -> Option<Attr> {
        let node = self.nodes.get_mut(&ino)?;
        node.attr.nlink = if node.is_dir() { 0 } else { node.attr.nlink - 1 };
        node.touch(now);
        if node.attr.nlink == 0 {
            node.parent = parent;
        }
        let attr = node.shown();
        self.reap(ino);
        Some(attr)
    }

    /// Frees an inode that has no name and that nothing holds.
    fn reap(&mut self, ino: Ino) {
        let free = |node: &Node| node.attr.nlink == 0 && node.pins == 0 && !node.staged && !node.part;
        if self.nodes.get(&ino).is_some_and(free) {
            self.nodes.remove(&ino);
        }
    }
}
