//! Making nodes and names: create, link.

use super::dirs::Dirs;
use super::{Held, Volume, attr};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::orphan::Why;
use crate::keys::symlink;
use mooring_policy::action::Action;
use mooring_protocol::caps::{MAX_LINKS, MAX_SYMLINK};
use mooring_protocol::types::{Attr, FileKind, Ino, Name, NewNode};
use std::sync::Arc;

impl Volume {
    pub(super) async fn do_create(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        owner: (u32, u32),
        node: &NewNode,
    ) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        check_node(node)?;
        self.room_for_inodes(1)?;
        let ino = self.new_ino().await?;
        let held = self.lock(cx, &[parent, ino], &[]).await?;
        self.confine(cx, parent).await?;
        let directory = self.directory(parent).await?;
        if directory.nlink == 0 {
            return Err(StoreError::NotFound);
        }
        if self.entry_locked(parent, name).await?.is_some() {
            return Err(StoreError::Exists);
        }
        let mut tx = self.tx(&held);
        let new = new_node(ino, (parent, &directory), mode, owner, node, cx);
        if let NewNode::Symlink { target } = node {
            tx.put(|layer| symlink::key(layer, ino), symlink::encode(target));
        }
        let entry = Dentry { ino, kind: new.kind, side: None };
        let new = tx.add_inode(ino, new);
        let mut dirs = Dirs::new([(parent, &directory)]);
        dirs.enter(&mut tx, parent, name, entry);
        dirs.write(&mut tx, cx.now);
        self.commit(tx.done()).await?;
        Ok(new.attr(ino))
    }

    pub(super) async fn do_link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        let held = self.lock(cx, &[ino, parent], &[]).await?;
        self.confine(cx, ino).await?;
        // The target directory of a link is the caller's own choice: outside of its share is a boundary, not a riddle.
        if cx.confined && !self.within(cx.root, parent).await? {
            return Err(StoreError::CrossDevice);
        }
        let old = self.live_inode(ino).await?;
        let directory = self.directory(parent).await?;
        if old.is_dir() {
            return Err(StoreError::AccessDenied("a directory has one name only".into()));
        }
        if directory.nlink == 0 || (old.nlink == 0 && !self.is_linkable_orphan(ino).await?) {
            return Err(StoreError::NotFound);
        }
        if old.nlink >= MAX_LINKS {
            return Err(StoreError::TooManyLinks);
        }
        if self.entry_locked(parent, name).await?.is_some() {
            return Err(StoreError::Exists);
        }
        let new = self.link_into(&held, cx, (ino, &old), (parent, &directory), name).await?;
        Ok(new.attr(ino))
    }

    async fn link_into(
        &self,
        held: &Arc<Held>,
        cx: &Caller,
        (ino, old): (Ino, &Inode),
        (parent, directory): (Ino, &Arc<Inode>),
        name: &Name,
    ) -> Result<Arc<Inode>> {
        let mut tx = self.tx(held);
        let mut new = old.clone();
        new.nlink += 1;
        new.touch(cx.now);
        if old.nlink == 0 {
            tx.drop_orphan(ino);
        }
        let new = tx.set_inode(ino, old, new);
        let mut dirs = Dirs::new([(parent, directory)]);
        dirs.enter(&mut tx, parent, name, Dentry { ino, kind: old.kind, side: None });
        dirs.write(&mut tx, cx.now);
        self.commit(tx.done()).await?;
        Ok(new)
    }

    /// A file that lost its last name while open may get a name again; bytes on their way to an object may not.
    async fn is_linkable_orphan(&self, ino: Ino) -> Result<bool> {
        Ok(self
            .orphan(ino)
            .await?
            .is_some_and(|orphan| matches!(orphan.why, Why::Unlinked | Why::Trashed { .. })))
    }
}

fn check_node(node: &NewNode) -> Result<()> {
    match node {
        NewNode::Symlink { target } if target.is_empty() => {
            Err(StoreError::Invalid("a symlink needs a target"))
        }
        NewNode::Symlink { target } if target.len() > MAX_SYMLINK => Err(StoreError::NameTooLong),
        NewNode::Symlink { target } if target.contains(&0) => {
            Err(StoreError::Invalid("a symlink's target cannot hold a NUL byte"))
        }
        NewNode::Special { kind: FileKind::File | FileKind::Dir | FileKind::Symlink, .. } => {
            Err(StoreError::Invalid("not a special file"))
        }
        _ => Ok(()),
    }
}

/// The inode of a new node in `directory`, from which it may inherit its group.
pub(crate) fn new_node(
    ino: Ino,
    (parent, directory): (Ino, &Inode),
    mode: u16,
    owner: (u32, u32),
    node: &NewNode,
    cx: &Caller,
) -> Inode {
    const SETGID: u16 = 0o2000;
    let kind = match node {
        NewNode::File { .. } => FileKind::File,
        NewNode::Dir => FileKind::Dir,
        NewNode::Symlink { .. } => FileKind::Symlink,
        NewNode::Special { kind, .. } => *kind,
    };
    let mut new = attr::new(kind, mode, owner, ino, cx.now);
    if directory.mode & SETGID != 0 {
        new.gid = directory.gid;
        if kind == FileKind::Dir {
            new.mode |= SETGID;
        }
    }
    match node {
        NewNode::Dir => new.parent = parent.get(),
        NewNode::Symlink { target } => {
            new.mode = 0o777;
            new.size = target.len() as u64;
        }
        NewNode::Special { rdev, .. } => new.rdev = *rdev,
        NewNode::File { .. } => {}
    }
    new
}
