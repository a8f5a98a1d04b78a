//! [`Objects`]: the bucket as a bucket. Conditions and uploads in parts are the other store's own.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino};
use mooring_store::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Result,
    Staged, UploadInfo,
};
use mooring_store::error::StoreError;

use crate::External;
use crate::node::Node;
use crate::remote::{Listed, bytes, delimiter};

impl External {
    /// A key of the caller's as one of the bucket's.
    pub(crate) fn whole(&self, cx: &Caller, key: &[u8]) -> Result<Vec<u8>> {
        let key = [&self.root(cx)?[..], key].concat();
        self.remote.takes(&key)?;
        Ok(key)
    }

    /// The directories on the way to a key.
    pub(crate) fn above(&self, key: &[u8]) -> Vec<Ino> {
        let slashes = key.iter().enumerate().filter(|(at, byte)| **byte == b'/' && at + 1 < key.len());
        let above = slashes.map(|(at, _)| self.table.number_of(&key[..=at]));
        std::iter::once(Ino::ROOT).chain(above).collect()
    }

    fn info(&self, key: &[u8], node: &Node, meta: ObjectMeta) -> ObjectInfo {
        let state = node.state.lock();
        let etag = match (&state.stat, &state.dirty) {
            (Some(stat), None) => stat.etag.clone(),
            // Written in a mount and not uploaded: no content of the other store has it.
            _ => format!("{:016x}{:016x}-1", node.ino.get(), state.version),
        };
        let size = state.size();
        ObjectInfo {
            key: bytes(key),
            ino: node.ino,
            version: state.version,
            size,
            modified: state.mtime(),
            etag,
            meta,
            marker: node.is_dir() && size == 0,
        }
    }

    fn listed(&self, root: usize, object: Listed) -> ObjectInfo {
        ObjectInfo {
            marker: object.key.ends_with(b"/") && object.stat.size == 0,
            ino: self.table.number_of(&object.key),
            version: 0,
            size: object.stat.size,
            modified: object.stat.modified,
            etag: object.stat.etag,
            meta: ObjectMeta::default(),
            key: bytes(&object.key[root..]),
        }
    }

    /// A key has a new content, put there through us.
    pub(crate) fn arrived(
        &self,
        cx: &Caller,
        key: &[u8],
        etag: String,
        size: u64,
        meta: ObjectMeta,
    ) -> Result<Put> {
        let full = self.whole(cx, key)?;
        let replaced = self.table.by_key(&full).map(|node| node.ino);
        let kind = if full.ends_with(b"/") { FileKind::Dir } else { FileKind::File };
        let node = self.table.make(&full, kind, self.moment(), cx.now, false);
        node.state.lock().stat = Some(self.put_stat(etag, size, cx.now));
        let object = self.info(key, &node, meta);
        Ok(Put { object, replaced, touched: self.above(&full) })
    }
}

#[async_trait]
impl Objects for External {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        cx.authority.check(Action::Read, Some(key))?;
        let full = self.whole(cx, key)?;
        let (node, meta) = self.head_now(&full, cx.now).await?.ok_or(StoreError::NotFound)?;
        Ok(self.info(key, &node, meta))
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        self.do_stage(cx)
    }

    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        self.do_stage_write(cx, staged, data).await
    }

    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()> {
        cx.authority.check(Action::Write, None)?;
        self.unstage(staged);
        Ok(())
    }

    async fn put(
        &self,
        cx: &Caller,
        staged: Staged,
        key: &[u8],
        _etag: String,
        meta: ObjectMeta,
        when: &Condition,
    ) -> Result<Put> {
        cx.authority.check(Action::Write, Some(key))?;
        self.writable()?;
        let full = self.whole(cx, key)?;
        let spool = self.staged_spool(staged.ino)?;
        // What a mount wrote is on its way or not begun: it must not arrive after this.
        let old = self.table.by_key(&full);
        let _work = match &old {
            Some(node) => Some(node.work.lock().await),
            None => None,
        };
        let etag = self.send(&full, &spool, &meta, when).await?;
        self.unstage(staged);
        self.arrived(cx, key, etag, spool.size(), meta)
    }

    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        cx.authority.check(Action::Delete, Some(key))?;
        self.writable()?;
        let full = self.whole(cx, key)?;
        let found = self.head_now(&full, cx.now).await?;
        if let Some(wanted) = &when.if_match {
            let held = found.as_ref().is_some_and(|(node, _)| {
                wanted == "*" || self.info(key, node, ObjectMeta::default()).etag == wanted.trim_matches('"')
            });
            if !held {
                return Err(StoreError::PreconditionFailed);
            }
        }
        let Some((node, _)) = found else { return Ok(None) };
        if node.is_dir() {
            self.remote.delete(&full).await?;
            node.state.lock().stat = None;
        } else {
            self.delete_node(&node, cx.now).await?;
        }
        Ok(Some(Deleted { ino: node.ino, touched: self.above(&full), durable: true }))
    }

    async fn stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()> {
        self.do_stage_copy(cx, source, offset, length, staged).await
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        cx.authority.check(Action::List, None).map(|()| Vec::new())
    }

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        cx.authority.check(Action::List, Some(&query.prefix))?;
        let root = self.root(cx)?;
        let [prefix, after] = [&query.prefix, &query.after].map(|key| [&root[..], key].concat());
        let after = if query.after.is_empty() { Vec::new() } else { after };
        let page =
            self.remote.list(&prefix, delimiter(query.delimiter.as_deref())?, &after, query.limit).await?;
        let strip = |key: &Vec<u8>| key[root.len()..].to_vec();
        Ok(ListPage {
            next: page.next.as_ref().map(strip),
            prefixes: page.prefixes.iter().map(|prefix| bytes(&prefix[root.len()..])).collect(),
            objects: page.objects.into_iter().map(|object| self.listed(root.len(), object)).collect(),
        })
    }

    async fn upload_create(&self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo> {
        self.do_upload_create(cx, key, meta).await
    }

    async fn upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        self.do_upload_get(cx, key, id).await
    }

    async fn upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()> {
        self.do_upload_part(cx, key, id, part, staged).await
    }

    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        cx.authority.check(Action::Write, Some(key))?;
        self.remote.parts(&self.whole(cx, key)?, id, after, limit).await
    }

    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        self.do_uploads(cx, prefix, after, limit).await
    }

    async fn upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        parts: &[(u16, String)],
        _checksums: Vec<(String, String)>,
        when: &Condition,
    ) -> Result<Put> {
        self.do_upload_complete(cx, key, id, parts, when).await
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        cx.authority.check(Action::Write, Some(key))?;
        self.writable()?;
        self.remote.abort(&self.whole(cx, key)?, id).await
    }
}
