//! Attributes of many inodes at once, for listings.
//!
//! Files that were made together have numbers that lie together, so their rows do too: they are read in one go, for a
//! fraction of what as many single reads cost. What is found so is not cached: one listing of a large folder would
//! drive out everything else. Numbers that lie alone are looked up one by one, several at a time, and are cached as
//! ever.
//!
//! A row that is read in one go is read without its inode's lock: it is what was committed last, at the latest when it
//! was read, and may be ahead of what the caches show. A listing is of no single moment anyway.

use crate::api::Result;
use crate::keys::inode::Inode;
use crate::keys::{RowError, TOMBSTONE, inode};
use crate::volume::Volume;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use mooring_protocol::types::{Attr, DirEntry, Ino};
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers no further apart than this are read in one go. What lies between is read in vain; so many rows cost what one
/// look-up does.
const NEAR: u64 = 16;

/// As few as this are looked up one by one.
const FEW: usize = 4;

/// So many are looked for in the caches first. Where most are not there, the others are not either.
const PROBE: usize = 32;

/// Single look-ups at a time.
const AT_ONCE: usize = 16;

/// Rows of one scan.
const PAGE: usize = 4096;

impl Volume {
    /// Attributes of what these entries name, in their order; `None` where there is no such inode any more.
    pub(super) async fn attrs_of(&self, entries: &[DirEntry]) -> Result<Vec<Option<Attr>>> {
        self.alive()?;
        let cached = self.cached(entries);
        let missing = entries.iter().zip(&cached).filter(|(_, inode)| inode.is_none());
        let mut missing: Vec<Ino> = missing.map(|(entry, _)| entry.ino).collect();
        missing.sort_unstable();
        missing.dedup();
        let mut found = HashMap::with_capacity(missing.len());
        let mut alone = Vec::new();
        for near in missing.chunk_by(|one, next| next.get() - one.get() <= NEAR) {
            match near {
                [first, .., last] if near.len() > FEW => self.scan_attrs((*first, *last), &mut found).await?,
                few => alone.extend_from_slice(few),
            }
        }
        let one = |ino: Ino| async move { self.peek_inode(ino).await.map(|inode| (ino, inode)) };
        let alone: Vec<_> =
            futures::stream::iter(alone).map(one).buffer_unordered(AT_ONCE).try_collect().await?;
        found.extend(alone.into_iter().filter_map(|(ino, inode)| Some((ino, inode?.attr(ino)))));
        let attr = |(entry, cached): (&DirEntry, Option<Arc<Inode>>)| match cached {
            Some(inode) => Some(inode.attr(entry.ino)),
            None => found.get(&entry.ino).cloned(),
        };
        Ok(entries.iter().zip(cached).map(attr).collect())
    }

    /// What the caches have of them.
    fn cached(&self, entries: &[DirEntry]) -> Vec<Option<Arc<Inode>>> {
        let (first, rest) = entries.split_at(entries.len().min(PROBE));
        let of = |entries: &[DirEntry]| self.shared.caches.inodes(entries.iter().map(|entry| entry.ino));
        let mut cached = of(first);
        match cached.iter().flatten().count() * 2 > first.len() {
            true => cached.extend(of(rest)),
            false => cached.resize(entries.len(), None),
        }
        cached
    }

    /// Attributes of all inodes of these numbers, both included.
    async fn scan_attrs(&self, (first, last): (Ino, Ino), found: &mut HashMap<Ino, Attr>) -> Result<()> {
        let place = |number: u64| number.to_be_bytes()[2..].to_vec();
        let (mut from, to) = (first.get(), place(last.get() + 1));
        // The largest number there is has none above it.
        let to = if last.get() >= Ino::MAX { Vec::new() } else { to };
        while from <= last.get() {
            let page = self.rows().span(inode::prefix, (&place(from), &to), PAGE).await?;
            let Some((end, _)) = page.last() else { return Ok(()) };
            from = number(end)? + 1;
            for (rest, value) in page {
                let ino = Ino::new(number(&rest)?).ok_or(RowError::Value("inode"))?;
                if value != TOMBSTONE {
                    found.insert(ino, inode::decode(&value)?.attr(ino));
                }
            }
        }
        Ok(())
    }
}

/// The number behind the prefix of an inode's key.
fn number(rest: &Bytes) -> Result<u64> {
    let mut whole = [0; 8];
    match <[u8; 6]>::try_from(&rest[..]) {
        Ok(rest) => whole[2..].copy_from_slice(&rest),
        Err(_) => return Err(RowError::Value("inode").into()),
    }
    Ok(u64::from_be_bytes(whole))
}
