//! A snapshot as a volume that cannot be changed: [`Tree`] and [`Objects`] through the snapshot's layers, with caches of its
//! own.
//!
//! Whatever reads is the volume's own code over other rows; whatever changes asks the caller's authority, as ever, and
//! is refused.

use super::{Config, Quota, Used, Volume};
use crate::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Renamed,
    Result, Staged, Tree, UploadInfo, Watermarks, WriteAt,
};
use crate::error::StoreError;
use crate::keys::Layer;
use crate::keys::snapshot::Snapshot;
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module's documentation.
pub(crate) struct View {
    volume: Volume,
    /// The snapshot was removed.
    gone: AtomicBool,
}

impl View {
    pub(super) fn new(head: &Volume, chain: Vec<Layer>, row: &Snapshot) -> View {
        let config = Config { quota: Quota::default(), budget: None, ..head.config.clone() };
        let used = Used { inodes: row.inodes, blocks: row.blocks };
        View { volume: head.frozen(chain, config, used), gone: false.into() }
    }

    /// From now on nothing is there any more.
    pub(super) fn end(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// A layer that was empty is gone.
    pub(super) fn set_chain(&self, without: impl Fn(&[Layer]) -> Vec<Layer>) {
        let rows = self.volume.rows();
        rows.set_chain(without(&rows.chain()));
    }

    /// The result, unless the snapshot went meanwhile: then whatever was found may be a part of the truth.
    fn seen<T>(&self, result: Result<T>) -> Result<T> {
        match (&result, self.gone.load(Ordering::Acquire)) {
            (Err(StoreError::AccessDenied(_)), _) | (_, false) => result,
            (_, true) => Err(StoreError::Stale(Ino::ROOT)),
        }
    }
}

fn refuse<T>(cx: &Caller, action: Action, key: Option<&[u8]>) -> Result<T> {
    cx.authority.check(action, key)?;
    Err(StoreError::ReadOnly)
}

#[async_trait]
impl Tree for View {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.seen(self.volume.lookup(cx, parent, name).await)
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.seen(self.volume.getattr(cx, ino).await)
    }

    async fn setattr(&self, cx: &Caller, _: Ino, _: &SetAttr) -> Result<Attr> {
        refuse(cx, Action::Write, None)
    }

    async fn create(
        &self,
        cx: &Caller,
        _: Ino,
        _: &Name,
        _: u16,
        _: (u32, u32),
        _: &NewNode,
    ) -> Result<Attr> {
        refuse(cx, Action::Write, None)
    }

    async fn link(&self, cx: &Caller, _: Ino, _: Ino, _: &Name) -> Result<Attr> {
        refuse(cx, Action::Write, None)
    }

    async fn unlink(&self, cx: &Caller, _: Ino, _: &Name) -> Result<Attr> {
        refuse(cx, Action::Delete, None)
    }

    async fn rmdir(&self, cx: &Caller, _: Ino, _: &Name) -> Result<Attr> {
        refuse(cx, Action::Delete, None)
    }

    async fn rename(
        &self,
        cx: &Caller,
        _: Ino,
        _: &Name,
        _: Ino,
        _: &Name,
        _: RenameMode,
    ) -> Result<Renamed> {
        refuse(cx, Action::Write, None)
    }

    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        self.seen(self.volume.readlink(cx, ino).await)
    }

    async fn readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        self.seen(self.volume.readdir(cx, ino, cursor, limit, plus).await)
    }

    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        self.seen(self.volume.read(cx, ino, offset, size).await)
    }

    async fn write(
        &self,
        cx: &Caller,
        _: Ino,
        _: WriteAt,
        _: Bytes,
        _: Option<Time>,
        _: bool,
    ) -> Result<(u64, Attr)> {
        refuse(cx, Action::Write, None)
    }

    async fn allocate(&self, cx: &Caller, _: Ino, _: u64, _: u64, _: Allocate) -> Result<Attr> {
        refuse(cx, Action::Write, None)
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.seen(self.volume.seek(cx, ino, offset, what).await)
    }

    async fn copy_range(&self, cx: &Caller, _: (Ino, u64), _: (Ino, u64), _: u64) -> Result<(u64, Attr)> {
        refuse(cx, Action::Write, None)
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.seen(self.volume.getxattr(cx, ino, name).await)
    }

    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        self.seen(self.volume.listxattr(cx, ino).await)
    }

    async fn setxattr(&self, cx: &Caller, _: Ino, _: &[u8], _: &[u8], _: XattrMode) -> Result<()> {
        refuse(cx, Action::Write, None)
    }

    async fn removexattr(&self, cx: &Caller, _: Ino, _: &[u8]) -> Result<()> {
        refuse(cx, Action::Write, None)
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        self.seen(self.volume.statfs(cx).await)
    }

    /// Nothing in a snapshot goes while the snapshot is there, so there is nothing to keep.
    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        self.getattr(cx, ino).await
    }

    async fn unpin(&self, _: Ino) -> Result<()> {
        Ok(())
    }

    async fn purge_orphans(&self) -> Result<u64> {
        Ok(0)
    }

    async fn fsync(&self, cx: &Caller, _: Ino) -> Result<()> {
        cx.authority.check(Action::Read, None)
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn watermarks(&self) -> Watermarks {
        self.volume.watermarks()
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        self.seen(self.volume.resolve(path).await)
    }
}

#[async_trait]
impl Objects for View {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        self.seen(self.volume.head(cx, key).await)
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        refuse(cx, Action::Write, None)
    }

    async fn stage_write(&self, cx: &Caller, _: Staged, _: Bytes) -> Result<()> {
        refuse(cx, Action::Write, None)
    }

    async fn stage_abort(&self, cx: &Caller, _: Staged) -> Result<()> {
        refuse(cx, Action::Write, None)
    }

    async fn put(
        &self,
        cx: &Caller,
        _: Staged,
        key: &[u8],
        _: String,
        _: ObjectMeta,
        _: &Condition,
    ) -> Result<Put> {
        refuse(cx, Action::Write, Some(key))
    }

    async fn delete(&self, cx: &Caller, key: &[u8], _: &Condition) -> Result<Option<Deleted>> {
        refuse(cx, Action::Delete, Some(key))
    }

    async fn stage_copy(&self, cx: &Caller, _: Ino, _: u64, _: u64, _: Staged) -> Result<()> {
        refuse(cx, Action::Write, None)
    }

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        self.seen(self.volume.list(cx, query).await)
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        cx.authority.check(Action::List, None).map(|()| Vec::new())
    }

    async fn upload_create(&self, cx: &Caller, key: &[u8], _: ObjectMeta) -> Result<UploadInfo> {
        refuse(cx, Action::Write, Some(key))
    }

    /// Uploads under way belong to the volume, not to what it was.
    async fn upload_get(&self, cx: &Caller, key: &[u8], _: &str) -> Result<UploadInfo> {
        cx.authority.check(Action::Write, Some(key))?;
        Err(StoreError::NoSuchUpload)
    }

    async fn upload_part(&self, cx: &Caller, key: &[u8], _: &str, _: PartInfo, _: Staged) -> Result<()> {
        refuse(cx, Action::Write, Some(key))
    }

    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        _: &str,
        _: u16,
        _: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        cx.authority.check(Action::Write, Some(key))?;
        Err(StoreError::NoSuchUpload)
    }

    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        _: (&[u8], &str),
        _: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        cx.authority.check(Action::List, Some(prefix))?;
        Ok((Vec::new(), true))
    }

    async fn upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        _: &str,
        _: &[(u16, String)],
        _: Vec<(String, String)>,
        _: &Condition,
    ) -> Result<Put> {
        refuse(cx, Action::Write, Some(key))
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], _: &str) -> Result<()> {
        refuse(cx, Action::Write, Some(key))
    }
}
