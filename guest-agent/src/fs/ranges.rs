//! Operations on ranges of a file: allocating, punching, finding holes, copying. The gateway does them; what was
//! written before goes there first.

use mooring_protocol::message::{Reply, Request};
use mooring_protocol::types::{Allocate, Handle, Seek};
use rustix::io::Errno;

use super::{Door, errno, odd};
use crate::fuse::{CopyEnd, NodeId, Result};

impl Door {
    pub(super) async fn op_fallocate(
        &self,
        id: NodeId,
        fh: u64,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<()> {
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let how = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => Allocate::Reserve { keep_size },
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => Allocate::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => Allocate::ZeroRange { keep_size },
            _ => return Err(Errno::OPNOTSUPP),
        };
        let node = self.node(id)?;
        self.hand_over(&node).await;
        let request = Request::Allocate { ino: node.ino, handle: Handle(fh), offset, length, how };
        match self.ask(request).await.map_err(errno)? {
            Reply::Attr { .. } => Ok(()),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_lseek(&self, id: NodeId, offset: i64, whence: i32) -> Result<i64> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::INVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        let node = self.node(id)?;
        self.hand_over(&node).await;
        match self.ask(Request::Seek { ino: node.ino, offset, what }).await.map_err(errno)? {
            Reply::Offset { offset } => i64::try_from(offset).map_err(|_| Errno::OVERFLOW),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_copy_file_range(&self, from: CopyEnd, to: CopyEnd, length: u64) -> Result<u32> {
        let (source, target) = (self.node(from.ino)?, self.node(to.ino)?);
        self.hand_over(&source).await;
        self.hand_over(&target).await;
        let request = Request::CopyRange {
            source: source.ino,
            source_offset: from.offset,
            target: target.ino,
            target_offset: to.offset,
            // The reply to the kernel has 32 bits; a shorter copy is continued by the caller.
            length: length.min(u64::from(u32::MAX) & !4095),
        };
        match self.ask(request).await.map_err(errno)? {
            Reply::Written { count, .. } => u32::try_from(count).map_err(|_| Errno::PROTO),
            other => Err(odd(&other)),
        }
    }
}
