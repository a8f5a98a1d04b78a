//! The bucket as a one-shot caller sees it. What a change touches is settled before it, as far as it can be foreseen, and
//! after it for the rest, before it is answered.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_protocol::types::Ino;
use mooring_store::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Result,
    Staged, UploadInfo,
};

use super::OneShot;

/// Every inode whose leases a PUT ends.
fn touched(put: &Put) -> Vec<Ino> {
    put.touched.iter().copied().chain(put.replaced).collect()
}

/// Every inode whose leases a DELETE ends.
fn gone(deleted: Option<&Deleted>) -> Vec<Ino> {
    deleted.map(|deleted| deleted.touched.iter().copied().chain([deleted.ino]).collect()).unwrap_or_default()
}

#[async_trait]
impl Objects for OneShot {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        let info = self.store().head(cx, key).await?;
        if !self.volume.written_elsewhere(None, info.ino) {
            return Ok(info);
        }
        self.look(Some(info.ino)).await?;
        self.store().head(cx, key).await
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        self.store().stage(cx).await
    }

    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        self.store().stage_write(cx, staged, data).await
    }

    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()> {
        self.store().stage_abort(cx, staged).await
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
        let mut pass = self.change(&self.on_the_way(cx, key).await).await?;
        let put = self.store().put(cx, staged, key, etag, meta, when).await?;
        self.also_changed(&mut pass, &touched(&put)).await?;
        Ok(put)
    }

    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        let mut pass = self.change(&self.on_the_way(cx, key).await).await?;
        let deleted = self.store().delete(cx, key, when).await?;
        self.also_changed(&mut pass, &gone(deleted.as_ref())).await?;
        Ok(deleted)
    }

    async fn delete_one_of_many(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        let mut pass = self.change(&self.on_the_way(cx, key).await).await?;
        let deleted = self.store().delete_one_of_many(cx, key, when).await?;
        self.also_changed(&mut pass, &gone(deleted.as_ref())).await?;
        Ok(deleted)
    }

    async fn stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()> {
        self.look(Some(source)).await?;
        self.store().stage_copy(cx, source, offset, length, staged).await
    }

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        self.look(None).await?;
        self.store().list(cx, query).await
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        self.store().snapshot_names(cx).await
    }

    async fn upload_create(&self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo> {
        self.store().upload_create(cx, key, meta).await
    }

    async fn upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        self.store().upload_get(cx, key, id).await
    }

    async fn upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()> {
        self.store().upload_part(cx, key, id, part, staged).await
    }

    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        self.store().upload_parts(cx, key, id, after, limit).await
    }

    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        self.store().uploads(cx, prefix, after, limit).await
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
        let mut pass = self.change(&self.on_the_way(cx, key).await).await?;
        let put = self.store().upload_complete(cx, key, id, parts, checksums, when).await?;
        self.also_changed(&mut pass, &touched(&put)).await?;
        Ok(put)
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        self.store().upload_abort(cx, key, id).await
    }
}
