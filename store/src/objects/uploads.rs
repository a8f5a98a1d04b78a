//! Multipart uploads: beginning, listing, completing by reference, giving up.
//!
//! Each part is an inode without a name. Completion refers to the parts' extents from one new inode and gives that the
//! key; the upload's row stays for a day and says which object it became, so that a client that did not hear the
//! answer may ask again.

use super::parts::release;
use super::put::Putting;
use crate::api::{Caller, Condition, ObjectMeta, Put, Result, UploadInfo};
use crate::error::StoreError;
use crate::keys::HeadId;
use crate::keys::part::{self, Part};
use crate::keys::upload::{self, ID_DIGITS, Upload};
use crate::meta::{after, prefix_end};
use crate::volume::rows::scan;
use crate::volume::{Gate, Volume};
use bytes::Bytes;
use md5::{Digest, Md5};
use mooring_policy::action::Action;
use mooring_protocol::types::{Ino, Time};

/// How long a completed upload is remembered, seconds.
const REMEMBERED: i64 = 24 * 3600;

impl Volume {
    pub(super) async fn do_upload_create(
        &self,
        cx: &Caller,
        key: &[u8],
        meta: ObjectMeta,
    ) -> Result<UploadInfo> {
        cx.authority.check(Action::Write, Some(key))?;
        super::key::check(key)?;
        let mut id = [0; ID_DIGITS / 2];
        self.random.fill(&mut id);
        let id = hex::encode(id);
        let row = Upload { started: cx.now, meta, completed: None };
        let held = self.lock_gate(Gate::Open, &[], &[]).await?;
        let mut tx = self.tx(&held);
        tx.put_plain(upload::key(self.head_id(), cx.root, key, &id), upload::encode(&row));
        self.commit(tx.done()).await?;
        crate::api::Tree::sync(self).await?;
        Ok(info(key, id, row))
    }

    pub(super) async fn do_upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo> {
        cx.authority.check(Action::Write, Some(key))?;
        let row = self.upload_row(cx, key, id).await?.filter(|row| row.completed.is_none());
        Ok(info(key, id.to_owned(), row.ok_or(StoreError::NoSuchUpload)?))
    }

    /// The upload's row, completed or not.
    pub(crate) async fn upload_row(&self, cx: &Caller, key: &[u8], id: &str) -> Result<Option<Upload>> {
        self.alive()?;
        if id_bytes(id).is_err() || super::key::check(key).is_err() {
            return Ok(None);
        }
        let row = self.rows().meta().get(&upload::key(self.head_id(), cx.root, key, id)).await?;
        row.map(|value| Ok(upload::decode(&value)?)).transpose()
    }

    pub(super) async fn do_uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        (after_key, after_id): (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)> {
        const PAGE: usize = 512;
        cx.authority.check(Action::List, Some(prefix))?;
        self.alive()?;
        let whole = upload::prefix(self.head_id(), cx.root, &[]);
        let mut from = prefix.to_vec();
        if !after_key.is_empty() {
            // Without an id all uploads of that key are passed over: no id has a byte above `f`.
            let id = if after_id.is_empty() { "g" } else { after_id };
            from = from.max(after(&[after_key, &[0], id.as_bytes()].concat()));
        }
        let mut found = Vec::new();
        loop {
            let page = scan(&**self.rows().meta(), &whole, &from, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok((found, true)) };
            from = after(last);
            for (rest, value) in page {
                let full = [&whole[..], &rest[..]].concat();
                let (_, _, key, id) = upload::parse(&full)?;
                let row = upload::decode(&value)?;
                if !key.starts_with(prefix) {
                    return Ok((found, true));
                }
                if row.completed.is_some() {
                    continue;
                }
                if found.len() == limit {
                    return Ok((found, false));
                }
                found.push(info(key, id.to_owned(), row));
            }
        }
    }

    pub(super) async fn do_upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        named: &[(u16, String)],
        checksums: Vec<(String, String)>,
        when: &Condition,
    ) -> Result<Put> {
        cx.authority.check(Action::Write, Some(key))?;
        let upload = id_bytes(id)?;
        // Alone with this upload until it is an object: the parts must not change on the way.
        let alone = self.upload_locks.lock(Gate::Open, &[lock_name(upload)], &[]).await;
        let row = self.upload_row(cx, key, id).await?.ok_or(StoreError::NoSuchUpload)?;
        if let Some((ino, etag)) = &row.completed {
            return self.completed_before(key, *ino, etag).await;
        }
        let all = self.parts_after(upload, 0, usize::MAX).await?;
        let chosen = choose(named, &all, self.config.min_part_bytes)?;
        let etag = multipart_etag(&chosen)?;
        let staged = self.do_stage(cx).await?.ino;
        let result = self.join(cx, key, staged, &chosen).await;
        let put = match result {
            Ok(()) => {
                let finish = |tx: &mut crate::volume::Tx<'_>, ino: Ino| {
                    tx.hold(&alone);
                    let row = Upload { completed: Some((ino, etag.clone())), ..row.clone() };
                    tx.put_plain(upload::key(self.head_id(), cx.root, key, id), upload::encode(&row));
                    for (number, part) in &all {
                        tx.delete_plain(part::key(upload, *number));
                        release(tx, cx, part.ino);
                    }
                };
                let meta = ObjectMeta { checksums, ..row.meta.clone() };
                let putting = Putting {
                    staged,
                    fresh: None,
                    empty: false,
                    key,
                    etag: etag.clone(),
                    meta,
                    also: &finish,
                };
                self.give_key(cx, putting, when).await
            }
            Err(error) => Err(error),
        };
        self.drop_staged(staged).await?;
        let put = put?;
        for (_, part) in &all {
            self.free_orphan(part.ino).await?;
        }
        crate::api::Tree::sync(self).await?;
        Ok(put)
    }

    /// Refers to the parts' bytes from one inode, in order.
    async fn join(&self, cx: &Caller, key: &[u8], staged: Ino, parts: &[&Part]) -> Result<()> {
        super::key::check(key)?;
        self.flush_staged(cx, staged, true).await?;
        for part in parts {
            self.prepare_source(cx, part.ino, (0, part.size)).await?;
            let held = self.lock(cx, &[staged], &[part.ino]).await?;
            let (from, to) = (self.file(part.ino).await?, self.file(staged).await?);
            let end = to.size;
            self.copy_locked(cx, &held, (part.ino, from), 0, (staged, to), end, part.size).await?;
        }
        Ok(())
    }

    async fn completed_before(&self, key: &[u8], ino: Ino, etag: &str) -> Result<Put> {
        let inode = self.peek_inode(ino).await?.ok_or(StoreError::NoSuchUpload)?;
        let mut object = self.describe(key, ino, &inode).await?;
        etag.clone_into(&mut object.etag);
        Ok(Put { object, replaced: None, touched: Vec::new() })
    }

    pub(super) async fn do_upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()> {
        cx.authority.check(Action::Write, Some(key))?;
        let upload = id_bytes(id)?;
        let held = self.upload_locks.lock(Gate::Open, &[lock_name(upload)], &[]).await;
        let row = self.upload_row(cx, key, id).await?;
        row.filter(|row| row.completed.is_none()).ok_or(StoreError::NoSuchUpload)?;
        let all = self.parts_after(upload, 0, usize::MAX).await?;
        let entered = self.enter().await;
        let mut tx = self.tx(&held);
        tx.hold(&entered);
        drop(entered);
        tx.delete_plain(upload::key(self.head_id(), cx.root, key, id));
        for (number, part) in &all {
            tx.delete_plain(part::key(upload, *number));
            release(&mut tx, cx, part.ino);
        }
        self.commit(tx.done()).await?;
        drop(held);
        for (_, part) in &all {
            self.free_orphan(part.ino).await?;
        }
        crate::api::Tree::sync(self).await
    }

    /// Forgets all uploads of the head and their parts, whose inodes go otherwise.
    pub(crate) async fn give_up_uploads(&self) -> Result<()> {
        self.give_up_uploads_of(self.head_id()).await
    }

    /// The same, of any head.
    pub(crate) async fn give_up_uploads_of(&self, head: HeadId) -> Result<()> {
        const PAGE: usize = 512;
        for (key, upload) in self.uploads_of(head).await? {
            // The upload last: whoever goes on after a stop finds its parts by it.
            let (mut from, end) = (part::prefix(upload), prefix_end(&part::prefix(upload)));
            loop {
                let page = self.rows().meta().scan(&from, &end, PAGE).await?;
                let held = self.lock_gate(Gate::Open, &[], &[]).await?;
                let mut tx = self.tx(&held);
                page.iter().for_each(|(key, _)| tx.delete_plain(key.to_vec()));
                match page.last() {
                    Some((last, _)) => from = after(last),
                    None => tx.delete_plain(key.to_vec()),
                }
                self.commit(tx.done()).await?;
                if page.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The rows and ids of a head's uploads, completed or not.
    async fn uploads_of(&self, head: HeadId) -> Result<Vec<(Bytes, [u8; 16])>> {
        const PAGE: usize = 512;
        let mut found = Vec::new();
        let (mut from, end) = upload::range(head);
        loop {
            let page = self.rows().meta().scan(&from, &end, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            from = after(last);
            for (key, _) in page {
                let id = id_bytes(upload::parse(&key)?.3)?;
                found.push((key, id));
            }
        }
    }

    /// Inodes that are parts of the head's uploads under way.
    pub(crate) async fn part_inodes(&self) -> Result<std::collections::BTreeSet<Ino>> {
        let mut found = std::collections::BTreeSet::new();
        for (_, upload) in self.uploads_of(self.head_id()).await? {
            let parts = self.parts_after(upload, 0, usize::MAX).await?;
            found.extend(parts.into_iter().map(|(_, part)| part.ino));
        }
        Ok(found)
    }

    /// Forgets uploads that were completed long ago.
    pub(crate) async fn forget_completed(&self) -> Result<()> {
        const PAGE: usize = 512;
        let now = Time::from_millis(self.clock.now().as_millis());
        let (mut from, end) = upload::range(self.head_id());
        loop {
            let page = self.rows().meta().scan(&from, &end, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = after(last);
            let held = self.lock_gate(Gate::Open, &[], &[]).await?;
            let mut tx = self.tx(&held);
            for (key, value) in page {
                let row = upload::decode(&value)?;
                if row.completed.is_some() && row.started.secs + REMEMBERED < now.secs {
                    tx.delete_plain(key.to_vec());
                }
            }
            self.commit(tx.done()).await?;
        }
    }
}

fn info(key: &[u8], id: String, row: Upload) -> UploadInfo {
    UploadInfo { id, key: Bytes::copy_from_slice(key), started: row.started, meta: row.meta }
}

/// The 16 bytes of an upload's id.
pub(crate) fn id_bytes(id: &str) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let lower = id.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    match hex::decode_to_slice(id, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(StoreError::NoSuchUpload),
    }
}

/// The lock of an upload, in a table of its own that comes before the inodes'.
pub(crate) fn lock_name(upload: [u8; 16]) -> Ino {
    let mut number = [0; 8];
    number[2..].copy_from_slice(&upload[..6]);
    Ino::new(u64::from_be_bytes(number)).unwrap_or(Ino::ROOT)
}

/// The parts named, in order, if they are there and large enough.
fn choose<'a>(named: &[(u16, String)], all: &'a [(u16, Part)], least: u64) -> Result<Vec<&'a Part>> {
    if named.is_empty() {
        return Err(StoreError::Invalid("a completion must name at least one part"));
    }
    let mut chosen: Vec<&Part> = Vec::with_capacity(named.len());
    for (at, (number, etag)) in named.iter().enumerate() {
        let wrong = |why| StoreError::InvalidPart { number: *number, why };
        if at > 0 && named[at - 1].0 >= *number {
            return Err(wrong("parts must be named in ascending order"));
        }
        let found = all
            .binary_search_by_key(number, |(number, _)| *number)
            .map_err(|_| wrong("it was not uploaded"))?;
        let part = &all[found].1;
        if part.etag != etag.trim_matches('"') {
            return Err(wrong("its ETag is another"));
        }
        if at + 1 < named.len() && part.size < least {
            return Err(wrong("too small"));
        }
        chosen.push(part);
    }
    Ok(chosen)
}

/// MD5 of the parts' MD5s, and how many they are.
fn multipart_etag(parts: &[&Part]) -> Result<String> {
    let mut all = Md5::new();
    for part in parts {
        let mut md5 = [0; 16];
        hex::decode_to_slice(&part.etag, &mut md5)
            .map_err(|_| StoreError::Invalid("a part's ETag is not the MD5 of its bytes"))?;
        all.update(md5);
    }
    Ok(format!("{}-{}", hex::encode(all.finalize()), parts.len()))
}
