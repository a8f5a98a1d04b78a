//! The bucket over the head and its snapshots: the key `.snapshots/NAME/KEY` is `KEY` in the snapshot `NAME`.

use async_trait::async_trait;
use bytes::Bytes;
use mooring_protocol::types::Ino;
use mooring_store::api::{
    Caller, Condition, Deleted, ListPage, ListQuery, ObjectInfo, ObjectMeta, Objects, PartInfo, Put, Result,
    Staged, Tree, UploadInfo,
};
use mooring_store::error::StoreError;

use super::{NAME, Views};

/// Bytes copied out of a snapshot at once.
const STEP: u64 = 4 << 20;

/// What follows `.snapshots/` in a key, if it begins with that.
fn below(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(NAME)?.strip_prefix(b"/")
}

/// The snapshot's name and the key in it.
fn parts(below: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = below.iter().position(|byte| *byte == b'/')?;
    Some((&below[..slash], &below[slash + 1..]))
}

/// `.snapshots/NAME/` before a key.
fn shown(name: &[u8], key: &[u8]) -> Bytes {
    [NAME, b"/", name, b"/", key].concat().into()
}

impl Views {
    /// Refuses keys that would hide snapshots.
    fn own_key(cx: &Caller, key: &[u8]) -> Result<()> {
        let taken = Views::shows(cx) && (key == NAME || below(key).is_some());
        if taken { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    /// A listing below `.snapshots/`.
    async fn list_below(&self, cx: &Caller, query: &ListQuery, prefix: &[u8]) -> Result<ListPage> {
        let Some((name, rest)) = parts(prefix) else { return self.list_names(cx, query, prefix).await };
        let (view, tree) = match self.named(cx, name).await {
            Err(StoreError::NotFound) => return Ok(ListPage::default()),
            found => found?,
        };
        let before = shown(name, b"");
        let after = query.after.strip_prefix(&before[..]).map(<[u8]>::to_vec);
        if after.is_none() && query.after.as_slice() > &before[..] {
            return Ok(ListPage::default());
        }
        let inner = ListQuery { prefix: rest.to_vec(), after: after.unwrap_or_default(), ..query.clone() };
        let page = tree.list(cx, &inner).await?;
        let object = |info: ObjectInfo| ObjectInfo {
            key: shown(name, &info.key),
            ino: info.ino.in_view(view),
            ..info
        };
        Ok(ListPage {
            objects: page.objects.into_iter().map(object).collect(),
            prefixes: page.prefixes.iter().map(|prefix| shown(name, prefix)).collect(),
            next: page.next.map(|next| shown(name, &next).to_vec()),
        })
    }

    /// The names of snapshots as common prefixes. Without a delimiter nothing is listed: nobody asks for every object of
    /// every snapshot by intention.
    async fn list_names(&self, cx: &Caller, query: &ListQuery, prefix: &[u8]) -> Result<ListPage> {
        if query.delimiter.as_deref() != Some(b"/") {
            return Ok(ListPage::default());
        }
        let mut names: Vec<Bytes> =
            self.head.snapshots(cx).await?.into_iter().map(|i| i.name.into()).collect();
        names.sort();
        let wanted = names.iter().filter(|name| name.starts_with(prefix));
        let all = wanted.map(|name| shown(name, b"")).filter(|key| key[..] > query.after[..]);
        let mut prefixes: Vec<Bytes> = all.take(query.limit + 1).collect();
        let more = prefixes.len() > query.limit;
        prefixes.truncate(query.limit);
        let next = prefixes.last().filter(|_| more).map(|last| last.to_vec());
        Ok(ListPage { objects: Vec::new(), prefixes, next })
    }
}

#[async_trait]
impl Objects for Views {
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo> {
        match below(key).filter(|_| Views::shows(cx)) {
            None => Objects::head(&*self.head, cx, key).await,
            Some(rest) => {
                let (name, inner) = parts(rest).ok_or(StoreError::NotFound)?;
                let (view, tree) = self.named(cx, name).await?;
                let info = tree.head(cx, inner).await?;
                Ok(ObjectInfo { key: Bytes::copy_from_slice(key), ino: info.ino.in_view(view), ..info })
            }
        }
    }

    async fn stage(&self, cx: &Caller) -> Result<Staged> {
        self.head.stage(cx).await
    }

    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()> {
        self.head.stage_write(cx, staged, data).await
    }

    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()> {
        self.head.stage_abort(cx, staged).await
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
        Views::own_key(cx, key)?;
        self.head.put(cx, staged, key, etag, meta, when).await
    }

    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        Views::own_key(cx, key)?;
        self.head.delete(cx, key, when).await
    }

    async fn delete_one_of_many(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        Views::own_key(cx, key)?;
        self.head.delete_one_of_many(cx, key, when).await
    }

    async fn stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()> {
        if source.view() == 0 {
            return self.head.stage_copy(cx, source, offset, length, staged).await;
        }
        let (mut at, end) = (offset, offset.saturating_add(length));
        while at < end {
            let size = u32::try_from(STEP.min(end - at)).unwrap_or(u32::MAX);
            let (data, _) = self.read(cx, source, at, size).await?;
            let read: usize = data.iter().map(Bytes::len).sum();
            if read == 0 {
                return Err(StoreError::Range);
            }
            for bytes in data {
                self.head.stage_write(cx, staged, bytes).await?;
            }
            at += read as u64;
        }
        Ok(())
    }

    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        match below(&query.prefix).filter(|_| Views::shows(cx)) {
            Some(prefix) => self.list_below(cx, query, prefix).await,
            None => self.head.list(cx, query).await,
        }
    }

    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>> {
        if Views::shows(cx) { self.head.snapshot_names(cx).await } else { Ok(Vec::new()) }
    }

    async fn upload_create(&self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo> {
        Views::own_key(cx, key)?;
        self.head.upload_create(cx, key, meta).await
    }

    async fn upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        self.head.upload_get(cx, key, id).await
    }

    async fn upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()> {
        self.head.upload_part(cx, key, id, part, staged).await
    }

    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        self.head.upload_parts(cx, key, id, after, limit).await
    }

    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        self.head.uploads(cx, prefix, after, limit).await
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
        self.head.upload_complete(cx, key, id, parts, checksums, when).await
    }

    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        self.head.upload_abort(cx, key, id).await
    }
}
