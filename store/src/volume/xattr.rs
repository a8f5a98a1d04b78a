//! Extended attributes.

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::inode::{self, Inode};
use crate::keys::xattr;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::caps::{MAX_XATTR_NAME, MAX_XATTR_VALUE};
use mooring_protocol::types::{Ino, XattrMode};

/// Bytes of all names of one inode, each with its NUL: what `listxattr` can carry (`XATTR_LIST_MAX`).
const MAX_LIST: usize = 64 << 10;

impl Volume {
    pub(super) async fn do_getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        cx.authority.check(Action::Read, None)?;
        check_name(name)?;
        let _held = self.lock(cx, &[], &[ino]).await?;
        self.confine(cx, ino).await?;
        if !self.live_inode(ino).await?.has(inode::XATTRS) {
            return Err(StoreError::NoAttribute);
        }
        self.attribute(ino, name).await?.ok_or(StoreError::NoAttribute)
    }

    pub(super) async fn do_listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        cx.authority.check(Action::Read, None)?;
        let _held = self.lock(cx, &[], &[ino]).await?;
        self.confine(cx, ino).await?;
        if !self.live_inode(ino).await?.has(inode::XATTRS) {
            return Ok(Vec::new());
        }
        self.attribute_names(ino).await
    }

    pub(super) async fn do_setxattr(
        &self,
        cx: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        check_name(name)?;
        if value.len() > MAX_XATTR_VALUE {
            return Err(StoreError::TooLarge("an extended attribute's value may have at most 65,536 bytes"));
        }
        let held = self.lock(cx, &[ino], &[]).await?;
        self.confine(cx, ino).await?;
        let old = self.live_inode(ino).await?;
        match (mode, self.attribute(ino, name).await?) {
            (XattrMode::Create, Some(_)) => return Err(StoreError::Exists),
            (XattrMode::Replace, None) => return Err(StoreError::NoAttribute),
            (_, Some(_)) => {}
            (_, None) => self.room_for_name(ino, name).await?,
        }
        let mut tx = self.tx(&held);
        let mut new = Inode::clone(&old);
        new.flags |= inode::XATTRS;
        new.touch(cx.now);
        tx.set_inode(ino, &old, new);
        tx.put(|layer| xattr::key(layer, ino, name), xattr::encode(value));
        self.commit(tx.done()).await
    }

    pub(super) async fn do_removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        check_name(name)?;
        let held = self.lock(cx, &[ino], &[]).await?;
        self.confine(cx, ino).await?;
        let old = self.live_inode(ino).await?;
        if self.attribute(ino, name).await?.is_none() {
            return Err(StoreError::NoAttribute);
        }
        let mut tx = self.tx(&held);
        let mut new = Inode::clone(&old);
        new.touch(cx.now);
        tx.set_inode(ino, &old, new);
        tx.delete(|layer| xattr::key(layer, ino, name));
        self.commit(tx.done()).await
    }

    async fn attribute(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>> {
        let row = self.rows().get(|layer| xattr::key(layer, ino, name)).await?;
        row.map(|value| Ok(xattr::decode(&value)?)).transpose()
    }

    async fn attribute_names(&self, ino: Ino) -> Result<Vec<Bytes>> {
        let rows = self.rows().all(|layer| xattr::prefix(layer, ino)).await?;
        Ok(rows.into_iter().map(|(name, _)| name).collect())
    }

    async fn room_for_name(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let names = self.attribute_names(ino).await?;
        let used: usize = names.iter().map(|name| name.len() + 1).sum();
        if used + name.len() + 1 > MAX_LIST {
            return Err(StoreError::TooLarge(
                "the names of an inode's extended attributes may have 65,536 bytes in all",
            ));
        }
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    match name.len() {
        0 => Err(StoreError::Invalid("an extended attribute needs a name")),
        len if len > MAX_XATTR_NAME => Err(StoreError::NameTooLong),
        _ if name.contains(&0) => {
            Err(StoreError::Invalid("an extended attribute's name cannot hold a NUL byte"))
        }
        _ => Ok(()),
    }
}
