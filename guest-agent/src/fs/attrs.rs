//! Attributes, links' targets, capacity.

use bytes::Bytes;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::types::{self, Attr, Handle};
use rustix::io::Errno;

use super::convert::{permissions, set_time};
use super::node::Node;
use super::{Door, errno, odd};
use crate::fuse::{Caller, Hold, NodeId, Result, SetAttr, Stat, StatFs};

/// The unit of `statfs`.
const BLOCK: u64 = 4096;

impl Door {
    pub(super) async fn op_getattr(&self, id: NodeId) -> Result<Stat> {
        let node = self.node(id)?;
        if let Some((attr, hold)) = node.cached_attr() {
            return Ok(self.to_stat(&attr, hold));
        }
        let (attr, hold) = self.fetch_attr(&node).await?;
        Ok(self.to_stat(&attr, hold))
    }

    /// Attributes from the gateway, with what is gathered here laid over them.
    pub(super) async fn fetch_attr(&self, node: &Node) -> Result<(Attr, Option<Hold>)> {
        match self.ask(Request::GetAttr { ino: node.ino }).await.map_err(errno)? {
            Reply::Attr { attr } => Ok(self.settle(node, attr)),
            other => Err(odd(&other)),
        }
    }

    /// The attributes of an answer as programs may see them: those of the cache when the answer went into it (or
    /// something newer did), else the answer's own.
    pub(super) fn settle(&self, node: &Node, attr: Attr) -> (Attr, Option<Hold>) {
        if let Some((cached, hold)) = node.cached_attr()
            && cached.version >= attr.version
        {
            return (cached, hold);
        }
        (node.state.lock().overlay(attr), None)
    }

    pub(super) async fn op_setattr(&self, by: Caller, id: NodeId, set: SetAttr) -> Result<Stat> {
        let node = self.node(id)?;
        // A new length or time has to come after what was written before; modes and owners too, since a write may
        // clear bits of them.
        self.hand_over(&node).await;
        let handle = set.fh.filter(|_| set.size.is_some()).map(Handle);
        // The kernel leaves these bits to us: a new owner always costs them, a new length unless root gives it.
        let new_owner = set.uid.is_some() || set.gid.is_some();
        let clear_suid_sgid = new_owner || (set.size.is_some() && by.uid != 0);
        let wanted = types::SetAttr {
            mode: set.mode.map(permissions),
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            atime: set.atime.map(set_time),
            mtime: set.mtime.map(set_time),
            clear_suid_sgid,
        };
        match self.ask(Request::SetAttr { ino: node.ino, set: wanted, handle }).await.map_err(errno)? {
            Reply::Attr { attr } => {
                let (attr, hold) = self.settle(&node, attr);
                Ok(self.to_stat(&attr, hold))
            }
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_readlink(&self, id: NodeId) -> Result<Bytes> {
        match self.ask(Request::ReadLink { ino: self.to_ino(id)? }).await.map_err(errno)? {
            Reply::Bytes { value } => Ok(Bytes::from(value)),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_statfs(&self) -> Result<StatFs> {
        match self.ask(Request::StatFs).await.map_err(errno)? {
            Reply::Stat { stat } => Ok(StatFs {
                blocks: stat.total_bytes / BLOCK,
                bfree: stat.free_bytes / BLOCK,
                bavail: stat.free_bytes / BLOCK,
                files: stat.total_inodes,
                ffree: stat.free_inodes,
                bsize: u32::try_from(BLOCK).map_err(|_| Errno::OVERFLOW)?,
                namelen: 255,
            }),
            other => Err(odd(&other)),
        }
    }
}
