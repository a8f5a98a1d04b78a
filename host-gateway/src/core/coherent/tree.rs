//! The filesystem as a one-shot caller sees it: every method settles leases, then asks the store.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};
use mooring_store::api::{Caller, Renamed, Result, Tree, Watermarks, WriteAt};

use super::OneShot;

impl OneShot {
    async fn child(&self, cx: &Caller, parent: Ino, name: &Name) -> Option<Ino> {
        self.store().lookup(cx, parent, name).await.ok().map(|attr| attr.ino)
    }
}

#[async_trait]
impl Tree for OneShot {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.look(Some(parent)).await?;
        let attr = self.store().lookup(cx, parent, name).await?;
        if !self.volume.written_elsewhere(None, attr.ino) {
            return Ok(attr);
        }
        self.look(Some(attr.ino)).await?;
        self.store().lookup(cx, parent, name).await
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.look(Some(ino)).await?;
        self.store().getattr(cx, ino).await
    }

    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        let _pass = self.change(&[ino]).await?;
        self.store().setattr(cx, ino, set).await
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
        let _pass = self.change(&[parent]).await?;
        self.store().create(cx, parent, name, mode, owner, node).await
    }

    async fn link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        let _pass = self.change(&[ino, parent]).await?;
        self.store().link(cx, ino, parent, name).await
    }

    async fn unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        let inos: Vec<Ino> = std::iter::once(parent).chain(self.child(cx, parent, name).await).collect();
        let mut pass = self.change(&inos).await?;
        let gone = self.store().unlink(cx, parent, name).await?;
        self.also_changed(&mut pass, &[gone.ino]).await?;
        Ok(gone)
    }

    async fn rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        let inos: Vec<Ino> = std::iter::once(parent).chain(self.child(cx, parent, name).await).collect();
        let mut pass = self.change(&inos).await?;
        let gone = self.store().rmdir(cx, parent, name).await?;
        self.also_changed(&mut pass, &[gone.ino]).await?;
        Ok(gone)
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
        let children = [self.child(cx, parent, name).await, self.child(cx, new_parent, new_name).await];
        let inos: Vec<Ino> = [parent, new_parent].into_iter().chain(children.into_iter().flatten()).collect();
        let mut pass = self.change(&inos).await?;
        let renamed = self.store().rename(cx, parent, name, new_parent, new_name, mode).await?;
        let touched: Vec<Ino> =
            std::iter::once(renamed.moved.ino).chain(renamed.other.as_ref().map(|o| o.ino)).collect();
        self.also_changed(&mut pass, &touched).await?;
        Ok(renamed)
    }

    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        self.look(Some(ino)).await?;
        self.store().readlink(cx, ino).await
    }

    async fn readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        self.look(if plus { None } else { Some(ino) }).await?;
        self.store().readdir(cx, ino, cursor, limit, plus).await
    }

    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        self.look(Some(ino)).await?;
        self.store().read(cx, ino, offset, size).await
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
        let _pass = self.change(&[ino]).await?;
        self.store().write(cx, ino, at, data, stamp, clear_suid_sgid).await
    }

    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr> {
        let _pass = self.change(&[ino]).await?;
        self.store().allocate(cx, ino, offset, length, how).await
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.look(Some(ino)).await?;
        self.store().seek(cx, ino, offset, what).await
    }

    async fn copy_range(
        &self,
        cx: &Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        self.look(Some(from.0)).await?;
        let _pass = self.change(&[to.0]).await?;
        self.store().copy_range(cx, from, to, length).await
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.look(Some(ino)).await?;
        self.store().getxattr(cx, ino, name).await
    }

    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        self.look(Some(ino)).await?;
        self.store().listxattr(cx, ino).await
    }

    async fn setxattr(
        &self,
        cx: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let _pass = self.change(&[ino]).await?;
        self.store().setxattr(cx, ino, name, value, mode).await
    }

    async fn removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        let _pass = self.change(&[ino]).await?;
        self.store().removexattr(cx, ino, name).await
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        self.store().statfs(cx).await
    }

    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.look(Some(ino)).await?;
        self.store().pin(cx, ino).await
    }

    async fn unpin(&self, ino: Ino) -> Result<()> {
        self.store().unpin(ino).await
    }

    async fn purge_orphans(&self) -> Result<u64> {
        self.store().purge_orphans().await
    }

    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()> {
        self.store().fsync(cx, ino).await
    }

    async fn sync(&self) -> Result<()> {
        self.store().sync().await
    }

    fn watermarks(&self) -> Watermarks {
        self.store().watermarks()
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        self.store().resolve(path).await
    }
}
