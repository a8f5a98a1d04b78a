//! Rename: atomic and in constant time for files and directories of any size.
//!
//! A directory that changes its parent is the one operation that can tie the tree into a knot, and the guests' own
//! locks do not see each other. So it takes the volume's gate for itself: no other directory moves and no check of
//! confinement runs while it walks from the target up to the root.

use super::dirs::Dirs;
use super::remove::Loss;
use super::{Gate, Tx, Volume};
use crate::api::{Caller, Renamed, Result};
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino, Name, RenameMode};
use std::sync::Arc;

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) parent: Ino,
    pub(super) name: &'a Name,
}

/// One side of a rename, as found under the locks.
struct Side<'a> {
    spot: Spot<'a>,
    entry: Dentry,
    inode: Arc<Inode>,
}

impl Volume {
    pub(super) async fn do_rename(
        &self,
        cx: &Caller,
        from: Spot<'_>,
        to: Spot<'_>,
        mode: RenameMode,
    ) -> Result<Renamed> {
        cx.authority.check(Action::Write, None)?;
        cx.authority.check(Action::Delete, None)?;
        loop {
            let source = self.peek_entry(from.parent, from.name).await?;
            let target = self.peek_entry(to.parent, to.name).await?;
            let is_dir = |entry: &Option<Dentry>| entry.as_ref().is_some_and(|e| e.kind == FileKind::Dir);
            let gate = match (from.parent != to.parent, cx.confined) {
                (true, _) if is_dir(&source) || is_dir(&target) => Gate::Change,
                (_, true) => Gate::Keep,
                _ => Gate::Open,
            };
            let mut inos = vec![from.parent, to.parent];
            inos.extend(source.iter().chain(&target).map(|entry| entry.ino));
            let held = self.lock_gate(gate, &inos, &[]).await?;
            self.confine(cx, from.parent).await?;
            if cx.confined && !self.within(cx.root, to.parent).await? {
                return Err(StoreError::CrossDevice);
            }
            let dirs = Dirs::new([
                (from.parent, &self.directory(from.parent).await?),
                (to.parent, &self.directory(to.parent).await?),
            ]);
            if self.entry_locked(from.parent, from.name).await? != source
                || self.entry_locked(to.parent, to.name).await? != target
            {
                continue;
            }
            let moved = self.side(from, source).await?.ok_or(StoreError::NotFound)?;
            let target = self.side(to, target).await?;
            let mut tx = self.tx(&held);
            let renamed = match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => return Err(StoreError::Exists),
                (RenameMode::Exchange, None) => return Err(StoreError::NotFound),
                // Two names of one inode, or twice the same name: done already.
                (_, Some(target)) if target.entry.ino == moved.entry.ino => {
                    let moved = moved.inode.attr(moved.entry.ino);
                    return Ok(Renamed { moved, other: None });
                }
                (RenameMode::Exchange, Some(target)) => {
                    self.exchange(&mut tx, cx, dirs, moved, target).await?
                }
                (_, target) => self.replace(&mut tx, cx, dirs, moved, to, target).await?,
            };
            self.commit(tx.done()).await?;
            drop(held);
            self.keep_linger_bounded().await?;
            return Ok(renamed);
        }
    }

    async fn side<'a>(&self, spot: Spot<'a>, entry: Option<Dentry>) -> Result<Option<Side<'a>>> {
        let Some(entry) = entry else { return Ok(None) };
        let inode = self.live_inode(entry.ino).await?;
        Ok(Some(Side { spot, entry, inode }))
    }

    async fn replace(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        mut dirs: Dirs,
        moved: Side<'_>,
        to: Spot<'_>,
        target: Option<Side<'_>>,
    ) -> Result<Renamed> {
        self.stays_a_tree(&moved, to.parent).await?;
        if dirs.now(to.parent).is_some_and(|directory| directory.nlink == 0) {
            return Err(StoreError::NotFound);
        }
        let mut other = None;
        if let Some(target) = target {
            match (moved.inode.is_dir(), target.inode.is_dir()) {
                (true, false) => return Err(StoreError::NotDir),
                (false, true) => return Err(StoreError::IsDir),
                (true, true) if target.inode.size > 0 => return Err(StoreError::NotEmpty),
                _ => {}
            }
            dirs.leave(tx, to.parent, to.name, &target.entry);
            let named = (to.parent, to.name, &target.entry);
            let target = (target.entry.ino, &target.inode);
            other = Some(self.lose_name(tx, cx, target, named, Loss::Replaced).await?);
        }
        dirs.leave(tx, moved.spot.parent, moved.spot.name, &moved.entry);
        let attr = arrive(tx, cx, &mut dirs, &moved, to);
        dirs.write(tx, cx.now);
        Ok(Renamed { moved: attr, other })
    }

    async fn exchange(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        mut dirs: Dirs,
        one: Side<'_>,
        two: Side<'_>,
    ) -> Result<Renamed> {
        self.stays_a_tree(&one, two.spot.parent).await?;
        self.stays_a_tree(&two, one.spot.parent).await?;
        dirs.leave(tx, one.spot.parent, one.spot.name, &one.entry);
        dirs.leave(tx, two.spot.parent, two.spot.name, &two.entry);
        let moved = arrive(tx, cx, &mut dirs, &one, two.spot);
        let other = arrive(tx, cx, &mut dirs, &two, one.spot);
        dirs.write(tx, cx.now);
        Ok(Renamed { moved, other: Some(other) })
    }

    /// A directory never goes below itself.
    async fn stays_a_tree(&self, moved: &Side<'_>, new_parent: Ino) -> Result<()> {
        let moves = moved.inode.is_dir() && moved.spot.parent != new_parent;
        if moves && self.is_above(moved.entry.ino, new_parent).await? {
            return Err(StoreError::Invalid("a directory cannot be moved below itself"));
        }
        Ok(())
    }
}

/// The inode takes its new name. A key that was no path becomes one.
fn arrive(
    tx: &mut Tx<'_>,
    cx: &Caller,
    dirs: &mut Dirs,
    moved: &Side<'_>,
    to: Spot<'_>,
) -> mooring_protocol::types::Attr {
    let mut new = Inode::clone(&moved.inode);
    new.touch(cx.now);
    if new.is_dir() && moved.spot.parent != to.parent {
        new.parent = to.parent.get();
        tx.moved_directory();
    }
    dirs.enter(tx, to.parent, to.name, Dentry { side: None, ..moved.entry.clone() });
    tx.set_inode(moved.entry.ino, &moved.inode, new).attr(moved.entry.ino)
}
