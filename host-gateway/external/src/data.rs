//! Bytes: read from the other store, written to a spool.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use mooring_policy::action::Action;
use mooring_protocol::types::{Allocate, Attr, Ino, Time};
use mooring_store::api::{Caller, Result, WriteAt};
use mooring_store::error::StoreError;

use crate::External;
use crate::node::Node;
use crate::spool::Spool;
use crate::upload::{PART, PARTS_AT_ONCE};

/// Largest object that is fetched to be changed.
const MAX_REWRITE: u64 = 5 << 30;

impl External {
    pub(crate) async fn do_read(
        &self,
        cx: &Caller,
        ino: Ino,
        offset: u64,
        size: u32,
    ) -> Result<(Vec<Bytes>, u64)> {
        cx.authority.check(Action::Read, None)?;
        let node = self.node(cx, ino)?;
        let (key, stat, spool, version) = {
            let state = node.state.lock();
            (state.key.clone(), state.stat.clone(), state.spool.clone(), state.version)
        };
        if let Some(spool) = spool {
            return Ok((vec![spool.read(offset, size as usize).await?], version));
        }
        let Some(stat) = stat else { return Ok((Vec::new(), version)) };
        let size = u64::from(size).min(stat.size.saturating_sub(offset));
        if size == 0 {
            return Ok((Vec::new(), version));
        }
        let data = self.remote.read(&key, &stat.etag, offset, size).await?;
        let data = data.ok_or_else(|| self.changed(&node))?;
        let got: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        if got < size {
            return Err(StoreError::Unavailable("the external store's answer broke off".into()));
        }
        Ok((data, version))
    }

    /// The content a node stands for is not there any more. Whoever looks again is told what is.
    fn changed(&self, node: &Node) -> StoreError {
        node.state.lock().checked = std::time::Duration::ZERO;
        StoreError::Stale(node.ino)
    }

    pub(crate) async fn do_write(
        &self,
        cx: &Caller,
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        stamp: Option<Time>,
    ) -> Result<(u64, Attr)> {
        cx.authority.check(Action::Write, None)?;
        self.writable()?;
        let node = self.file(cx, ino)?;
        let _work = node.work.lock().await;
        let spool = self.to_change(&node).await?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => spool.size(),
        };
        spool.write(offset, data).await?;
        self.touch(&node, &mut node.state.lock(), cx.now, stamp);
        Ok((offset, node.attr(&self.look)))
    }

    pub(crate) fn file(&self, cx: &Caller, ino: Ino) -> Result<Arc<Node>> {
        let node = self.node(cx, ino)?;
        if node.is_dir() { Err(StoreError::IsDir) } else { Ok(node) }
    }

    /// The bytes of a file, here, to be changed. The caller holds the node's work.
    pub(crate) async fn to_change(&self, node: &Arc<Node>) -> Result<Arc<Spool>> {
        let (key, stat) = {
            let state = node.state.lock();
            if let Some(spool) = &state.spool {
                return Ok(Arc::clone(spool));
            }
            (state.key.clone(), state.stat.clone())
        };
        let spool = self.spools.make()?;
        if let Some(stat) = stat {
            if stat.size > MAX_REWRITE {
                return Err(StoreError::Unsupported("changing a part of an object over 5 GiB"));
            }
            let pieces = (0..stat.size.div_ceil(PART)).map(|index| {
                let (key, etag, spool) = (&key, &stat.etag, &spool);
                async move {
                    let mut at = index * PART;
                    let size = PART.min(stat.size - at);
                    let _memory = self.memory(size).await?;
                    let pieces = self.remote.read(key, etag, at, size).await?;
                    for piece in pieces.ok_or_else(|| self.changed(node))? {
                        let length = piece.len() as u64;
                        spool.write(at, piece).await?;
                        at += length;
                    }
                    if at == index * PART + size { Ok(()) } else { Err(self.changed(node)) }
                }
            });
            futures::stream::iter(pieces).buffer_unordered(PARTS_AT_ONCE).try_collect::<Vec<()>>().await?;
        }
        node.state.lock().spool = Some(Arc::clone(&spool));
        Ok(spool)
    }

    pub(crate) async fn do_allocate(
        &self,
        cx: &Caller,
        ino: Ino,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        self.writable()?;
        let node = self.file(cx, ino)?;
        match how {
            // Nothing can be reserved in the other store, and nothing has to be.
            Allocate::Reserve { keep_size: true } => Ok(node.attr(&self.look)),
            Allocate::Reserve { keep_size: false } => {
                let _work = node.work.lock().await;
                let spool = self.to_change(&node).await?;
                let end = offset.checked_add(length).ok_or(StoreError::TooLarge("a file"))?;
                if end > spool.size() {
                    spool.resize(end).await?;
                    self.touch(&node, &mut node.state.lock(), cx.now, None);
                }
                Ok(node.attr(&self.look))
            }
            Allocate::PunchHole | Allocate::ZeroRange { .. } => {
                Err(StoreError::Unsupported("holes in a file of an external bucket"))
            }
        }
    }
}
