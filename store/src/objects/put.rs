//! PUT: giving bytes a key, atomically.

use super::escape::escape;
use super::info::settle;
use super::key::{Found, Last, Spot, What};
use super::stage::Fresh;
use crate::api::{Caller, Condition, ObjectMeta, Put, Result, Staged};
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::{self, Inode};
use crate::keys::object::{self, Object};
use crate::volume::{Dirs, Held, Loss, Tx, Volume, attr};
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino, Name};
use std::sync::Arc;

/// What is put: the upload, what was said of it, and rows that go into the same commit.
pub(crate) struct Putting<'a> {
    pub(crate) staged: Ino,
    /// Its bytes, when no inode holds them yet.
    pub(crate) fresh: Option<Fresh>,
    pub(crate) empty: bool,
    pub(crate) key: &'a [u8],
    pub(crate) etag: String,
    pub(crate) meta: ObjectMeta,
    /// Called with the commit's rows and the object's inode.
    pub(crate) also: &'a (dyn Fn(&mut Tx<'_>, Ino) + Sync),
}

impl Volume {
    pub(super) async fn do_put(
        &self,
        cx: &Caller,
        Staged { ino }: Staged,
        key: &[u8],
        etag: String,
        meta: ObjectMeta,
        when: &Condition,
    ) -> Result<Put> {
        cx.authority.check(Action::Write, Some(key))?;
        super::key::check(key)?;
        let empty = self.staged_is_empty(ino).await?;
        let fresh = self.finish_staged(cx, ino).await?;
        let putting = Putting { staged: ino, fresh, empty, key, etag, meta, also: &|_, _| {} };
        let put = self.give_key(cx, putting, when).await;
        // Named or refused, the upload is over.
        self.drop_staged(ino).await?;
        let put = put?;
        crate::api::Tree::sync(self).await?;
        Ok(put)
    }

    /// Gives an upload its key. Visible and in the journal on return, not yet durable.
    pub(crate) async fn give_key(&self, cx: &Caller, putting: Putting<'_>, when: &Condition) -> Result<Put> {
        let done = loop {
            let found = self.find(cx.root, putting.key).await?;
            let attempt = match &found {
                Some(found) if matches!(found.what, What::Marker) && putting.empty => {
                    self.put_marker(cx, &putting, found, when).await?
                }
                Some(found) if !matches!(found.what, What::Marker) => {
                    self.put_over(cx, &putting, found, when).await?
                }
                // A marker's key with bytes: kept beside the tree.
                found => {
                    let seen = match found {
                        Some(found) => self.describe_found(putting.key, found).await?,
                        None => None,
                    };
                    settle(when, seen.as_ref())?;
                    let spot = self.spot(cx.root, putting.key, !putting.empty).await?;
                    self.put_new(cx, &putting, &spot).await?
                }
            };
            if let Some(done) = attempt {
                break done;
            }
        };
        self.keep_linger_bounded().await?;
        Ok(done)
    }

    /// Replaces the inode behind a key. `None`: things changed, look again.
    async fn put_over(
        &self,
        cx: &Caller,
        putting: &Putting<'_>,
        found: &Found,
        when: &Condition,
    ) -> Result<Option<Put>> {
        let (parent, old_ino) = (found.parent, found.entry.ino);
        let held = self.lock(cx, &[parent, old_ino, putting.staged], &[]).await?;
        let same = self.entry_locked(parent, &found.name).await?.as_ref() == Some(&found.entry);
        let (Some(directory), Some(old), true) =
            (self.inode_locked(parent).await?, self.inode_locked(old_ino).await?, same)
        else {
            return Ok(None);
        };
        settle(when, Some(&self.describe(putting.key, old_ino, &old).await?))?;
        let mut tx = self.tx(&held);
        let mut dirs = Dirs::new([(parent, &directory)]);
        dirs.leave(&mut tx, parent, &found.name, &found.entry);
        let named = (parent, &found.name, &found.entry);
        self.lose_name(&mut tx, cx, (old_ino, &old), named, Loss::Replaced).await?;
        dirs.enter(&mut tx, parent, &found.name, Dentry { ino: putting.staged, ..found.entry.clone() });
        dirs.write(&mut tx, cx.now);
        let (new, stored) = self.name_staged(&mut tx, cx, putting, &old).await?;
        (putting.also)(&mut tx, putting.staged);
        self.commit(tx.done()).await?;
        let object = self.info(putting.key, putting.staged, &new, Some(stored));
        let put = Put { object, replaced: Some(old_ino), touched: vec![parent] };
        Ok(Some(put))
    }

    /// A PUT of `dir/` over a directory of that name: only what is said of it changes.
    async fn put_marker(
        &self,
        cx: &Caller,
        putting: &Putting<'_>,
        found: &Found,
        when: &Condition,
    ) -> Result<Option<Put>> {
        let ino = found.entry.ino;
        let held = self.lock(cx, &[ino], &[found.parent]).await?;
        if self.entry_locked(found.parent, &found.name).await?.as_ref() != Some(&found.entry) {
            return Ok(None);
        }
        let old = self.live_inode(ino).await?;
        settle(when, Some(&self.describe(putting.key, ino, &old).await?))?;
        let mut tx = self.tx(&held);
        let done = self.mark(&mut tx, cx, putting, ino, &old);
        self.commit(tx.done()).await?;
        Ok(Some(done))
    }

    /// Makes an existing directory an explicit one, with what the PUT says of it.
    fn mark(&self, tx: &mut Tx<'_>, cx: &Caller, putting: &Putting<'_>, ino: Ino, old: &Inode) -> Put {
        let mut new = old.clone();
        new.flags = (new.flags & !inode::IMPLICIT) | inode::OBJECT;
        new.touch(cx.now);
        let stored = stored(putting, &new);
        tx.put(|layer| object::key(layer, ino), object::encode(&stored));
        (putting.also)(tx, ino);
        let new = tx.set_inode(ino, old, new);
        let object = self.info(putting.key, ino, &new, Some(stored));
        Put { object, replaced: None, touched: Vec::new() }
    }

    /// A key that was not there. `None`: things changed, look again.
    async fn put_new(&self, cx: &Caller, putting: &Putting<'_>, spot: &Spot) -> Result<Option<Put>> {
        let existing = match &spot.last {
            Last::Marker(name, true) => self.peek_entry(spot.base, name).await?.map(|entry| entry.ino),
            _ => None,
        };
        // Numbers first: handing them out may commit, which needs no locks held here.
        let mut new_inos = Vec::with_capacity(spot.make.len() + 1);
        for _ in 0..=spot.make.len() {
            new_inos.push(self.new_ino().await?);
        }
        let mut inos = vec![spot.base, putting.staged];
        inos.extend(existing);
        let held = self.lock(cx, &inos, &[]).await?;
        let Some(base) = self.inode_locked(spot.base).await?.filter(|base| base.is_dir() && base.nlink > 0)
        else {
            if spot.base == cx.root {
                return Err(StoreError::Stale(cx.root));
            }
            return Ok(None);
        };
        if !self.still_free(spot, existing).await? {
            return Ok(None);
        }
        let mut tx = self.tx(&held);
        if let Some(ino) = existing {
            let old = self.live_inode(ino).await?;
            let done = self.mark(&mut tx, cx, putting, ino, &old);
            self.commit(tx.done()).await?;
            return Ok(Some(done));
        }
        let put = self.put_below(&mut tx, cx, putting, spot, &base, &new_inos, &held).await?;
        self.commit(tx.done()).await?;
        Ok(Some(put))
    }

    /// Whether nothing has taken the place since it was chosen. The base's lock is held.
    async fn still_free(&self, spot: &Spot, existing: Option<Ino>) -> Result<bool> {
        let first = spot.make.first().or(match &spot.last {
            Last::File(name) | Last::Marker(name, _) => Some(name),
            Last::Side(_) => None,
        });
        match (first, &spot.last) {
            (Some(name), _) => {
                Ok(self.entry_locked(spot.base, name).await?.map(|entry| entry.ino) == existing)
            }
            (None, Last::Side(rest)) => self.side_is(spot.base, rest, None).await,
            (None, _) => Ok(true),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the middle of one operation")]
    async fn put_below(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        putting: &Putting<'_>,
        spot: &Spot,
        base: &Arc<Inode>,
        new_inos: &[Ino],
        _held: &Arc<Held>,
    ) -> Result<Put> {
        let mut touched = vec![spot.base];
        // The chain of new directories, each known before the one above it is written.
        let mut chain: Vec<(Ino, Inode)> = Vec::new();
        let mut dirs = Dirs::new([(spot.base, base)]);
        for (name, &ino) in spot.make.iter().zip(new_inos) {
            let (above, above_inode) =
                chain.last().map_or((spot.base, &**base), |(ino, inode)| (*ino, inode));
            let mut new = new_directory(ino, (above, above_inode), cx);
            new.flags |= inode::IMPLICIT;
            enter(tx, &mut dirs, &mut chain, above, name, Dentry { ino, kind: FileKind::Dir, side: None });
            chain.push((ino, new));
            touched.push(ino);
        }
        let (parent, parent_inode) =
            chain.last().map_or((spot.base, Inode::clone(base)), |(i, n)| (*i, n.clone()));
        let object = match &spot.last {
            Last::Marker(name, _) => {
                let ino = new_inos.last().copied().unwrap_or(putting.staged);
                let mut new = new_directory(ino, (parent, &parent_inode), cx);
                new.flags |= inode::OBJECT;
                let stored = stored(putting, &new);
                tx.put(|layer| object::key(layer, ino), object::encode(&stored));
                enter(
                    tx,
                    &mut dirs,
                    &mut chain,
                    parent,
                    name,
                    Dentry { ino, kind: FileKind::Dir, side: None },
                );
                (putting.also)(tx, ino);
                let new = tx.add_inode(ino, new);
                self.info(putting.key, ino, &new, Some(stored))
            }
            last => {
                let (name, side) = match last {
                    Last::Side(rest) => (self.free_name(parent, rest).await?, Some(rest.clone())),
                    Last::File(name) | Last::Marker(name, _) => (name.clone(), None),
                };
                let entry = Dentry { ino: putting.staged, kind: FileKind::File, side };
                enter(tx, &mut dirs, &mut chain, parent, &name, entry);
                let heir = Inode { mode: 0o644, ..parent_inode };
                let (new, stored) = self.name_staged(tx, cx, putting, &heir).await?;
                (putting.also)(tx, putting.staged);
                self.info(putting.key, putting.staged, &new, Some(stored))
            }
        };
        for (ino, new) in chain {
            tx.add_inode(ino, new);
        }
        dirs.write(tx, cx.now);
        Ok(Put { object, replaced: None, touched })
    }

    /// A name in the mount for a key that is no path.
    async fn free_name(&self, parent: Ino, rest: &Bytes) -> Result<Name> {
        const ATTEMPTS: u32 = 1000;
        for attempt in 0..ATTEMPTS {
            let Some(name) = escape(rest, attempt) else { break };
            if self.entry_locked(parent, &name).await?.is_none() {
                return Ok(name);
            }
        }
        Err(StoreError::Exists)
    }

    /// The upload's inode gets its one name, with mode and owner of `heir`.
    async fn name_staged(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        putting: &Putting<'_>,
        heir: &Inode,
    ) -> Result<(Arc<Inode>, Object)> {
        let ino = putting.staged;
        let old = match &putting.fresh {
            Some(_) => None,
            None => Some(self.live_inode(ino).await?),
        };
        let from = putting.fresh.as_ref().map(|fresh| &fresh.inode).or(old.as_deref());
        let mut new = from.cloned().ok_or(StoreError::Stale(ino))?;
        (new.mode, new.uid, new.gid) = (heir.mode, heir.uid, heir.gid);
        new.nlink = 1;
        new.flags |= inode::OBJECT;
        new.modify(cx.now, None);
        let stored = stored(putting, &new);
        tx.put(|layer| object::key(layer, ino), object::encode(&stored));
        let new = match (&putting.fresh, &old) {
            (Some(fresh), _) => {
                fresh.pieces.iter().for_each(|piece| tx.put_piece(new.map, piece));
                tx.add_inode(ino, new)
            }
            (None, Some(old)) => {
                tx.drop_orphan(ino);
                tx.set_inode(ino, old, new)
            }
            (None, None) => return Err(StoreError::Stale(ino)),
        };
        Ok((new, stored))
    }
}

/// Enters a name into a directory that exists, or into the last one of the chain being made.
fn enter(
    tx: &mut Tx<'_>,
    dirs: &mut Dirs,
    chain: &mut [(Ino, Inode)],
    parent: Ino,
    name: &Name,
    entry: Dentry,
) {
    if let Some((_, new)) = chain.iter_mut().find(|(ino, _)| *ino == parent) {
        new.size += 1;
        new.nlink += u32::from(entry.kind == FileKind::Dir);
        new.sides += u32::from(entry.side.is_some());
    }
    dirs.enter(tx, parent, name, entry);
}

fn new_directory(ino: Ino, (parent, above): (Ino, &Inode), cx: &Caller) -> Inode {
    const SETGID: u16 = 0o2000;
    let mode = 0o755 | above.mode & SETGID;
    Inode { parent: parent.get(), ..attr::new(FileKind::Dir, mode, (above.uid, above.gid), ino, cx.now) }
}

fn stored(putting: &Putting<'_>, new: &Inode) -> Object {
    Object { content: new.content, etag: putting.etag.clone(), meta: putting.meta.clone() }
}
