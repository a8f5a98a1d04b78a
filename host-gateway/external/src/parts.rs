//! Uploads in parts through the S3 door: they are uploads of the other store, under its own ids.

use mooring_policy::action::Action;
use mooring_protocol::types::Time;
use mooring_store::api::{Caller, Condition, ObjectMeta, PartInfo, Put, Result, Staged, UploadInfo};
use mooring_store::error::StoreError;

use crate::External;
use crate::remote::bytes;

/// Bytes of one part that are held in memory while it travels.
const MAX_PART: u64 = 512 << 20;

impl External {
    pub(crate) async fn do_upload_create(
        &self,
        cx: &Caller,
        key: &[u8],
        meta: ObjectMeta,
    ) -> Result<UploadInfo> {
        cx.authority.check(Action::Write, Some(key))?;
        self.writable()?;
        let id = self.remote.begin(&self.whole(cx, key)?, &meta).await?;
        Ok(UploadInfo { id, key: bytes(key), started: cx.now, meta })
    }

    pub(crate) async fn do_upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        cx.authority.check(Action::Write, Some(key))?;
        self.remote.parts(&self.whole(cx, key)?, id, 0, 1).await?;
        // What the object will carry the other store keeps to itself.
        let (started, meta) = (Time::default(), ObjectMeta::default());
        Ok(UploadInfo { id: id.to_owned(), key: bytes(key), started, meta })
    }

    pub(crate) async fn do_upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()> {
        cx.authority.check(Action::Write, Some(key))?;
        self.writable()?;
        let full = self.whole(cx, key)?;
        let spool = self.staged_spool(staged.ino)?;
        if spool.size() > MAX_PART {
            return Err(StoreError::TooLarge("a part for an external bucket may have 512 MiB"));
        }
        let _memory = self.memory(spool.size()).await?;
        let data = spool.read(0, spool.size() as usize).await?;
        let etag = self.remote.part(&full, id, part.number, data).await?;
        if etag != part.etag {
            return Err(StoreError::Unsupported(
                "uploads in parts: the external store's ETags of parts are no MD5",
            ));
        }
        self.unstage(staged);
        Ok(())
    }

    pub(crate) async fn do_uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        cx.authority.check(Action::List, Some(prefix))?;
        let root = self.root(cx)?;
        let [prefix, key] = [prefix, after.0].map(|key| [&root[..], key].concat());
        let key = if after.0.is_empty() { Vec::new() } else { key };
        let (uploads, end) = self.remote.uploads(&prefix, (&key, after.1), limit).await?;
        let uploads =
            uploads.into_iter().map(|(key, upload)| UploadInfo { key: bytes(&key[root.len()..]), ..upload });
        Ok((uploads.collect(), end))
    }

    pub(crate) async fn do_upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        parts: &[(u16, String)],
        when: &Condition,
    ) -> Result<Put> {
        cx.authority.check(Action::Write, Some(key))?;
        self.writable()?;
        let full = self.whole(cx, key)?;
        let old = self.table.by_key(&full);
        let _work = match &old {
            Some(node) => Some(node.work.lock().await),
            None => None,
        };
        self.remote.complete(&full, id, parts, when).await?;
        let (stat, meta) = self.remote.head(&full).await?.ok_or(StoreError::NotFound)?;
        self.arrived(cx, key, stat.etag, stat.size, meta)
    }
}
