//! Multipart uploads.

use super::{State, Upload};
use crate::api::{Caller, Condition, ObjectMeta, PartInfo, Put, Result, UploadInfo};
use crate::error::StoreError;
use bytes::Bytes;
use md5::{Digest, Md5};
use mooring_protocol::types::Ino;
use std::collections::BTreeMap;

impl Upload {
    pub(super) fn info(&self, id: &str) -> UploadInfo {
        let key = Bytes::copy_from_slice(&self.key);
        UploadInfo { id: id.to_owned(), key, started: self.started, meta: self.meta.clone() }
    }
}

impl State {
    pub(super) fn upload_create(&mut self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo> {
        super::objects::check_key(key)?;
        let id = format!("{:032x}", self.next);
        self.next += 1;
        let (root, key) = (cx.root, key.to_vec());
        let upload = Upload { root, key, started: cx.now, meta, completed: None, parts: BTreeMap::new() };
        let info = upload.info(&id);
        self.uploads.insert(id, upload);
        Ok(info)
    }

    fn upload(&mut self, cx: &Caller, key: &[u8], id: &str) -> Result<&mut Upload> {
        let upload = self.uploads.get_mut(id).filter(|upload| upload.key == key && upload.root == cx.root);
        upload.ok_or(StoreError::NoSuchUpload)
    }

    pub(super) fn open_upload(&mut self, cx: &Caller, key: &[u8], id: &str) -> Result<&mut Upload> {
        let upload = self.upload(cx, key, id)?;
        if upload.completed.is_none() { Ok(upload) } else { Err(StoreError::NoSuchUpload) }
    }

    pub(super) fn upload_part(
        &mut self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        mut info: PartInfo,
        staged: Ino,
    ) -> Result<()> {
        let size = self.staged(staged)?.attr.size;
        let number = info.number;
        let stored = match number {
            1..=10_000 => self.open_upload(cx, key, id).map(|upload| {
                info.size = size;
                upload.parts.insert(number, (staged, info))
            }),
            _ => Err(StoreError::InvalidPart { number, why: "numbers go from 1 to 10,000" }),
        };
        if stored.is_ok() {
            self.node(staged)?.part = true;
        }
        self.drop_staged(staged);
        if let Some((replaced, _)) = stored? {
            self.free_part(replaced);
        }
        Ok(())
    }

    fn free_part(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.part = false;
        }
        self.reap(ino);
    }

    pub(super) fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        (after_key, after_id): (&[u8], &str),
        limit: usize,
    ) -> (Vec<UploadInfo>, bool) {
        let behind = |id: &str, key: &[u8]| match key.cmp(after_key) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !after_id.is_empty() && id > after_id,
            std::cmp::Ordering::Greater => true,
        };
        let open =
            self.uploads.iter().filter(|(_, upload)| upload.completed.is_none() && upload.root == cx.root);
        let mut found: Vec<_> = open
            .filter(|(id, upload)| upload.key.starts_with(prefix) && behind(id, &upload.key))
            .map(|(id, upload)| upload.info(id))
            .collect();
        found.sort_by(|one, two| (&one.key, &one.id).cmp(&(&two.key, &two.id)));
        let end = found.len() <= limit;
        found.truncate(limit);
        (found, end)
    }

    #[expect(clippy::too_many_arguments, reason = "the trait's, and a bound")]
    pub(super) fn upload_complete(
        &mut self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        named: &[(u16, String)],
        checksums: Vec<(String, String)>,
        when: &Condition,
        least: u64,
    ) -> Result<Put> {
        let upload = self.upload(cx, key, id)?.clone();
        if let Some(ino) = upload.completed {
            let object = self.info(key, ino).map_err(|_| StoreError::NoSuchUpload)?;
            return Ok(Put { object, replaced: None, touched: Vec::new() });
        }
        if named.is_empty() {
            return Err(StoreError::Invalid("no parts"));
        }
        let mut md5 = Md5::new();
        for (at, (number, etag)) in named.iter().enumerate() {
            let wrong = |why| StoreError::InvalidPart { number: *number, why };
            if at > 0 && named[at - 1].0 >= *number {
                return Err(wrong("parts must be named in ascending order"));
            }
            let (_, info) = upload.parts.get(number).ok_or(wrong("it was not uploaded"))?;
            if info.etag != etag.trim_matches('"') {
                return Err(wrong("its ETag is another"));
            }
            if at + 1 < named.len() && info.size < least {
                return Err(wrong("too small"));
            }
            md5.update(hex::decode(&info.etag).map_err(|_| StoreError::Invalid("no MD5"))?);
        }
        let staged = self.stage(cx);
        for (number, _) in named {
            if let Some((ino, info)) = upload.parts.get(number) {
                let source = self.node(*ino)?.clone();
                let target = self.node(staged)?;
                let end = target.attr.size;
                if info.size > 0 {
                    target.copy(&source, 0, end, info.size, !cx.confined);
                }
            }
        }
        let etag = format!("{}-{}", hex::encode(md5.finalize()), named.len());
        let put = self.put(cx, staged, key, etag, ObjectMeta { checksums, ..upload.meta }, when);
        self.drop_staged(staged);
        let put = put?;
        let row = self.upload(cx, key, id)?;
        row.completed = Some(put.object.ino);
        row.parts.clear();
        upload.parts.values().for_each(|(ino, _)| self.free_part(*ino));
        Ok(put)
    }

    pub(super) fn upload_abort(&mut self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        let parts = self.open_upload(cx, key, id)?.parts.clone();
        self.uploads.remove(id);
        parts.values().for_each(|(ino, _)| self.free_part(*ino));
        Ok(())
    }
}
