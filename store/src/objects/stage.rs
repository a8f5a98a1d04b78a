//! Bytes on their way to an object.
//!
//! They are gathered in memory up to one stream extent. An object that small costs one commit in all: its inode, its
//! bytes, its name. A larger one becomes an inode without a name with the first full buffer, listed as an orphan, so
//! that a crash frees it.

use crate::api::{Caller, Result, Staged};
use crate::error::StoreError;
use crate::keys::inode::Inode;
use crate::keys::map::BLOCK;
use crate::keys::orphan::{Orphan, Why};
use crate::volume::{Piece, Volume, WriteAs, attr};
use bytes::{Bytes, BytesMut};
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Uploads under way.
#[derive(Default)]
pub(crate) struct Stagings(Mutex<HashMap<Ino, Staging>>);

/// One upload under way.
#[derive(Default)]
struct Staging {
    /// Bytes that are not in the inode yet.
    gathered: BytesMut,
    /// The inode exists.
    stored: bool,
}

impl Stagings {
    /// Gives the bytes gathered so far, and whether the inode exists.
    fn take(&self, ino: Ino) -> Result<(Bytes, bool)> {
        let mut stagings = self.0.lock();
        let staging = stagings.get_mut(&ino).ok_or(StoreError::Stale(ino))?;
        Ok((staging.gathered.split().freeze(), staging.stored))
    }

    fn forget(&self, ino: Ino) -> bool {
        self.0.lock().remove(&ino).is_some()
    }
}

/// A new inode that is put under a key, and its rows.
pub(crate) struct Fresh {
    pub(crate) inode: Inode,
    pub(crate) pieces: Vec<Piece>,
}

impl Volume {
    pub(super) async fn do_stage(&self, cx: &Caller) -> Result<Staged> {
        cx.authority.check(Action::Write, None)?;
        self.alive()?;
        self.room_for_inodes(1)?;
        let ino = self.new_ino().await?;
        self.stagings.0.lock().insert(ino, Staging::default());
        // Pinned, so that purging orphans leaves it alone.
        self.pins.add(ino);
        Ok(Staged { ino })
    }

    pub(super) async fn do_stage_write(
        &self,
        cx: &Caller,
        Staged { ino }: Staged,
        data: Bytes,
    ) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        let full = {
            let mut stagings = self.stagings.0.lock();
            let staging = stagings.get_mut(&ino).ok_or(StoreError::Stale(ino))?;
            staging.gathered.extend_from_slice(&data);
            staging.gathered.len() as u64 >= self.config.stream_bytes
        };
        if !full {
            return Ok(());
        }
        let flushed = self.flush_staged(cx, ino, false).await;
        if flushed.is_err() {
            // Some bytes may be missing now: such an upload must never become an object.
            self.drop_staged(ino).await?;
        }
        flushed
    }

    pub(super) async fn do_stage_abort(&self, cx: &Caller, Staged { ino }: Staged) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        self.drop_staged(ino).await
    }

    /// Forgets an upload that was put, joined to something, or given up.
    pub(crate) async fn drop_staged(&self, ino: Ino) -> Result<()> {
        if self.stagings.forget(ino) && self.pins.remove(ino) {
            self.free_orphan(ino).await?;
        }
        Ok(())
    }

    /// Puts what was gathered into the inode; with `all`, also what fills no extent, and makes the inode if there
    /// is none.
    pub(crate) async fn flush_staged(&self, cx: &Caller, ino: Ino, all: bool) -> Result<()> {
        let held = self.lock(cx, &[ino], &[]).await?;
        let (mut data, stored) = self.stagings.take(ino)?;
        if !stored {
            let mut tx = self.tx(&held);
            let inode = Inode { nlink: 0, ..attr::new(FileKind::File, 0o644, (0, 0), ino, cx.now) };
            tx.add_inode(ino, inode);
            tx.put_orphan(ino, Orphan { why: Why::Staged, parent: cx.root });
            self.commit(tx.done()).await?;
            if let Some(staging) = self.stagings.0.lock().get_mut(&ino) {
                staging.stored = true;
            }
        }
        let whole = usize::try_from(self.config.stream_bytes).unwrap_or(usize::MAX);
        let keep = if all { Bytes::new() } else { data.split_off(data.len() - data.len() % whole) };
        while !data.is_empty() {
            let step = data.split_to(data.len().min(whole));
            let old = self.file(ino).await?;
            let offset = old.size;
            self.write_locked(cx, &held, (ino, old), offset, step, Vec::new(), WriteAs::default()).await?;
        }
        if let (false, Some(staging)) = (keep.is_empty(), self.stagings.0.lock().get_mut(&ino)) {
            staging.gathered.extend_from_slice(&keep);
        }
        Ok(())
    }

    /// What an upload comes to: its bytes if they are all in memory still, else nothing (they are in its inode, whose
    /// rest is written now).
    pub(crate) async fn finish_staged(&self, cx: &Caller, ino: Ino) -> Result<Option<Fresh>> {
        let stored = self.stagings.0.lock().get(&ino).ok_or(StoreError::Stale(ino))?.stored;
        if stored {
            self.flush_staged(cx, ino, true).await?;
            return Ok(None);
        }
        let (data, _) = self.stagings.take(ino)?;
        let mut inode = attr::new(FileKind::File, 0o644, (0, 0), ino, cx.now);
        inode.size = data.len() as u64;
        let pieces = match inode.size {
            0 => Vec::new(),
            size if size <= BLOCK => vec![Piece::inline(0, data)],
            _ => self.store_run(cx, inode.map, 0, data, self.config.extent_bytes).await?,
        };
        inode.blocks = pieces.iter().map(|piece| piece.row.blocks).sum();
        Ok(Some(Fresh { inode, pieces }))
    }

    /// Whether the upload has no bytes at all.
    pub(crate) async fn staged_is_empty(&self, ino: Ino) -> Result<bool> {
        let (gathered, stored) = {
            let stagings = self.stagings.0.lock();
            let staging = stagings.get(&ino).ok_or(StoreError::Stale(ino))?;
            (staging.gathered.len(), staging.stored)
        };
        match (gathered, stored) {
            (0, true) => Ok(self.peek_inode(ino).await?.is_none_or(|inode| inode.size == 0)),
            (gathered, _) => Ok(gathered == 0),
        }
    }

    pub(super) async fn do_stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        Staged { ino }: Staged,
    ) -> Result<()> {
        cx.authority.check(Action::Read, None)?;
        cx.authority.check(Action::Write, None)?;
        self.flush_staged(cx, ino, true).await?;
        self.prepare_source(cx, source, (offset, length)).await?;
        let held = self.lock(cx, &[ino], &[source]).await?;
        self.confine(cx, source).await?;
        let from = self.file(source).await?;
        if offset.checked_add(length).is_none_or(|end| end > from.size) {
            return Err(StoreError::Range);
        }
        let target = self.file(ino).await?;
        let end = target.size;
        self.copy_locked(cx, &held, (source, from), offset, (ino, target), end, length).await?;
        Ok(())
    }
}
