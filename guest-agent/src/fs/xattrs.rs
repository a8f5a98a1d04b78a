//! Extended attributes. Not cached, but for one: the kernel asks for capabilities before the first write of every file,
//! and that there are none is remembered under the lease.

use bytes::Bytes;
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::types::XattrMode;
use rustix::io::Errno;

use super::{Door, errno, odd};
use crate::fuse::{NodeId, Result};

const CAPABILITY: &[u8] = b"security.capability";

fn checked(name: &Bytes) -> Result<Vec<u8>> {
    // The kernel asks for these on every mount; nobody can have set them here.
    if name.starts_with(b"system.") {
        return Err(Errno::OPNOTSUPP);
    }
    if name.is_empty() || name.len() > caps::MAX_XATTR_NAME { Err(Errno::RANGE) } else { Ok(name.to_vec()) }
}

impl Door {
    pub(super) async fn op_setxattr(
        &self,
        id: NodeId,
        name: &Bytes,
        value: &Bytes,
        flags: i32,
    ) -> Result<()> {
        let mode = match flags {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Errno::INVAL),
        };
        if value.len() > caps::MAX_XATTR_VALUE {
            return Err(Errno::TOOBIG);
        }
        let (ino, name) = (self.to_ino(id)?, checked(name)?);
        self.done(Request::SetXattr { ino, name, value: value.to_vec(), mode }).await
    }

    pub(super) async fn op_getxattr(&self, id: NodeId, name: &Bytes) -> Result<Bytes> {
        let node = self.node(id)?;
        let is_capability = name.as_ref() == CAPABILITY;
        let changes = {
            let state = node.state.lock();
            if is_capability && state.covered() && state.no_capability {
                return Err(Errno::NODATA);
            }
            (state.holder.seq(), state.changes)
        };
        let result = self.bytes(Request::GetXattr { ino: node.ino, name: checked(name)? }).await;
        if is_capability && result == Err(Errno::NODATA) {
            // Kept when the lease was held, and nothing changed here, from question to answer.
            let mut state = node.state.lock();
            state.no_capability |= state.covered() && (state.holder.seq(), state.changes) == changes;
        }
        result
    }

    pub(super) async fn op_listxattr(&self, id: NodeId) -> Result<Bytes> {
        self.bytes(Request::ListXattr { ino: self.to_ino(id)? }).await
    }

    pub(super) async fn op_removexattr(&self, id: NodeId, name: &Bytes) -> Result<()> {
        self.done(Request::RemoveXattr { ino: self.to_ino(id)?, name: checked(name)? }).await
    }

    async fn bytes(&self, request: Request) -> Result<Bytes> {
        match self.ask(request).await.map_err(errno)? {
            Reply::Bytes { value } => Ok(Bytes::from(value)),
            other => Err(odd(&other)),
        }
    }
}
