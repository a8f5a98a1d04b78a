//! Uploads through the S3 door: bytes gather in a spool until the request is complete and checked.

use std::sync::Arc;

use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::Ino;
use mooring_store::api::{Caller, Result, Staged};
use mooring_store::error::StoreError;

use crate::External;
use crate::spool::Spool;

/// Requests that bring bytes at once.
const MAX_STAGED: usize = 256;

/// Bytes copied at once.
const PIECE: u64 = 1 << 20;

impl External {
    pub(crate) fn do_stage(&self, cx: &Caller) -> Result<Staged> {
        cx.authority.check(Action::Write, None)?;
        self.writable()?;
        let (spool, ino) = (self.spools.make()?, self.table.nameless());
        let mut staged = self.staged.lock();
        if staged.len() >= MAX_STAGED {
            return Err(StoreError::Unavailable("too many uploads at once: try again".into()));
        }
        staged.insert(ino, spool);
        Ok(Staged { ino })
    }

    pub(crate) async fn do_stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        let spool = self.staged_spool(staged.ino)?;
        spool.write(spool.size(), data).await
    }

    pub(crate) fn staged_spool(&self, ino: Ino) -> Result<Arc<Spool>> {
        self.staged.lock().get(&ino).cloned().ok_or(StoreError::Stale(ino))
    }

    pub(crate) fn unstage(&self, staged: Staged) {
        self.staged.lock().remove(&staged.ino);
    }

    pub(crate) async fn do_stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()> {
        cx.authority.check(Action::Read, None)?;
        cx.authority.check(Action::Write, None)?;
        let spool = self.staged_spool(staged.ino)?;
        let (mut at, end) = (offset, offset.checked_add(length).ok_or(StoreError::Range)?);
        while at < end {
            let size = u32::try_from((end - at).min(PIECE)).map_err(|_| StoreError::Range)?;
            let (pieces, _) = self.do_read(cx, source, at, size).await?;
            let before = at;
            for piece in pieces {
                at += piece.len() as u64;
                spool.write(spool.size(), piece).await?;
            }
            if at == before {
                return Err(StoreError::Stale(source));
            }
        }
        Ok(())
    }
}
