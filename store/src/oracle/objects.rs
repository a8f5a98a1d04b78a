//! [`Objects`] of the oracle.

use super::{Child, Node, Oracle, State};
use crate::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Result,
    Staged, UploadInfo, WriteAt,
};
use crate::error::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action::{Delete, List, Read, Write};
use mooring_protocol::caps::MAX_KEY;
use mooring_protocol::types::{FileKind, Ino, Name};
use std::collections::BTreeMap;

/// What has a key: its directory and its name there.
pub(super) type Found = (Ino, Name);

pub(super) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY {
        return Err(StoreError::NameTooLong);
    }
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(()),
        _ => Err(StoreError::Invalid("key")),
    }
}

/// The first component as a name, and what follows its slash.
fn first(rest: &[u8]) -> (Option<Name>, Option<&[u8]>) {
    let mut parts = rest.splitn(2, |byte| *byte == b'/');
    let name = Name::new(parts.next().unwrap_or_default()).ok();
    (name, parts.next())
}

impl State {
    pub(super) fn find(&self, dir: Ino, rest: &[u8]) -> Option<Found> {
        let children = &self.nodes.get(&dir)?.children;
        if let Some((name, _)) = children.iter().find(|(_, child)| child.side.as_deref() == Some(rest)) {
            return Some((dir, name.clone()));
        }
        let (name, tail) = first(rest);
        let name = name?;
        let child = children.get(&name)?;
        let node = self.nodes.get(&child.ino)?;
        match (node.attr.kind, tail) {
            (FileKind::File, None) if child.side.is_none() => Some((dir, name)),
            (FileKind::Dir, Some([])) if !node.implicit => Some((dir, name)),
            (FileKind::Dir, Some(tail)) if !tail.is_empty() => self.find(child.ino, tail),
            _ => None,
        }
    }

    fn child(&self, (dir, name): &Found) -> Option<Child> {
        self.nodes.get(dir)?.children.get(name).cloned()
    }

    pub(super) fn info(&self, key: &[u8], ino: Ino) -> Result<ObjectInfo> {
        let node = self.nodes.get(&ino).ok_or(StoreError::NotFound)?;
        let marker = node.is_dir();
        let (etag, meta) = match &node.object {
            Some((_, _, meta)) if marker => (EMPTY.to_owned(), meta.clone()),
            None if marker => (EMPTY.to_owned(), ObjectMeta::default()),
            Some((content, etag, meta)) if *content == node.content => (etag.clone(), meta.clone()),
            Some((_, _, meta)) => (computed(node), ObjectMeta { checksums: Vec::new(), ..meta.clone() }),
            None => (computed(node), ObjectMeta::default()),
        };
        let size = if marker { 0 } else { node.attr.size };
        let (version, modified) = (node.attr.version, node.attr.mtime);
        Ok(ObjectInfo { key: Bytes::copy_from_slice(key), ino, version, size, modified, etag, meta, marker })
    }

    pub(super) fn settle(&self, when: &Condition, key: &[u8], found: Option<&Found>) -> Result<()> {
        let child = found.and_then(|found| self.child(found));
        let now = child.map(|child| self.info(key, child.ino)).transpose()?;
        let is = |wanted: &String| {
            now.as_ref().is_some_and(|now| wanted == "*" || wanted.trim_matches('"') == now.etag)
        };
        match (&when.if_match, &when.if_none_match) {
            (Some(_), _) if now.is_none() => Err(StoreError::NotFound),
            (Some(wanted), _) if !is(wanted) => Err(StoreError::PreconditionFailed),
            (_, Some(unwanted)) if is(unwanted) => Err(StoreError::PreconditionFailed),
            _ => Ok(()),
        }
    }

    /// Gives an inode a key.
    pub(super) fn put(
        &mut self,
        cx: &Caller,
        staged: Ino,
        key: &[u8],
        etag: String,
        meta: ObjectMeta,
        when: &Condition,
    ) -> Result<Put> {
        let found = self.find(cx.root, key);
        self.settle(when, key, found.as_ref())?;
        let empty = self.node(staged)?.data.is_empty();
        let mut touched = Vec::new();
        let mut replaced = None;
        let existing = found.as_ref().and_then(|found| self.child(found));
        let is_marker =
            existing.as_ref().is_some_and(|child| self.nodes.get(&child.ino).is_some_and(Node::is_dir));
        let named = match (found, existing) {
            (_, Some(child)) if is_marker && empty => child.ino,
            (Some((dir, name)), Some(old)) if !is_marker => {
                let was = self.node(old.ino)?.attr.clone();
                self.leave(dir, &name, cx.now);
                self.lose(old.ino, dir, cx.now);
                self.name(cx, staged, (was.mode, was.uid, was.gid), (dir, &name), old.side)?;
                touched.push(dir);
                replaced = Some(old.ino);
                staged
            }
            _ => self.put_new(cx, staged, key, empty, &mut touched)?,
        };
        let node = self.node(named)?;
        if node.is_dir() {
            node.implicit = false;
            node.touch(cx.now);
        }
        node.object = Some((node.content, etag, meta));
        Ok(Put { object: self.info(key, named)?, replaced, touched })
    }

    fn name(
        &mut self,
        cx: &Caller,
        staged: Ino,
        (mode, uid, gid): (u16, u32, u32),
        (dir, name): (Ino, &Name),
        side: Option<Vec<u8>>,
    ) -> Result<()> {
        let node = self.node(staged)?;
        node.staged = false;
        node.pins = 0;
        (node.attr.mode, node.attr.uid, node.attr.gid, node.attr.nlink) = (mode, uid, gid, 1);
        node.modify(cx.now);
        self.enter(dir, name, Child { ino: staged, side }, cx.now);
        Ok(())
    }

    fn put_new(
        &mut self,
        cx: &Caller,
        staged: Ino,
        key: &[u8],
        empty: bool,
        touched: &mut Vec<Ino>,
    ) -> Result<Ino> {
        let (mut dir, mut rest) = (cx.root, key);
        loop {
            let (name, tail) = first(rest);
            let directory = self.node(dir)?;
            if directory.attr.nlink == 0 {
                return Err(StoreError::Stale(dir));
            }
            let (uid, gid, setgid) = (directory.attr.uid, directory.attr.gid, directory.attr.mode & 0o2000);
            let taken = name.as_ref().and_then(|name| directory.children.get(name)).map(|child| child.ino);
            let taken_by_dir = taken.filter(|ino| self.nodes.get(ino).is_some_and(Node::is_dir));
            match (name, taken, taken_by_dir, tail) {
                (Some(_), _, Some(ino), Some([])) if empty => return Ok(ino),
                (Some(_), _, Some(ino), Some(tail)) if !tail.is_empty() => (dir, rest) = (ino, tail),
                (Some(name), None, _, None) => {
                    self.name(cx, staged, (0o644, uid, gid), (dir, &name), None)?;
                    touched.push(dir);
                    return Ok(staged);
                }
                (Some(name), None, _, Some(tail)) if empty || !tail.is_empty() => {
                    let mut new = Node::new(dir, FileKind::Dir, 0o755 | setgid, (uid, gid), cx.now);
                    new.attr.nlink = 2;
                    new.implicit = !tail.is_empty();
                    let ino = self.add(new);
                    self.enter(dir, &name, Child { ino, side: None }, cx.now);
                    touched.push(dir);
                    if tail.is_empty() {
                        return Ok(ino);
                    }
                    (dir, rest) = (ino, tail);
                }
                _ => {
                    let name = self.free_name(dir, rest)?;
                    self.name(cx, staged, (0o644, uid, gid), (dir, &name), Some(rest.to_vec()))?;
                    touched.push(dir);
                    return Ok(staged);
                }
            }
        }
    }

    /// A name for a key that is no path. Which one is the volume's business; here it only has to be free.
    fn free_name(&self, dir: Ino, rest: &[u8]) -> Result<Name> {
        let children = &self.nodes.get(&dir).ok_or(StoreError::Stale(dir))?.children;
        let text = String::from_utf8_lossy(rest).replace('%', "%25").replace('/', "%2F");
        (0..1000)
            .map(|attempt| match attempt {
                _ if text.len() > 200 => format!("%~{attempt}"),
                0 => format!("%:{text}"),
                _ => format!("%:{text}%_{attempt}"),
            })
            .filter_map(|name| Name::new(name.as_bytes()).ok())
            .find(|name| !children.contains_key(name))
            .ok_or(StoreError::NameTooLong)
    }

    fn delete(&mut self, cx: &Caller, key: &[u8], found: &Found) -> Result<Deleted> {
        let (mut dir, mut name) = found.clone();
        let ino = self.child(found).ok_or(StoreError::NotFound)?.ino;
        let node = self.node(ino)?;
        if node.is_dir() && !node.children.is_empty() {
            node.implicit = true;
            node.object = None;
            node.touch(cx.now);
            return Ok(Deleted { ino, touched: Vec::new(), durable: true });
        }
        debug_assert!(!key.is_empty());
        let mut touched = Vec::new();
        let mut gone = ino;
        loop {
            self.leave(dir, &name, cx.now);
            self.lose(gone, dir, cx.now);
            touched.push(dir);
            let node = self.node(dir)?;
            if dir == cx.root || !node.implicit || !node.children.is_empty() {
                return Ok(Deleted { ino, touched, durable: true });
            }
            let above = node.parent;
            let called = self.node(above)?.children.iter().find(|(_, child)| child.ino == dir);
            name = called.map(|(name, _)| name.clone()).ok_or(StoreError::Stale(dir))?;
            (gone, dir) = (dir, above);
        }
    }

    fn collect(&self, dir: Ino, path: &[u8], keys: &mut BTreeMap<Vec<u8>, Ino>) {
        let Some(directory) = self.nodes.get(&dir) else { return };
        for (name, child) in directory.children.iter().filter(|(_, child)| child.side.is_none()) {
            let mut key = [path, name.as_bytes()].concat();
            let Some(node) = self.nodes.get(&child.ino) else { continue };
            match node.attr.kind {
                FileKind::File => drop(keys.entry(key).or_insert(child.ino)),
                FileKind::Dir => {
                    key.push(b'/');
                    if !node.implicit {
                        keys.insert(key.clone(), child.ino);
                    }
                    self.collect(child.ino, &key, keys);
                }
                _ => {}
            }
        }
        // Found before anything below this directory, so they win.
        for (side, ino) in
            directory.children.values().filter_map(|child| Some((child.side.as_ref()?, child.ino)))
        {
            keys.insert([path, side].concat(), ino);
        }
    }

    fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        let mut keys = BTreeMap::new();
        self.collect(cx.root, b"", &mut keys);
        keys.retain(|key, _| check_key(key).is_ok() && key.starts_with(&query.prefix));
        let mut lines: BTreeMap<Vec<u8>, Option<Ino>> = BTreeMap::new();
        for (key, ino) in keys {
            let rest = &key[query.prefix.len()..];
            let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
            let cut =
                delimiter.and_then(|d| Some(rest.windows(d.len()).position(|window| window == d)? + d.len()));
            match cut {
                Some(cut) => lines.insert(key[..query.prefix.len() + cut].to_vec(), None),
                None => lines.insert(key, Some(ino)),
            };
        }
        lines.retain(|line, _| query.after.is_empty() || *line > query.after);
        let mut page = ListPage::default();
        let mut last = None;
        for (line, ino) in lines {
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.next = last;
                break;
            }
            last = Some(line.clone());
            match ino {
                Some(ino) => page.objects.push(self.info(&line, ino)?),
                None => page.prefixes.push(Bytes::from(line)),
            }
        }
        Ok(page)
    }

    pub(super) fn stage(&mut self, cx: &Caller) -> Ino {
        let mut node = Node::new(cx.root, FileKind::File, 0o644, (0, 0), cx.now);
        (node.attr.nlink, node.staged, node.parent) = (0, true, cx.root);
        self.add(node)
    }

    pub(super) fn staged(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).filter(|node| node.staged).ok_or(StoreError::Stale(ino))
    }

    pub(super) fn drop_staged(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.staged = false;
        }
        self.reap(ino);
    }
}

const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// Not the volume's: only that it changes with the content, and its form, are promised.
fn computed(node: &Node) -> String {
    format!("{}.{}-1", node.attr.ino, node.content)
}

#[async_trait]
impl Objects for Oracle {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        let state = self.enter_key(cx, Read, key)?;
        check_key(key).map_err(|_| StoreError::NotFound)?;
        let found = state.find(cx.root, key).ok_or(StoreError::NotFound)?;
        state.info(key, state.child(&found).ok_or(StoreError::NotFound)?.ino)
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        Ok(Staged { ino: self.enter(cx, &[Write])?.stage(cx) })
    }

    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        let mut state = self.enter(cx, &[Write])?;
        state.staged(staged.ino)?;
        state.write(
            &Caller { confined: false, ..cx.clone() },
            staged.ino,
            WriteAt::End,
            &data,
            None,
            false,
        )?;
        Ok(())
    }

    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()> {
        self.enter(cx, &[Write])?.drop_staged(staged.ino);
        Ok(())
    }

    async fn put(
        &self,
        cx: &Caller,
        staged: Staged,
        key: &[u8],
        etag: String,
        meta: ObjectMeta,
        when: &Condition,
    ) -> Result<Put> {
        let mut state = self.enter_key(cx, Write, key)?;
        check_key(key)?;
        state.staged(staged.ino)?;
        let put = state.put(cx, staged.ino, key, etag, meta, when);
        state.drop_staged(staged.ino);
        put
    }

    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        let mut state = self.enter_key(cx, Delete, key)?;
        let found = check_key(key).ok().and_then(|()| state.find(cx.root, key));
        state.settle(when, key, found.as_ref())?;
        found.map(|found| state.delete(cx, key, &found)).transpose()
    }

    async fn stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()> {
        let mut state = self.enter(cx, &[Read, Write])?;
        let from = state.file(cx, source)?.clone();
        if offset.checked_add(length).is_none_or(|end| end > from.attr.size) {
            return Err(StoreError::Range);
        }
        let node = state.staged(staged.ino)?;
        let end = node.attr.size;
        node.copy(&from, offset, end, length, !cx.confined);
        Ok(())
    }

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        self.enter_key(cx, List, &query.prefix)?.list(cx, query)
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        let mut all = crate::api::Snapshots::snapshots(self, cx).await?;
        all.sort_by(|one, two| (two.created, &two.name).cmp(&(one.created, &one.name)));
        Ok(all.into_iter().filter(|_| !cx.confined).map(|info| info.name).collect())
    }

    async fn upload_create(&self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo> {
        self.enter_key(cx, Write, key)?.upload_create(cx, key, meta)
    }

    async fn upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        let mut state = self.enter_key(cx, Write, key)?;
        let upload = state.open_upload(cx, key, id)?;
        Ok(upload.info(id))
    }

    async fn upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()> {
        self.enter_key(cx, Write, key)?.upload_part(cx, key, id, part, staged.ino)
    }

    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        let mut state = self.enter_key(cx, Write, key)?;
        let upload = state.open_upload(cx, key, id)?;
        let mut parts: Vec<_> = upload.parts.range(after + 1..).map(|(_, (_, info))| info.clone()).collect();
        let end = parts.len() <= limit;
        parts.truncate(limit);
        Ok((parts, end))
    }

    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        Ok(self.enter_key(cx, List, prefix)?.uploads(cx, prefix, after, limit))
    }

    async fn upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        parts: &[(u16, String)],
        checksums: Vec<(String, String)>,
        when: &Condition,
    ) -> Result<Put> {
        let least = self.min_part_bytes;
        self.enter_key(cx, Write, key)?.upload_complete(cx, key, id, parts, checksums, when, least)
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        self.enter_key(cx, Write, key)?.upload_abort(cx, key, id)
    }
}
