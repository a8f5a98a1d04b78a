//! The trash of a bucket: what loses its last name stays for a while and can be given its name back.
//!
//! It costs nothing to throw away: the inode is an orphan, as it would be if somebody had it open, and its row says what it
//! was called and where ([`Why::Trashed`]). A directory is empty when it goes, so of a tree that is removed the files stay
//! each for itself, below directories that stay for themselves; their rows tell how they lay.
//!
//! What lies here counts in quotas, and snapshots show it no more than any file without a name. Nobody but the owner gets
//! at it. It goes when the trash is emptied, by the owner or because its time is over; who has such a file open keeps it.

use super::dirs::Dirs;
use super::{Gate, Volume, snapshots};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::orphan::{self, Orphan, Why};
use crate::keys::{RowError, backlink};
use crate::meta::after;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino, Name, Time};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Rows looked at together.
const PAGE: usize = 512;
/// Directories above each other; more are damage.
const MAX_DEPTH: usize = 4096;

/// Something in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// The inode: names it for [`Volume::trash_restore`].
    pub ino: Ino,
    /// Where it was, from the root. `None`: its directory is gone for good.
    pub path: Option<Vec<u8>>,
    /// What it was called.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Its bytes.
    pub size: u64,
    /// When it lost its name.
    pub removed: Time,
}

/// What was brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Where it is now.
    pub path: Vec<u8>,
    /// Files and directories that have a name again.
    pub restored: u64,
    /// Those that stay in the trash because something else has their name.
    pub skipped: u64,
}

/// What was thrown away for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Files and directories.
    pub removed: u64,
    /// When the oldest of those that stay was removed.
    pub oldest: Option<Time>,
}

impl Volume {
    /// From now on what loses its last name is kept, or not.
    pub fn set_trash(&self, on: bool) {
        self.trash.store(on, Ordering::Release);
    }

    pub(crate) fn has_trash(&self) -> bool {
        self.trash.load(Ordering::Acquire)
    }

    /// What is in the trash behind `from`, in the order of inodes, and where to go on.
    ///
    /// # Errors
    /// The caller may not list, or rows cannot be read.
    pub async fn trash_page(
        &self,
        cx: &Caller,
        from: Option<Ino>,
        limit: usize,
    ) -> Result<(Vec<Trashed>, Option<Ino>)> {
        cx.authority.check(Action::List, None)?;
        snapshots::may_change(cx)?;
        self.alive()?;
        let mut found = Vec::new();
        let mut paths = HashMap::new();
        let mut last = from;
        loop {
            let page = self.orphans_behind(last).await?;
            let Some(&(end, _)) = page.last() else { return Ok((found, None)) };
            for (ino, orphan) in page {
                let Why::Trashed { name, at, .. } = orphan.why else { continue };
                let Some(inode) = self.peek_inode(ino).await? else { continue };
                if found.len() == limit.max(1) {
                    return Ok((found, last));
                }
                let path = self.place_of(orphan.parent, &mut paths).await?.map(|dir| join(&dir, &name));
                found.push(Trashed { ino, path, name, kind: inode.kind, size: inode.size, removed: at });
                last = Some(ino);
            }
            last = Some(end);
        }
    }

    /// Gives something in the trash its name back, in the directory it was in or in `into`. Directories above it that are in
    /// the trash come back too, or what has their names now takes their place. A directory comes back with everything that
    /// was removed from it, the newest of each name. Durable on return.
    ///
    /// What sessions have cached of the tree must be recalled before.
    ///
    /// # Errors
    /// `NotFound`: it is not in the trash, or its directory is gone for good. `Exists`: something has its name.
    pub async fn trash_restore(&self, cx: &Caller, ino: Ino, into: Option<Ino>) -> Result<Restored> {
        snapshots::may_change(cx)?;
        self.alive()?;
        let mut into = into;
        let mut done = Restored::default();
        if into.is_none() {
            for above in self.trash_above(ino).await? {
                match self.bring_back(cx, above, into).await {
                    Ok(()) => (into, done.restored) = (None, done.restored + 1),
                    Err(StoreError::Exists) => into = Some(self.in_its_place(above, into).await?),
                    Err(error) => return Err(error),
                }
            }
        }
        self.bring_back(cx, ino, into).await?;
        done.restored += 1;
        if self.live_inode(ino).await?.is_dir() {
            self.bring_back_below(cx, ino, &mut done).await?;
        }
        done.path = self.path_of_named(ino).await?.unwrap_or_default();
        crate::api::Tree::sync(self).await?;
        Ok(done)
    }

    /// Throws away for good what was removed before this time, or everything. What is open goes when it is closed.
    ///
    /// # Errors
    /// The caller may not delete, or the volume cannot be changed.
    pub async fn trash_empty(&self, cx: &Caller, before: Option<Time>) -> Result<Emptied> {
        cx.authority.check(Action::Delete, None)?;
        snapshots::may_change(cx)?;
        self.alive()?;
        let mut done = Emptied::default();
        let mut last = None;
        loop {
            let page = self.orphans_behind(last).await?;
            let Some(&(end, _)) = page.last() else { return Ok(done) };
            for (ino, orphan) in page {
                let Why::Trashed { at, .. } = orphan.why else { continue };
                if before.is_some_and(|before| at >= before) {
                    done.oldest = Some(done.oldest.map_or(at, |oldest: Time| oldest.min(at)));
                } else {
                    done.removed += u64::from(self.throw_away(ino, &orphan).await?);
                }
            }
            last = Some(end);
        }
    }

    async fn orphans_behind(&self, last: Option<Ino>) -> Result<Vec<(Ino, Orphan)>> {
        let prefix = orphan::prefix(self.rows().head());
        let from =
            last.map_or_else(Vec::new, |ino| after(&orphan::key(self.rows().head(), ino)[prefix.len()..]));
        let page = self.rows().page(orphan::prefix, &from, PAGE).await?;
        let parsed = page.into_iter().map(|(rest, value)| {
            let (_, ino) = orphan::parse(&[&prefix[..], &rest[..]].concat())?;
            Ok((ino, orphan::decode(&value)?))
        });
        parsed.collect()
    }

    async fn trashed(&self, ino: Ino) -> Result<Option<Orphan>> {
        let orphan = self.orphan(ino).await?;
        Ok(orphan.filter(|orphan| matches!(orphan.why, Why::Trashed { .. })))
    }

    /// The directories above something in the trash that are in it too, topmost first.
    async fn trash_above(&self, ino: Ino) -> Result<Vec<Ino>> {
        let mut above = Vec::new();
        let mut at = self.trashed(ino).await?.ok_or(StoreError::NotFound)?.parent;
        while let Some(orphan) = self.trashed(at).await? {
            above.push(at);
            at = orphan.parent;
            if above.len() > MAX_DEPTH {
                return Err(RowError::Value("orphan").into());
            }
        }
        above.reverse();
        Ok(above)
    }

    /// The directory that has the name of one in the trash.
    async fn in_its_place(&self, ino: Ino, into: Option<Ino>) -> Result<Ino> {
        let orphan = self.trashed(ino).await?.ok_or(StoreError::NotFound)?;
        let Why::Trashed { name, .. } = &orphan.why else { return Err(StoreError::NotFound) };
        let entry = self.peek_entry(into.unwrap_or(orphan.parent), &called(name)?).await?;
        entry.filter(|entry| entry.kind == FileKind::Dir).map(|entry| entry.ino).ok_or(StoreError::Exists)
    }

    async fn bring_back(&self, cx: &Caller, ino: Ino, into: Option<Ino>) -> Result<()> {
        loop {
            let orphan = self.trashed(ino).await?.ok_or(StoreError::NotFound)?;
            let Why::Trashed { name, side, .. } = &orphan.why else { return Err(StoreError::NotFound) };
            let (parent, name) = (into.unwrap_or(orphan.parent), called(name)?);
            // A directory that comes back changes the shape of the tree.
            let held = self.lock_gate(Gate::Change, &[ino, parent], &[]).await?;
            if self.orphan(ino).await?.as_ref() != Some(&orphan) {
                continue;
            }
            let old = self.live_inode(ino).await?;
            let directory = self.inode_locked(parent).await?.filter(|dir| dir.is_dir() && dir.nlink > 0);
            let directory = directory.ok_or(StoreError::NotFound)?;
            if self.entry_locked(parent, &name).await?.is_some() {
                return Err(StoreError::Exists);
            }
            let mut tx = self.tx(&held);
            let mut new = Inode::clone(&old);
            new.touch(cx.now);
            new.nlink = 1;
            if old.is_dir() {
                (new.nlink, new.parent) = (2, parent.get());
                tx.moved_directory();
            }
            tx.drop_orphan(ino);
            tx.set_inode(ino, &old, new);
            let side = side.clone().filter(|_| into.is_none()).map(Bytes::from);
            let mut dirs = Dirs::new([(parent, &directory)]);
            dirs.enter(&mut tx, parent, &name, Dentry { ino, kind: old.kind, side });
            dirs.write(&mut tx, cx.now);
            return self.commit(tx.done()).await;
        }
    }

    /// Everything that was removed from a directory, and from directories in it that come back with that.
    async fn bring_back_below(&self, cx: &Caller, top: Ino, done: &mut Restored) -> Result<()> {
        let mut below: HashMap<Ino, Vec<(Time, Ino)>> = HashMap::new();
        let mut last = None;
        loop {
            let page = self.orphans_behind(last).await?;
            let Some(&(end, _)) = page.last() else { break };
            for (ino, orphan) in page {
                if let Why::Trashed { at, .. } = orphan.why {
                    below.entry(orphan.parent).or_default().push((at, ino));
                }
            }
            last = Some(end);
        }
        let mut open = vec![top];
        while let Some(directory) = open.pop() {
            let mut all = below.remove(&directory).unwrap_or_default();
            all.sort_unstable_by(|one, two| two.cmp(one));
            for (_, ino) in all {
                match self.bring_back(cx, ino, None).await {
                    Ok(()) => {
                        done.restored += 1;
                        open.push(ino);
                    }
                    Err(StoreError::Exists) => done.skipped += 1,
                    // Emptied meanwhile.
                    Err(StoreError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn throw_away(&self, ino: Ino, orphan: &Orphan) -> Result<bool> {
        let held = self.lock_gate(Gate::Open, &[ino], &[]).await?;
        if self.orphan(ino).await?.as_ref() != Some(orphan) {
            return Ok(false);
        }
        let Some(old) = self.inode_locked(ino).await? else { return Ok(false) };
        let mut tx = self.tx(&held);
        if self.pins.is_pinned(ino) {
            tx.put_orphan(ino, Orphan { why: Why::Unlinked, parent: orphan.parent });
        } else {
            self.free_all(&mut tx, ino, &old).await?;
        }
        self.commit(tx.done()).await?;
        Ok(true)
    }

    /// Where a directory is, or was before it went into the trash. `None`: it is gone, or below one that is.
    async fn place_of(
        &self,
        directory: Ino,
        known: &mut HashMap<Ino, Option<Vec<u8>>>,
    ) -> Result<Option<Vec<u8>>> {
        let mut names = Vec::new();
        let mut at = directory;
        let mut path = loop {
            if at == Ino::ROOT {
                break Some(Vec::new());
            }
            if let Some(path) = known.get(&at) {
                break path.clone();
            }
            match self.above(at).await? {
                Some((parent, name)) if names.len() < MAX_DEPTH => {
                    names.push((at, name));
                    at = parent;
                }
                _ => break None,
            }
        };
        for (ino, name) in names.into_iter().rev() {
            path = path.map(|path| join(&path, &name));
            known.insert(ino, path.clone());
        }
        Ok(path)
    }

    async fn path_of_named(&self, ino: Ino) -> Result<Option<Vec<u8>>> {
        let Some((parent, name)) = self.above(ino).await? else { return Ok(None) };
        Ok(self.place_of(parent, &mut HashMap::new()).await?.map(|path| join(&path, &name)))
    }

    /// The directory something is in, or was in, and its name there.
    async fn above(&self, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>> {
        let prefix = backlink::prefix(self.rows().head(), ino);
        let page = self.rows().page(|layer| backlink::prefix(layer, ino), &[], 1).await?;
        if let Some((rest, _)) = page.first() {
            let key = [&prefix[..], &rest[..]].concat();
            let (_, _, parent, name) = backlink::parse(&key)?;
            return Ok(Some((parent, name.to_vec())));
        }
        Ok(self.trashed(ino).await?.and_then(|orphan| match orphan.why {
            Why::Trashed { name, .. } => Some((orphan.parent, name)),
            _ => None,
        }))
    }
}

fn called(name: &[u8]) -> Result<Name> {
    Name::new(name).map_err(|_| RowError::Value("orphan").into())
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
