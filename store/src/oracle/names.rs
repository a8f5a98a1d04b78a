//! Names.

use super::{Child, Node, State};
use crate::api::{Caller, Renamed, Result};
use crate::error::StoreError;
use mooring_protocol::caps::{MAX_LINKS, MAX_SYMLINK};
use mooring_protocol::types::{Attr, DirEntry, FileKind, Ino, Name, NewNode, RenameMode};

impl State {
    pub(super) fn create(
        &mut self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        (uid, gid): (u32, u32),
        node: &NewNode,
    ) -> Result<Attr> {
        let (kind, rdev, target) = match node {
            NewNode::File { .. } => (FileKind::File, 0, Vec::new()),
            NewNode::Dir => (FileKind::Dir, 0, Vec::new()),
            NewNode::Symlink { target } if target.len() > MAX_SYMLINK => return Err(StoreError::NameTooLong),
            NewNode::Symlink { target } if target.is_empty() || target.contains(&0) => {
                return Err(StoreError::Invalid("symlink target"));
            }
            NewNode::Symlink { target } => (FileKind::Symlink, 0, target.clone()),
            NewNode::Special { kind: FileKind::File | FileKind::Dir | FileKind::Symlink, .. } => {
                return Err(StoreError::Invalid("not a special file"));
            }
            NewNode::Special { kind, rdev } => (*kind, *rdev, Vec::new()),
        };
        let directory = self.dir(cx, parent)?;
        if directory.attr.nlink == 0 {
            return Err(StoreError::NotFound);
        }
        if directory.children.contains_key(name) {
            return Err(StoreError::Exists);
        }
        let setgid = directory.attr.mode & 0o2000;
        let gid = if setgid != 0 { directory.attr.gid } else { gid };
        let mut new = Node::new(parent, kind, mode, (uid, gid), cx.now);
        new.attr.rdev = rdev;
        match kind {
            FileKind::Dir => {
                new.attr.nlink = 2;
                new.attr.mode |= setgid;
            }
            FileKind::Symlink => {
                new.attr.mode = 0o777;
                new.attr.size = target.len() as u64;
            }
            _ => {}
        }
        new.target = target;
        let ino = self.add(new);
        self.enter(parent, name, Child { ino, side: None }, cx.now);
        Ok(self.node(ino)?.shown())
    }

    pub(super) fn link(&mut self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        let node = self.seen(cx, ino)?.clone();
        if cx.confined && !self.within(cx.root, parent) {
            return Err(StoreError::CrossDevice);
        }
        let directory = self.dir(cx, parent)?.clone();
        if node.is_dir() {
            return Err(StoreError::AccessDenied("a directory has one name only".into()));
        }
        if directory.attr.nlink == 0 || (node.attr.nlink == 0 && (node.staged || node.part)) {
            return Err(StoreError::NotFound);
        }
        if node.attr.nlink >= MAX_LINKS {
            return Err(StoreError::TooManyLinks);
        }
        if directory.children.contains_key(name) {
            return Err(StoreError::Exists);
        }
        self.enter(parent, name, Child { ino, side: None }, cx.now);
        let node = self.node(ino)?;
        node.attr.nlink += 1;
        node.touch(cx.now);
        Ok(node.shown())
    }

    pub(super) fn remove(&mut self, cx: &Caller, parent: Ino, name: &Name, directory: bool) -> Result<Attr> {
        let child = self.dir(cx, parent)?.children.get(name).ok_or(StoreError::NotFound)?.clone();
        let node = self.node(child.ino)?;
        match (directory, node.is_dir()) {
            (true, false) => return Err(StoreError::NotDir),
            (false, true) => return Err(StoreError::IsDir),
            (true, true) if !node.children.is_empty() => return Err(StoreError::NotEmpty),
            _ => {}
        }
        self.leave(parent, name, cx.now);
        self.lose(child.ino, parent, cx.now).ok_or(StoreError::NotFound)
    }

    pub(super) fn rename(
        &mut self,
        cx: &Caller,
        (parent, name): (Ino, &Name),
        (new_parent, new_name): (Ino, &Name),
        mode: RenameMode,
    ) -> Result<Renamed> {
        self.seen(cx, parent)?;
        if cx.confined && !self.within(cx.root, new_parent) {
            return Err(StoreError::CrossDevice);
        }
        let source = self.dir(cx, parent)?.children.get(name).cloned();
        let target = self.dir(cx, new_parent)?.children.get(new_name).cloned();
        let new_parent_gone = self.node(new_parent)?.attr.nlink == 0;
        let source = source.ok_or(StoreError::NotFound)?.ino;
        match (mode, &target) {
            (RenameMode::NoReplace, Some(_)) => return Err(StoreError::Exists),
            (RenameMode::Exchange, None) => return Err(StoreError::NotFound),
            (_, Some(target)) if target.ino == source => {
                return Ok(Renamed { moved: self.node(source)?.shown(), other: None });
            }
            _ => {}
        }
        let below_itself = |state: &State, moved: Ino, from: Ino, to: Ino| {
            from != to && state.nodes.get(&moved).is_some_and(Node::is_dir) && state.within(moved, to)
        };
        let exchange = mode == RenameMode::Exchange;
        let other = target.as_ref().map(|target| target.ino);
        if below_itself(self, source, parent, new_parent)
            || exchange && other.is_some_and(|other| below_itself(self, other, new_parent, parent))
        {
            return Err(StoreError::Invalid("a directory cannot be moved below itself"));
        }
        if new_parent_gone {
            return Err(StoreError::NotFound);
        }
        if let (Some(other), false) = (other, exchange) {
            let moves_dir = self.node(source)?.is_dir();
            let other = self.node(other)?;
            match (moves_dir, other.is_dir()) {
                (true, false) => return Err(StoreError::NotDir),
                (false, true) => return Err(StoreError::IsDir),
                (true, true) if !other.children.is_empty() => return Err(StoreError::NotEmpty),
                _ => {}
            }
        }
        self.leave(parent, name, cx.now);
        self.leave(new_parent, new_name, cx.now);
        self.enter(new_parent, new_name, Child { ino: source, side: None }, cx.now);
        self.node(source)?.touch(cx.now);
        let other = match other {
            Some(other) if exchange => {
                self.enter(parent, name, Child { ino: other, side: None }, cx.now);
                self.node(other)?.touch(cx.now);
                Some(self.node(other)?.shown())
            }
            Some(other) => self.lose(other, new_parent, cx.now),
            None => None,
        };
        Ok(Renamed { moved: self.node(source)?.shown(), other })
    }

    pub(super) fn readdir(
        &mut self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        let children = self.dir(cx, ino)?.children.clone();
        let mut entries: Vec<DirEntry> = Vec::new();
        for (name, child) in children {
            let attr = self.node(child.ino)?.shown();
            entries.push(DirEntry { name, ino: child.ino, kind: attr.kind, attr: plus.then_some(attr) });
        }
        entries.sort_by_key(DirEntry::cursor);
        entries.retain(|entry| cursor.is_empty() || entry.cursor()[..] > *cursor);
        let limit = limit.clamp(1, 4096);
        let end = entries.len() <= limit;
        entries.truncate(limit);
        Ok((entries, end))
    }
}
