//! DELETE: taking a key away, and the implicit directories that it leaves empty.

use super::info::settle;
use super::key::{Found, Step, What};
use crate::api::{Caller, Condition, Deleted, Result};
use crate::keys::inode::{self, Inode};
use crate::keys::object;
use crate::volume::{Dirs, Loss, Tx, Volume};
use mooring_policy::action::Action;
use mooring_protocol::types::Ino;
use std::sync::Arc;

impl Volume {
    pub(super) async fn do_delete(
        &self,
        cx: &Caller,
        key: &[u8],
        when: &Condition,
    ) -> Result<Option<Deleted>> {
        let Some(deleted) = self.do_delete_one_of_many(cx, key, when).await? else { return Ok(None) };
        crate::api::Tree::sync(self).await?;
        Ok(Some(Deleted { durable: true, ..deleted }))
    }

    pub(super) async fn do_delete_one_of_many(
        &self,
        cx: &Caller,
        key: &[u8],
        when: &Condition,
    ) -> Result<Option<Deleted>> {
        cx.authority.check(Action::Delete, Some(key))?;
        loop {
            let Some(found) = self.find(cx.root, key).await? else {
                settle(when, None)?;
                return Ok(None);
            };
            let attempt = match found.what {
                What::Marker => self.delete_marker(cx, key, &found, when).await?,
                What::File | What::Side => self.delete_file(cx, key, &found, when).await?,
            };
            if attempt.is_some() {
                return Ok(attempt);
            }
        }
    }

    async fn delete_file(
        &self,
        cx: &Caller,
        key: &[u8],
        found: &Found,
        when: &Condition,
    ) -> Result<Option<Deleted>> {
        let (parent, ino) = (found.parent, found.entry.ino);
        let emptied = self.emptied_by(&found.trail, parent).await?;
        let mut inos = vec![parent, ino];
        inos.extend(emptied.iter().map(|step| step.parent));
        let held = self.lock(cx, &inos, &[]).await?;
        let same = self.entry_locked(parent, &found.name).await?.as_ref() == Some(&found.entry);
        let Some(mut dirs) = self.still_emptied(&found.trail, parent, &emptied).await?.filter(|_| same)
        else {
            return Ok(None);
        };
        let old = self.live_inode(ino).await?;
        settle(when, Some(&self.describe(key, ino, &old).await?))?;
        let mut tx = self.tx(&held);
        dirs.leave(&mut tx, parent, &found.name, &found.entry);
        let named = (parent, &found.name, &found.entry);
        self.lose_name(&mut tx, cx, (ino, &old), named, Loss::Removed).await?;
        let mut touched = vec![parent];
        self.remove_emptied(&mut tx, cx, &mut dirs, &emptied, &mut touched).await?;
        dirs.write(&mut tx, cx.now);
        self.commit(tx.done()).await?;
        Ok(Some(Deleted { ino, touched, durable: false }))
    }

    /// A directory made by mkdir loses its object: an empty one goes, one with entries becomes implicit.
    async fn delete_marker(
        &self,
        cx: &Caller,
        key: &[u8],
        found: &Found,
        when: &Condition,
    ) -> Result<Option<Deleted>> {
        let (parent, ino) = (found.parent, found.entry.ino);
        let emptied = self.emptied_by(&found.trail, parent).await?;
        let mut inos = vec![parent, ino];
        inos.extend(emptied.iter().map(|step| step.parent));
        let held = self.lock(cx, &inos, &[]).await?;
        if self.entry_locked(parent, &found.name).await?.as_ref() != Some(&found.entry) {
            return Ok(None);
        }
        let old = self.live_inode(ino).await?;
        if old.has(inode::IMPLICIT) {
            return Ok(None);
        }
        settle(when, Some(&self.describe(key, ino, &old).await?))?;
        let mut tx = self.tx(&held);
        if old.size > 0 {
            let mut new = Inode::clone(&old);
            new.flags = (new.flags | inode::IMPLICIT) & !inode::OBJECT;
            new.touch(cx.now);
            tx.delete(|layer| object::key(layer, ino));
            tx.set_inode(ino, &old, new);
            self.commit(tx.done()).await?;
            return Ok(Some(Deleted { ino, touched: Vec::new(), durable: false }));
        }
        let Some(mut dirs) = self.still_emptied(&found.trail, parent, &emptied).await? else {
            return Ok(None);
        };
        dirs.leave(&mut tx, parent, &found.name, &found.entry);
        let named = (parent, &found.name, &found.entry);
        self.lose_name(&mut tx, cx, (ino, &old), named, Loss::Removed).await?;
        let mut touched = vec![parent];
        self.remove_emptied(&mut tx, cx, &mut dirs, &emptied, &mut touched).await?;
        dirs.write(&mut tx, cx.now);
        self.commit(tx.done()).await?;
        Ok(Some(Deleted { ino, touched, durable: false }))
    }

    /// The directories that vanish when `parent` loses its last entry, from `parent` up: implicit ones with one entry.
    async fn emptied_by(&self, trail: &[Step], parent: Ino) -> Result<Vec<Step>> {
        let mut emptied = Vec::new();
        for step in trail.iter().rev() {
            debug_assert!(!emptied.is_empty() || step.entry.ino == parent);
            match self.peek_inode(step.entry.ino).await? {
                Some(inode) if vanishes(&inode) => emptied.push(step.clone()),
                _ => break,
            }
        }
        Ok(emptied)
    }

    /// Checks that chain under the locks; gives all directories concerned. `None`: it changed.
    async fn still_emptied(&self, trail: &[Step], parent: Ino, emptied: &[Step]) -> Result<Option<Dirs>> {
        let Some(directory) = self.inode_locked(parent).await? else { return Ok(None) };
        let mut all: Vec<(Ino, Arc<Inode>)> = vec![(parent, directory)];
        for step in emptied {
            let same = self.entry_locked(step.parent, &step.name).await?.as_ref() == Some(&step.entry);
            let (Some(above), Some((_, below))) = (self.inode_locked(step.parent).await?, all.last()) else {
                return Ok(None);
            };
            if !same || !vanishes(below) {
                return Ok(None);
            }
            all.push((step.parent, above));
        }
        // The topmost stays. Should it vanish as well by now (somebody else has taken its other entries meanwhile), the
        // chain has become longer; only the caller's root always stays.
        if emptied.len() < trail.len() && all.last().is_some_and(|(_, topmost)| vanishes(topmost)) {
            return Ok(None);
        }
        Ok(Some(Dirs::new(all.iter().map(|(ino, inode)| (*ino, inode)))))
    }

    async fn remove_emptied(
        &self,
        tx: &mut Tx<'_>,
        cx: &Caller,
        dirs: &mut Dirs,
        emptied: &[Step],
        touched: &mut Vec<Ino>,
    ) -> Result<()> {
        for step in emptied {
            dirs.leave(tx, step.parent, &step.name, &step.entry);
            if let Some((_, now)) = dirs.forget(step.entry.ino) {
                let named = (step.parent, &step.name, &step.entry);
                self.lose_name(tx, cx, (step.entry.ino, &Arc::new(now)), named, Loss::Removed).await?;
            }
            touched.push(step.parent);
        }
        Ok(())
    }
}

fn vanishes(directory: &Inode) -> bool {
    directory.has(inode::IMPLICIT) && directory.size == 1
}
