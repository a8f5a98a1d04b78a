//! The same tree as a bucket of objects: [`Objects`] of a volume.
//!
//! | key | is |
//! |---|---|
//! | `a/b/c` | the file `c` in `b` in `a`; directories are made as needed and are *implicit* |
//! | `a/b/` without bytes | the directory `b`, made explicit as by mkdir |
//! | anything that is no path | a file kept at the deepest directory of its beginning, in the side family ([`crate::keys::side`]) |
//!
//! Implicit directories vanish when the last object under them is deleted through S3. Symbolic links and special
//! files are no objects. A listing is one walk of the tree ([`list`]).

use crate::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Result,
    Staged, UploadInfo,
};
use crate::error::StoreError;
use crate::volume::Volume;
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::Ino;

mod delete;
mod escape;
mod info;
mod key;
mod list;
mod parts;
mod put;
mod stage;
mod uploads;
mod walk;

pub(crate) use stage::Stagings;
pub(crate) use uploads::id_bytes;

#[async_trait]
impl Objects for Volume {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        cx.authority.check(Action::Read, Some(key))?;
        loop {
            let found = self.find(cx.root, key).await?.ok_or(StoreError::NotFound)?;
            if let Some(info) = self.describe_found(key, &found).await? {
                return Ok(info);
            }
        }
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        self.do_stage(cx).await
    }

    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        self.do_stage_write(cx, staged, data).await
    }

    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()> {
        self.do_stage_abort(cx, staged).await
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
        self.do_put(cx, staged, key, etag, meta, when).await
    }

    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        self.do_delete(cx, key, when).await
    }

    async fn delete_one_of_many(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        self.do_delete_one_of_many(cx, key, when).await
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

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        self.do_list(cx, query).await
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        if cx.confined {
            return cx.authority.check(Action::List, None).map(|()| Vec::new());
        }
        let mut all = crate::api::Snapshots::snapshots(self, cx).await?;
        all.sort_by(|one, two| (two.created, &two.name).cmp(&(one.created, &one.name)));
        Ok(all.into_iter().map(|info| info.name).collect())
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
        self.do_upload_parts(cx, key, id, after, limit).await
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
        checksums: Vec<(String, String)>,
        when: &Condition,
    ) -> Result<Put> {
        self.do_upload_complete(cx, key, id, parts, checksums, when).await
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        self.do_upload_abort(cx, key, id).await
    }
}
