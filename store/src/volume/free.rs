//! The end of inodes: pins, orphans, freeing.

use super::{Gate, Tx, Volume};
use crate::api::{Caller, Result};
use crate::keys::inode::{self, Inode};
use crate::keys::orphan::{self, Orphan, Why};
use crate::keys::{object, symlink, xattr};
use crate::meta::after;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, FileKind, Ino};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};

/// The map of a file with more blocks than this is dropped in steps of its own, behind the commit that frees the file.
pub(crate) const FREE_AT_ONCE: u64 = 4096;

/// Open handles and uploads under way: inodes that must live though they have no name. In memory only: after a
/// restart sessions pin again what they still hold.
#[derive(Default)]
pub(crate) struct Pins(Mutex<HashMap<Ino, u64>>);

impl Pins {
    pub(crate) fn add(&self, ino: Ino) {
        *self.0.lock().entry(ino).or_default() += 1;
    }

    /// Takes one away; whether it was the last.
    pub(crate) fn remove(&self, ino: Ino) -> bool {
        let mut pins = self.0.lock();
        match pins.get_mut(&ino) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => pins.remove(&ino).is_some(),
        }
    }

    pub(crate) fn is_pinned(&self, ino: Ino) -> bool {
        self.0.lock().contains_key(&ino)
    }
}

impl Volume {
    pub(super) async fn do_pin(&self, cx: &Caller, ino: Ino) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let _held = self.lock(cx, &[], &[ino]).await?;
        self.confine(cx, ino).await?;
        let inode = self.live_inode(ino).await?;
        self.pins.add(ino);
        Ok(inode.attr(ino))
    }

    pub(super) async fn do_unpin(&self, ino: Ino) -> Result<()> {
        if self.pins.remove(ino) && self.orphan(ino).await?.is_some() {
            self.free_orphan(ino).await?;
        }
        Ok(())
    }

    pub(super) async fn do_purge_orphans(&self) -> Result<u64> {
        let freed = self.purge(false).await?;
        self.forget_completed().await?;
        Ok(freed)
    }

    /// Frees every orphan that may go. `restored`: also parts of uploads that were given up with the head they belonged to,
    /// and inodes that lingered there.
    pub(super) async fn purge(&self, restored: bool) -> Result<u64> {
        const PAGE: usize = 1024;
        let mut freed = 0;
        let mut from = Vec::new();
        loop {
            let page = self.rows().page(orphan::prefix, &from, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(freed) };
            from = after(last);
            // Looked up behind the orphans: a part among them that is none of these has lost its upload.
            let is_part = |(_, value): &(Bytes, Bytes)| {
                orphan::decode(value).is_ok_and(|orphan| orphan.why == Why::Part)
            };
            let parts = if page.iter().any(is_part) { self.part_inodes().await? } else { BTreeSet::new() };
            for (rest, value) in page {
                let key = [&orphan::prefix(self.rows().head())[..], &rest[..]].concat();
                let (_, ino) = orphan::parse(&key)?;
                if matches!(orphan::decode(&value)?.why, Why::Trashed { .. }) {
                    continue;
                }
                if restored && !self.pins.is_pinned(ino) {
                    self.linger.forget(ino);
                }
                freed += u64::from(self.free(ino, !parts.contains(&ino)).await?);
            }
        }
    }

    /// What is kept about an inode without a name.
    pub(crate) async fn orphan(&self, ino: Ino) -> Result<Option<Orphan>> {
        let row = self.rows().get(|layer| orphan::key(layer, ino)).await?;
        row.map(|value| Ok(orphan::decode(&value)?)).transpose()
    }

    /// Frees an orphan that nothing pins, that does not linger and that no part keeps; whether it did.
    pub(crate) async fn free_orphan(&self, ino: Ino) -> Result<bool> {
        self.free(ino, false).await
    }

    /// With `lost` also what was a part: its upload is gone.
    async fn free(&self, ino: Ino, lost: bool) -> Result<bool> {
        let held = self.lock_gate(Gate::Open, &[ino], &[]).await?;
        let kept = |orphan: &Orphan| {
            matches!(orphan.why, Why::Trashed { .. })
                || (orphan.why == Why::Part && !lost)
                || self.pins.is_pinned(ino)
                || self.linger.holds(ino)
        };
        if self.orphan(ino).await?.as_ref().is_none_or(kept) {
            return Ok(false);
        }
        let Some(old) = self.inode_locked(ino).await? else { return Ok(false) };
        let mut tx = self.tx(&held);
        self.free_all(&mut tx, ino, &old).await?;
        self.commit(tx.done()).await?;
        Ok(true)
    }

    /// Drops everything an inode has, and the inode. A map that others name too stays; a large one goes in the
    /// background.
    pub(crate) async fn free_all(&self, tx: &mut Tx<'_>, ino: Ino, old: &Inode) -> Result<()> {
        let at_once = old.blocks <= FREE_AT_ONCE && !old.has(inode::TRIM);
        if old.kind == FileKind::File && !(tx.owns_map(old) && at_once) {
            tx.leave_map(old);
        } else if old.blocks > 0 {
            for (end, row) in self.rows_between(old.map, 0, u64::MAX).await? {
                tx.drop_row(old.map, end, &row);
            }
        }
        if old.has(inode::XATTRS) {
            let prefix = xattr::prefix(self.rows().head(), ino);
            for (rest, _) in self.rows().all(|layer| xattr::prefix(layer, ino)).await? {
                let key = [&prefix[..], &rest[..]].concat();
                let (_, _, name) = xattr::parse(&key)?;
                tx.delete(|layer| xattr::key(layer, ino, name));
            }
        }
        if old.kind == FileKind::Symlink {
            tx.delete(|layer| symlink::key(layer, ino));
        }
        if old.has(inode::OBJECT) {
            tx.delete(|layer| object::key(layer, ino));
        }
        if old.nlink == 0 {
            tx.drop_orphan(ino);
        }
        tx.drop_inode(ino, old);
        Ok(())
    }
}
