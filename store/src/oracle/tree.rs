//! [`Tree`] of the oracle.

use super::Oracle;
use crate::api::{Caller, Renamed, Result, Tree, Watermarks, WriteAt};
use crate::error::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action::{Delete, List, Read, Write};
use mooring_protocol::caps::{MAX_FILE_SIZE, MAX_XATTR_NAME, MAX_XATTR_VALUE};
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, FileKind, Ino, Name, NewNode, RenameMode, Seek, SetAttr, SetTime, Time,
    VolumeStat, XattrMode,
};

fn check_xattr(name: &[u8]) -> Result<()> {
    match name {
        [] => Err(StoreError::Invalid("an extended attribute needs a name")),
        _ if name.len() > MAX_XATTR_NAME => Err(StoreError::NameTooLong),
        _ if name.contains(&0) => Err(StoreError::Invalid("NUL in a name")),
        _ => Ok(()),
    }
}

#[async_trait]
impl Tree for Oracle {
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        let mut state = self.enter(cx, &[List])?;
        let child = state.dir(cx, parent)?.children.get(name).ok_or(StoreError::NotFound)?.ino;
        Ok(state.node(child)?.shown())
    }

    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        Ok(self.enter(cx, &[List])?.seen(cx, ino)?.shown())
    }

    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        let mut state = self.enter(cx, &[Write])?;
        let node = match set.size {
            None => state.seen(cx, ino)?,
            Some(_) => state.file(cx, ino)?,
        };
        if set.size.is_some_and(|size| size > MAX_FILE_SIZE) {
            return Err(StoreError::TooLarge("a file may have at most 2^52 - 4096 bytes"));
        }
        node.attr.mode = set.mode.map_or(node.attr.mode, |mode| mode & 0o7777);
        node.attr.uid = set.uid.unwrap_or(node.attr.uid);
        node.attr.gid = set.gid.unwrap_or(node.attr.gid);
        if set.clear_suid_sgid && node.attr.kind != FileKind::Dir {
            node.clear_suid();
        }
        match set.size {
            Some(size) => {
                node.resize(size);
                node.modify(cx.now);
            }
            None => node.touch(cx.now),
        }
        let time = |time| match time {
            SetTime::Now => cx.now,
            SetTime::At(time) => time,
        };
        node.attr.atime = set.atime.map_or(node.attr.atime, time);
        node.attr.mtime = set.mtime.map_or(node.attr.mtime, time);
        Ok(node.shown())
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
        self.enter(cx, &[Write])?.create(cx, parent, name, mode, owner, node)
    }

    async fn link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        self.enter(cx, &[Write])?.link(cx, ino, parent, name)
    }

    async fn unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.enter(cx, &[Delete])?.remove(cx, parent, name, false)
    }

    async fn rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        self.enter(cx, &[Delete])?.remove(cx, parent, name, true)
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
        self.enter(cx, &[Write, Delete])?.rename(cx, (parent, name), (new_parent, new_name), mode)
    }

    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes> {
        let mut state = self.enter(cx, &[Read])?;
        let node = state.seen(cx, ino)?;
        match node.attr.kind {
            FileKind::Symlink => Ok(Bytes::from(node.target.clone())),
            _ => Err(StoreError::Invalid("not a symbolic link")),
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
        self.enter(cx, &[List])?.readdir(cx, ino, cursor, limit, plus)
    }

    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)> {
        let mut state = self.enter(cx, &[Read])?;
        let node = state.file(cx, ino)?;
        let end = offset.saturating_add(u64::from(size)).min(node.attr.size);
        let range = offset.min(end) as usize..end as usize;
        Ok((vec![Bytes::copy_from_slice(&node.data[range])], node.attr.version))
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
        self.enter(cx, &[Write])?.write(cx, ino, at, &data, stamp, clear_suid_sgid)
    }

    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr> {
        self.enter(cx, &[Write])?.allocate(cx, ino, offset, length, how)
    }

    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        self.enter(cx, &[Read])?.seek(cx, ino, offset, what)
    }

    async fn copy_range(
        &self,
        cx: &Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)> {
        self.enter(cx, &[Read, Write])?.copy_range(cx, from, to, length)
    }

    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let mut state = self.enter(cx, &[Read])?;
        check_xattr(name)?;
        let value = state.seen(cx, ino)?.xattrs.get(name).cloned();
        value.map(Bytes::from).ok_or(StoreError::NoAttribute)
    }

    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>> {
        let mut state = self.enter(cx, &[Read])?;
        Ok(state.seen(cx, ino)?.xattrs.keys().map(|name| Bytes::copy_from_slice(name)).collect())
    }

    async fn setxattr(
        &self,
        cx: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let mut state = self.enter(cx, &[Write])?;
        check_xattr(name)?;
        if value.len() > MAX_XATTR_VALUE {
            return Err(StoreError::TooLarge("value"));
        }
        let node = state.seen(cx, ino)?;
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(StoreError::Exists),
            (XattrMode::Replace, false) => return Err(StoreError::NoAttribute),
            _ => {}
        }
        let names: usize =
            node.xattrs.keys().filter(|known| *known != name).map(|known| known.len() + 1).sum();
        if names + name.len() + 1 > 64 << 10 {
            return Err(StoreError::TooLarge("names"));
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
        node.touch(cx.now);
        Ok(())
    }

    async fn removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        let mut state = self.enter(cx, &[Write])?;
        check_xattr(name)?;
        let node = state.seen(cx, ino)?;
        node.xattrs.remove(name).ok_or(StoreError::NoAttribute)?;
        node.touch(cx.now);
        Ok(())
    }

    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        let state = self.enter(cx, &[List])?;
        let free = u64::MAX >> 4;
        let inodes = state.nodes.len() as u64;
        Ok(VolumeStat { total_bytes: free, free_bytes: free, total_inodes: free, free_inodes: free - inodes })
    }

    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        let mut state = self.enter(cx, &[List])?;
        let node = state.seen(cx, ino)?;
        node.pins += 1;
        Ok(node.shown())
    }

    async fn unpin(&self, ino: Ino) -> Result<()> {
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(&ino) {
            node.pins = node.pins.saturating_sub(1);
        }
        state.reap(ino);
        Ok(())
    }

    async fn purge_orphans(&self) -> Result<u64> {
        let mut state = self.state();
        let before = state.nodes.len();
        let all: Vec<Ino> = state.nodes.keys().copied().collect();
        all.into_iter().for_each(|ino| state.reap(ino));
        Ok((before - state.nodes.len()) as u64)
    }

    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()> {
        self.enter(cx, &[Read])?.seen(cx, ino).map(|_| ())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn watermarks(&self) -> Watermarks {
        let operations = self.state.lock().operations;
        Watermarks { received: operations, journalled: operations, stored: operations }
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr> {
        let mut state = self.state();
        let mut at = Ino::ROOT;
        for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            let name = Name::new(component).map_err(|_| StoreError::NotFound)?;
            at = state.node(at)?.children.get(&name).ok_or(StoreError::NotFound)?.ino;
            if !state.node(at)?.is_dir() {
                return Err(StoreError::NotDir);
            }
        }
        Ok(state.node(at)?.shown())
    }
}
