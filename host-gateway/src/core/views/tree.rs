//! The filesystem over the head and its snapshots.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};
use mooring_store::api::{Caller, Renamed, Result, Tree, Watermarks, WriteAt};
use mooring_store::error::StoreError;

use super::{NAME, Place, Views, seen};

#[async_trait]
impl Tree for Views {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        match self.place(cx, parent).await? {
            Place::Head if parent == Ino::ROOT && Views::shows(cx) && name.as_bytes() == NAME => {
                self.directory(cx).await
            }
            Place::Head => self.head.lookup(cx, parent, name).await,
            Place::Snapshot(view, tree) => Ok(seen(tree.lookup(cx, parent.in_view(0), name).await?, view)),
            Place::Directory => {
                cx.authority.check(Action::List, None)?;
                let (view, tree) = self.named(cx, name.as_bytes()).await?;
                Ok(seen(tree.getattr(cx, Ino::ROOT).await?, view))
            }
        }
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.getattr(cx, ino).await,
            Place::Snapshot(view, tree) => Ok(seen(tree.getattr(cx, ino.in_view(0)).await?, view)),
            Place::Directory => self.directory(cx).await,
        }
    }

    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        Views::changeable(&[ino])?;
        self.head.setattr(cx, ino, set).await
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
        Views::free(cx, parent, name)?;
        self.head.create(cx, parent, name, mode, owner, node).await
    }

    async fn link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        Views::free(cx, parent, name)?;
        if ino.view() != 0 {
            return Err(StoreError::CrossDevice);
        }
        self.head.link(cx, ino, parent, name).await
    }

    async fn unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        Views::free(cx, parent, name)?;
        self.head.unlink(cx, parent, name).await
    }

    async fn rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        Views::free(cx, parent, name)?;
        self.head.rmdir(cx, parent, name).await
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
        Views::free(cx, parent, name)?;
        Views::free(cx, new_parent, new_name)?;
        self.head.rename(cx, parent, name, new_parent, new_name, mode).await
    }

    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.readlink(cx, ino).await,
            Place::Snapshot(_, tree) => tree.readlink(cx, ino.in_view(0)).await,
            Place::Directory => Err(StoreError::Invalid("not a symbolic link")),
        }
    }

    async fn readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.readdir(cx, ino, cursor, limit, plus).await,
            Place::Snapshot(view, tree) => {
                let (page, end) = tree.readdir(cx, ino.in_view(0), cursor, limit, plus).await?;
                let shown = page.into_iter().map(|entry| DirEntry {
                    ino: entry.ino.in_view(view),
                    attr: entry.attr.map(|attr| seen(attr, view)),
                    ..entry
                });
                Ok((shown.collect(), end))
            }
            Place::Directory => self.list_snapshots(cx, cursor, limit, plus).await,
        }
    }

    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.read(cx, ino, offset, size).await,
            Place::Snapshot(_, tree) => tree.read(cx, ino.in_view(0), offset, size).await,
            Place::Directory => Err(StoreError::IsDir),
        }
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
        Views::changeable(&[ino])?;
        self.head.write(cx, ino, at, data, stamp, clear_suid_sgid).await
    }

    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr> {
        Views::changeable(&[ino])?;
        self.head.allocate(cx, ino, offset, length, how).await
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.seek(cx, ino, offset, what).await,
            Place::Snapshot(_, tree) => tree.seek(cx, ino.in_view(0), offset, what).await,
            Place::Directory => Err(StoreError::IsDir),
        }
    }

    async fn copy_range(
        &self,
        cx: &Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        Views::changeable(&[to.0])?;
        // The system's copy falls back to reading and writing.
        if from.0.view() != 0 {
            return Err(StoreError::CrossDevice);
        }
        self.head.copy_range(cx, from, to, length).await
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.getxattr(cx, ino, name).await,
            Place::Snapshot(_, tree) => tree.getxattr(cx, ino.in_view(0), name).await,
            Place::Directory => Err(StoreError::NoAttribute),
        }
    }

    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.listxattr(cx, ino).await,
            Place::Snapshot(_, tree) => tree.listxattr(cx, ino.in_view(0)).await,
            Place::Directory => Ok(Vec::new()),
        }
    }

    async fn setxattr(
        &self,
        cx: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        Views::changeable(&[ino])?;
        self.head.setxattr(cx, ino, name, value, mode).await
    }

    async fn removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        Views::changeable(&[ino])?;
        self.head.removexattr(cx, ino, name).await
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        self.head.statfs(cx).await
    }

    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        match self.place(cx, ino).await? {
            Place::Head => self.head.pin(cx, ino).await,
            // Nothing in a snapshot goes while the snapshot is there, so there is nothing to keep.
            _ => self.getattr(cx, ino).await,
        }
    }

    async fn unpin(&self, ino: Ino) -> Result<()> {
        if ino.view() == 0 { self.head.unpin(ino).await } else { Ok(()) }
    }

    async fn purge_orphans(&self) -> Result<u64> {
        self.head.purge_orphans().await
    }

    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()> {
        if ino.view() == 0 { self.head.fsync(cx, ino).await } else { cx.authority.check(Action::List, None) }
    }

    async fn sync(&self) -> Result<()> {
        self.head.sync().await
    }

    fn watermarks(&self) -> Watermarks {
        self.head.watermarks()
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        // Shares begin in the head.
        self.head.resolve(path).await
    }
}
