//! Taking names away: unlink, rmdir.

use super::dirs::Dirs;
use super::{Tx, Volume};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::orphan::{Orphan, Why};
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, Ino, Name};
use std::sync::Arc;

/// Why an inode loses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The name goes.
    Removed,
    /// Another inode gets the name: the one that had it lingers.
    Replaced,
}

impl Volume {
    pub(super) async fn do_unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Delete, None)?;
        self.remove(cx, parent, name, false).await
    }

    pub(super) async fn do_rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Delete, None)?;
        self.remove(cx, parent, name, true).await
    }

    async fn remove(&self, cx: &Caller, parent: Ino, name: &Name, directory: bool) -> Result<Attr> {
        loop {
            let expected = self.peek_entry(parent, name).await?;
            let child = expected.as_ref().map(|entry| entry.ino);
            let held = self.lock(cx, &[&[parent], child.as_slice()].concat(), &[]).await?;
            self.confine(cx, parent).await?;
            let dir = self.directory(parent).await?;
            let entry = self.entry_locked(parent, name).await?;
            if entry != expected {
                continue;
            }
            let entry = entry.ok_or(StoreError::NotFound)?;
            let ino = entry.ino;
            let inode = self.live_inode(ino).await?;
            match (directory, inode.is_dir()) {
                (true, false) => return Err(StoreError::NotDir),
                (false, true) => return Err(StoreError::IsDir),
                (true, true) if inode.size > 0 => return Err(StoreError::NotEmpty),
                _ => {}
            }
            let mut tx = self.tx(&held);
            let mut dirs = Dirs::new([(parent, &dir)]);
            dirs.leave(&mut tx, parent, name, &entry);
            dirs.write(&mut tx, cx.now);
            let named = (parent, name, &entry);
            let attr = self.lose_name(&mut tx, cx, (ino, &inode), named, Loss::Removed).await?;
            self.commit(tx.done()).await?;
            return Ok(attr);
        }
    }

    /// The inode has one name less; its attributes after it. With the last it is freed, or kept as an orphan of its
    /// directory while it is pinned or lingers, or for long in the trash.
    pub(crate) async fn lose_name(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        (ino, old): (Ino, &Arc<Inode>),
        (parent, name, entry): (Ino, &Name, &Dentry),
        loss: Loss,
    ) -> Result<Attr> {
        let mut new = Inode::clone(old);
        new.nlink = if old.is_dir() { 0 } else { old.nlink.saturating_sub(1) };
        new.touch(cx.now);
        let attr = new.attr(ino);
        if new.nlink > 0 {
            tx.set_inode(ino, old, new);
            return Ok(attr);
        }
        let trash = self.has_trash();
        let kept = if trash {
            true
        } else if loss == Loss::Replaced && self.linger.is_on() {
            self.linger.add(ino, old.blocks);
            true
        } else {
            self.pins.is_pinned(ino)
        };
        if !kept {
            self.free_all(tx, ino, old).await?;
            return Ok(attr);
        }
        new.parent = 0;
        tx.set_inode(ino, old, new);
        let why = match trash {
            true => Why::Trashed {
                name: name.as_bytes().to_vec(),
                side: entry.side.as_ref().map(|side| side.to_vec()),
                at: cx.now,
            },
            false => Why::Unlinked,
        };
        tx.put_orphan(ino, Orphan { why, parent });
        Ok(attr)
    }
}
