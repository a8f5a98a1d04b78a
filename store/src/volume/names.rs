//! Looking things up: lookup, getattr, readlink, resolve.

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::symlink;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, FileKind, Ino, Name};

impl Volume {
    pub(super) async fn do_lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let _held = self.keep_shape(cx, parent).await?;
        self.child(parent, name).await
    }

    /// The attributes of an entry as of now.
    async fn child(&self, parent: Ino, name: &Name) -> Result<Attr> {
        loop {
            let Some(entry) = self.peek_entry(parent, name).await? else {
                return match self.peek_inode(parent).await? {
                    None => Err(StoreError::Stale(parent)),
                    Some(directory) if !directory.is_dir() => Err(StoreError::NotDir),
                    Some(_) => Err(StoreError::NotFound),
                };
            };
            if let Some(inode) = self.peek_inode(entry.ino).await? {
                return Ok(inode.attr(entry.ino));
            }
            // Removed between the two looks: the entry is gone or points elsewhere by now.
            self.missing_unless_changed(parent, name, entry.ino).await?;
        }
    }

    /// An entry whose inode is missing is damage, unless the entry has changed meanwhile.
    async fn missing_unless_changed(&self, parent: Ino, name: &Name, ino: Ino) -> Result<()> {
        let held = self.lock_gate(super::Gate::Open, &[], &[parent, ino]).await?;
        let entry = self.entry_locked(parent, name).await?;
        let inode = self.inode_locked(ino).await?;
        drop(held);
        if inode.is_none() && entry.is_some_and(|entry| entry.ino == ino) {
            return Err(crate::keys::RowError::Missing { family: "inode", of: ino.get() }.into());
        }
        Ok(())
    }

    pub(super) async fn do_getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let _held = self.keep_shape(cx, ino).await?;
        let inode = self.peek_inode(ino).await?.ok_or(StoreError::Stale(ino))?;
        Ok(inode.attr(ino))
    }

    pub(super) async fn do_readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        cx.authority.check(Action::Read, None)?;
        let _held = self.keep_shape(cx, ino).await?;
        let inode = self.peek_inode(ino).await?.ok_or(StoreError::Stale(ino))?;
        if inode.kind != FileKind::Symlink {
            return Err(StoreError::Invalid("not a symbolic link"));
        }
        let target =
            self.rows().get(|layer| symlink::key(layer, ino)).await?.ok_or(StoreError::Stale(ino))?;
        Ok(symlink::decode(&target)?)
    }

    pub(super) async fn do_resolve(&self, path: &[u8]) -> Result<Attr> {
        let mut at = Ino::ROOT;
        for component in path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
            let name = Name::new(component).map_err(|_| StoreError::NotFound)?;
            let found = self.child(at, &name).await?;
            if found.kind != FileKind::Dir {
                return Err(StoreError::NotDir);
            }
            at = found.ino;
        }
        let inode = self.peek_inode(at).await?.ok_or(StoreError::NotFound)?;
        Ok(inode.attr(at))
    }

    /// For a confined caller: keeps the tree in shape and checks that `ino` is in its world. Free for others.
    pub(crate) async fn keep_shape(
        &self,
        cx: &Caller,
        ino: Ino,
    ) -> Result<Option<std::sync::Arc<super::Held>>> {
        if !cx.confined {
            return Ok(None);
        }
        let held = self.lock(cx, &[], &[]).await?;
        self.confine(cx, ino).await?;
        Ok(Some(held))
    }
}
