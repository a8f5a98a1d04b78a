//! [`Tree`] of a volume: one line for each operation; the files beside this one do the work.

use super::Volume;
use super::rename::Spot;
use super::write::WriteAs;
use crate::api::{Caller, Renamed, Result, Tree, Watermarks, WriteAt};
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};

#[async_trait]
impl Tree for Volume {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.do_lookup(cx, parent, name).await
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.do_getattr(cx, ino).await
    }

    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        self.do_setattr(cx, ino, set).await
    }

    async fn create(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        owner: (u32, u32),
        node: &NewNode,
    ) -> Result<Attr> {
        self.do_create(cx, parent, name, mode, owner, node).await
    }

    async fn link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        self.do_link(cx, ino, parent, name).await
    }

    async fn unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.do_unlink(cx, parent, name).await
    }

    async fn rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.do_rmdir(cx, parent, name).await
    }

    async fn rename(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        new_parent: Ino,
        new_name: &Name,
        mode: RenameMode,
    ) -> Result<Renamed> {
        let (from, to) = (Spot { parent, name }, Spot { parent: new_parent, name: new_name });
        self.do_rename(cx, from, to, mode).await
    }

    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        self.do_readlink(cx, ino).await
    }

    async fn readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        self.do_readdir(cx, ino, cursor, limit, plus).await
    }

    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        self.do_read(cx, ino, offset, size).await
    }

    async fn write(
        &self,
        cx: &Caller,
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        stamp: Option<Time>,
        clear_suid_sgid: bool,
    ) -> Result<(u64, Attr)> {
        self.do_write(cx, ino, at, data, WriteAs { stamp, clear_suid_sgid }).await
    }

    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr> {
        self.do_allocate(cx, ino, offset, length, how).await
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.do_seek(cx, ino, offset, what).await
    }

    async fn copy_range(
        &self,
        cx: &Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        self.do_copy_range(cx, from, to, length).await
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.do_getxattr(cx, ino, name).await
    }

    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        self.do_listxattr(cx, ino).await
    }

    async fn setxattr(
        &self,
        cx: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.do_setxattr(cx, ino, name, value, mode).await
    }

    async fn removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        self.do_removexattr(cx, ino, name).await
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        self.do_statfs(cx).await
    }

    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.do_pin(cx, ino).await
    }

    async fn unpin(&self, ino: Ino) -> Result<()> {
        self.do_unpin(ino).await
    }

    async fn purge_orphans(&self) -> Result<u64> {
        self.do_purge_orphans().await
    }

    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()> {
        cx.authority.check(Action::Read, None)?;
        let held = self.keep_shape(cx, ino).await?;
        if self.peek_inode(ino).await?.is_none() {
            return Err(crate::error::StoreError::Stale(ino));
        }
        drop(held);
        self.sync().await
    }

    async fn sync(&self) -> Result<()> {
        self.alive()?;
        // Packs first, which the journal sees to itself: see its `cut` for why calling them in order is not enough.
        self.rows().meta().sync().await?;
        Ok(())
    }

    fn watermarks(&self) -> Watermarks {
        let marks = self.rows().meta().watermarks();
        // What the engine has received is in the journal file; what is on the journal's medium is in the local store.
        Watermarks { received: marks.received.0, journalled: marks.received.0, stored: marks.stored.0 }
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        self.do_resolve(path).await
    }
}
