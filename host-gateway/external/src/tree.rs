//! [`Tree`] of a bucket: one line for each operation; the files beside this one do the work.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};
use mooring_store::api::{Caller, Renamed, Result, Tree, Watermarks, WriteAt};
use mooring_store::error::StoreError;

use crate::External;
use crate::names::Spot;

/// What the kernel asks before it writes: nobody can have set one here.
const CAPABILITY: &[u8] = b"security.capability";

/// What a store without bounds is said to hold.
const ROOM: u64 = 1 << 50;

fn no_xattrs<T>() -> Result<T> {
    Err(StoreError::Unsupported("extended attributes in an external bucket"))
}

#[async_trait]
impl Tree for External {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.do_lookup(cx, parent, name).await
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let node = self.node(cx, ino)?;
        self.refreshed(&node, cx.now).await?;
        Ok(node.attr(&self.look))
    }

    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        self.do_setattr(cx, ino, set).await
    }

    async fn create(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        _mode: u16,
        _owner: (u32, u32),
        node: &NewNode,
    ) -> Result<Attr> {
        self.do_create(cx, parent, name, node).await
    }

    async fn link(&self, cx: &Caller, _ino: Ino, _parent: Ino, _name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        Err(StoreError::Unsupported("hard links in an external bucket"))
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
        self.do_rename(cx, Spot { parent, name }, Spot { parent: new_parent, name: new_name }, mode).await
    }

    async fn readlink(&self, cx: &Caller, _ino: Ino) -> Result<Bytes> {
        cx.authority.check(Action::Read, None)?;
        Err(StoreError::Invalid("not a symbolic link"))
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
        _clear_suid_sgid: bool,
    ) -> Result<(u64, Attr)> {
        self.do_write(cx, ino, at, data, stamp).await
    }

    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr> {
        self.do_allocate(cx, ino, offset, length, how).await
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        cx.authority.check(Action::Read, None)?;
        let size = self.node(cx, ino)?.state.lock().size();
        match what {
            _ if offset >= size => Err(StoreError::Range),
            // An object has no holes but the one at its end.
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    async fn copy_range(
        &self,
        cx: &Caller,
        _: (Ino, u64),
        _: (Ino, u64),
        _length: u64,
    ) -> Result<(u64, Attr)> {
        cx.authority.check(Action::Read, None)?;
        cx.authority.check(Action::Write, None)?;
        // The kernel then copies by reading and writing.
        Err(StoreError::Unsupported("copying a range in an external bucket"))
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        cx.authority.check(Action::Read, None)?;
        self.node(cx, ino)?;
        if name == CAPABILITY { Err(StoreError::NoAttribute) } else { no_xattrs() }
    }

    async fn listxattr(&self, cx: &Caller, _ino: Ino) -> Result<Vec<Bytes>> {
        cx.authority.check(Action::Read, None)?;
        no_xattrs()
    }

    async fn setxattr(&self, cx: &Caller, _: Ino, _: &[u8], _: &[u8], _: XattrMode) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        no_xattrs()
    }

    async fn removexattr(&self, cx: &Caller, _ino: Ino, _name: &[u8]) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        no_xattrs()
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        cx.authority.check(Action::List, None)?;
        Ok(VolumeStat { total_bytes: ROOM, free_bytes: ROOM, total_inodes: ROOM, free_inodes: ROOM })
    }

    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let node = self.node(cx, ino)?;
        self.refreshed(&node, cx.now).await?;
        {
            let mut state = node.state.lock();
            if state.gone && state.pins == 0 {
                return Err(StoreError::Stale(ino));
            }
            state.pins += 1;
        }
        Ok(node.attr(&self.look))
    }

    async fn unpin(&self, ino: Ino) -> Result<()> {
        let Some(node) = self.table.get(ino) else { return Ok(()) };
        let gone = {
            let mut state = node.state.lock();
            state.pins = state.pins.saturating_sub(1);
            if state.pins == 0 {
                self.released(&mut state);
            }
            state.gone
        };
        if gone {
            self.table.forget(&node);
        }
        Ok(())
    }

    async fn purge_orphans(&self) -> Result<u64> {
        // What had no name when the gateway ended ended with it.
        Ok(0)
    }

    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()> {
        cx.authority.check(Action::Read, None)?;
        let node = self.node(cx, ino)?;
        self.upload(&node).await
    }

    async fn sync(&self) -> Result<()> {
        self.upload_all().await
    }

    fn watermarks(&self) -> Watermarks {
        self.marks()
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        self.do_resolve(path).await
    }
}
