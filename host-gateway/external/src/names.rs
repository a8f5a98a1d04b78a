//! Names: looked up, made, removed, renamed.
//!
//! A directory is a key that ends with `/` (a marker, as `mkdir` makes it), or whatever several keys have in common up
//! to a `/`. Where a file and a directory have the same name, the directory is what the mount shows; S3 shows both.

use std::sync::Arc;

use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, FileKind, Ino, Name, NewNode, RenameMode, Time};
use mooring_store::api::{Caller, ObjectMeta, Renamed, Result};
use mooring_store::error::StoreError;

use crate::External;
use crate::node::Node;
use crate::remote::MAX_COPY;
use crate::table::Known;

/// A name in a directory.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a Name,
}

/// The key of a file of this name, and that of a directory.
pub(crate) fn keys(directory: &[u8], name: &Name) -> (Vec<u8>, Vec<u8>) {
    let file = [directory, name.as_bytes()].concat();
    let dir = [&file[..], b"/"].concat();
    (file, dir)
}

impl External {
    pub(crate) async fn do_lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let directory = self.directory(cx, parent)?;
        let found = self.find(&directory, name, cx.now).await?.ok_or(StoreError::NotFound)?;
        Ok(found.attr(&self.look))
    }

    /// What a name leads to.
    pub(crate) async fn find(&self, directory: &[u8], name: &Name, now: Time) -> Result<Option<Arc<Node>>> {
        let (file, dir) = keys(directory, name);
        let asked = self.moment();
        for key in [&dir, &file] {
            if let Known::Here(node) = self.table.known(key, asked) {
                return Ok(Some(node));
            }
            let fresh = |node: &Arc<Node>| asked.saturating_sub(node.state.lock().checked) <= self.believed();
            if let Some(node) = self.table.by_key(key).filter(fresh) {
                return Ok(Some(node));
            }
        }
        let looked = tokio::join!(self.remote.head(&file), self.remote.any(&dir));
        let (object, is_dir) = match looked {
            // No key can be so: nothing has that name.
            (Err(StoreError::Unsupported(_) | StoreError::NameTooLong), _) => return Ok(None),
            (object, is_dir) => (object?, is_dir?),
        };
        if !is_dir {
            self.table.observe_gone(&dir, asked, now);
        }
        if object.is_none() {
            self.table.observe_gone(&file, asked, now);
        }
        let dir = if is_dir { self.table.observe(&dir, None, asked, now) } else { None };
        let file = object.and_then(|(stat, _)| self.table.observe(&file, Some(&stat), asked, now));
        Ok(dir.or(file))
    }

    pub(crate) async fn do_create(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        node: &NewNode,
    ) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        self.writable()?;
        let directory = self.directory(cx, parent)?;
        let (file, dir) = keys(&directory, name);
        self.remote.takes(&dir)?;
        if self.find(&directory, name, cx.now).await?.is_some() {
            return Err(StoreError::Exists);
        }
        match node {
            NewNode::File { .. } => {
                self.room().await?;
                let spool = self.spools.make()?;
                let node = self.table.make(&file, FileKind::File, self.moment(), cx.now, true);
                let mut state = node.state.lock();
                state.spool = Some(spool);
                self.touch(&node, &mut state, cx.now, None);
                drop(state);
                Ok(node.attr(&self.look))
            }
            NewNode::Dir => {
                let (none, always) = (ObjectMeta::default(), Default::default());
                self.remote.put(&dir, bytes::Bytes::new(), &none, &always).await?;
                let node = self.table.make(&dir, FileKind::Dir, self.moment(), cx.now, false);
                Ok(node.attr(&self.look))
            }
            NewNode::Symlink { .. } => Err(StoreError::Unsupported("symbolic links in an external bucket")),
            NewNode::Special { .. } => Err(StoreError::Unsupported("special files in an external bucket")),
        }
    }

    pub(crate) async fn do_unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Delete, None)?;
        self.writable()?;
        let directory = self.directory(cx, parent)?;
        let node = self.find(&directory, name, cx.now).await?.ok_or(StoreError::NotFound)?;
        if node.is_dir() {
            return Err(StoreError::IsDir);
        }
        self.delete_node(&node, cx.now).await?;
        Ok(node.attr(&self.look))
    }

    /// Deletes what a node stands for, here and there.
    pub(crate) async fn delete_node(&self, node: &Arc<Node>, now: Time) -> Result<()> {
        // What is on its way arrives first, and is deleted then.
        let _work = node.work.lock().await;
        let (key, there) = {
            let state = node.state.lock();
            let tried = state.dirty.is_some_and(|dirty| dirty.failed > 0);
            (state.key.clone(), state.stat.is_some() || tried)
        };
        if there {
            self.remote.delete(&key).await?;
        }
        self.table.remove(&key, self.moment(), now);
        Ok(())
    }

    pub(crate) async fn do_rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr> {
        cx.authority.check(Action::Delete, None)?;
        self.writable()?;
        let directory = self.directory(cx, parent)?;
        let node = self.find(&directory, name, cx.now).await?.ok_or(StoreError::NotFound)?;
        if !node.is_dir() {
            return Err(StoreError::NotDir);
        }
        let key = node.state.lock().key.clone();
        let page = self.remote.list(&key, None, b"", 2).await?;
        if self.table.pending_below(&key) || page.objects.iter().any(|object| object.key != key) {
            return Err(StoreError::NotEmpty);
        }
        self.remote.delete(&key).await?;
        self.table.remove(&key, self.moment(), cx.now);
        Ok(node.attr(&self.look))
    }

    /// A copy and a delete: others may see both names for a moment, and a failure in between leaves both.
    pub(crate) async fn do_rename(
        &self,
        cx: &Caller,
        from: Spot<'_>,
        to: Spot<'_>,
        mode: RenameMode,
    ) -> Result<Renamed> {
        cx.authority.check(Action::Write, None)?;
        cx.authority.check(Action::Delete, None)?;
        self.writable()?;
        let source = self.directory(cx, from.parent)?;
        let target = match self.directory(cx, to.parent) {
            Err(StoreError::Stale(_)) if cx.confined => return Err(StoreError::CrossDevice),
            target => target?,
        };
        if mode == RenameMode::Exchange {
            return Err(StoreError::Unsupported("exchanging two names in an external bucket"));
        }
        let node = self.find(&source, from.name, cx.now).await?.ok_or(StoreError::NotFound)?;
        let other = self.find(&target, to.name, cx.now).await?;
        if mode == RenameMode::NoReplace && other.is_some() {
            return Err(StoreError::Exists);
        }
        match (node.is_dir(), other.as_ref().is_some_and(|other| other.is_dir())) {
            // `mv` then copies file by file, which is all there is.
            (true, _) => return Err(StoreError::CrossDevice),
            (false, true) => return Err(StoreError::IsDir),
            (false, false) => {}
        }
        if other.as_ref().is_some_and(|other| other.ino == node.ino) {
            return Ok(Renamed { moved: node.attr(&self.look), other: None });
        }
        let (key, _) = keys(&target, to.name);
        self.remote.takes(&key)?;
        let replaced = self.move_file(&node, other.as_ref(), &key, cx.now).await?;
        let other = replaced.or(other).map(|other| other.attr(&self.look));
        Ok(Renamed { moved: node.attr(&self.look), other })
    }

    /// Moves a file there and here; returns what had the key.
    async fn move_file(
        &self,
        node: &Arc<Node>,
        other: Option<&Arc<Node>>,
        to: &[u8],
        now: Time,
    ) -> Result<Option<Arc<Node>>> {
        // Two renames that cross each other take the same node first.
        let mut both: Vec<&Arc<Node>> = std::iter::once(node).chain(other).collect();
        both.sort_by_key(|node| node.ino);
        let mut work = Vec::new();
        for one in both {
            work.push(one.work.lock().await);
        }
        let fresh = {
            let state = node.state.lock();
            state.stat.is_none() && state.dirty.is_some_and(|dirty| dirty.failed == 0)
        };
        if !fresh {
            self.upload_locked(node).await?;
            self.copy_and_delete(node, to, now).await?;
        }
        // Of one that is not there yet nothing has to be moved: it is uploaded under its new name.
        Ok(self.table.rekey(node, to, self.moment(), now))
    }

    async fn copy_and_delete(&self, node: &Arc<Node>, to: &[u8], now: Time) -> Result<()> {
        let (from, stat) = {
            let state = node.state.lock();
            (state.key.clone(), state.stat.clone().ok_or(StoreError::Stale(node.ino))?)
        };
        if stat.size > MAX_COPY {
            return Err(StoreError::CrossDevice);
        }
        let copied = self.remote.copy(&from, &stat.etag, to).await;
        let etag = copied.map_err(|error| match error {
            StoreError::PreconditionFailed => StoreError::Stale(node.ino),
            error => error,
        })?;
        self.remote.delete(&from).await?;
        node.state.lock().stat = Some(self.put_stat(etag, stat.size, now));
        Ok(())
    }

    /// The directory of a path, never forgotten from now on: a share begins there.
    pub(crate) async fn do_resolve(&self, path: &[u8]) -> Result<Attr> {
        let now = Time::from_millis(self.clock.now().as_millis());
        let mut at = self.table.get(Ino::ROOT).ok_or(StoreError::NotFound)?;
        for component in path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
            let name = Name::new(component).map_err(|_| StoreError::NotFound)?;
            let directory = at.state.lock().key.clone();
            at = self.find(&directory, &name, now).await?.ok_or(StoreError::NotFound)?;
            if !at.is_dir() {
                return Err(StoreError::NotDir);
            }
        }
        at.state.lock().sticky = true;
        Ok(at.attr(&self.look))
    }
}
