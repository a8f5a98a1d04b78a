//! Parts of multipart uploads: storing and listing.

use super::uploads::{id_bytes, lock_name};
use crate::api::{Caller, PartInfo, Result, Staged};
use crate::error::StoreError;
use crate::keys::orphan::{Orphan, Why};
use crate::keys::part::{self, Part};
use crate::meta::after;
use crate::volume::rows::scan;
use crate::volume::{Gate, Tx, Volume};
use mooring_policy::action::Action;
use mooring_protocol::types::Ino;

/// Largest number of a part.
const MAX_PART: u16 = 10_000;

impl Volume {
    pub(super) async fn do_upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        info: PartInfo,
        Staged { ino }: Staged,
    ) -> Result<()> {
        cx.authority.check(Action::Write, Some(key))?;
        let stored = self.store_part(cx, key, id, info, ino).await;
        self.drop_staged(ino).await?;
        if let Some(replaced) = stored? {
            self.free_orphan(replaced).await?;
        }
        crate::api::Tree::sync(self).await
    }

    /// Makes the upload's inode a part; returns the inode it replaces.
    async fn store_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        info: PartInfo,
        ino: Ino,
    ) -> Result<Option<Ino>> {
        if !(1..=MAX_PART).contains(&info.number) {
            return Err(StoreError::InvalidPart { number: info.number, why: "numbers go from 1 to 10,000" });
        }
        self.flush_staged(cx, ino, true).await?;
        let upload = id_bytes(id)?;
        let alone = self.upload_locks.lock(Gate::Open, &[lock_name(upload)], &[]).await;
        let held = self.lock(cx, &[ino], &[]).await?;
        self.upload_row(cx, key, id)
            .await?
            .filter(|row| row.completed.is_none())
            .ok_or(StoreError::NoSuchUpload)?;
        let replaced = self.part(upload, info.number).await?;
        let inode = self.file(ino).await?;
        let row = Part {
            ino,
            size: inode.size,
            etag: info.etag,
            checksums: info.checksums,
            modified: info.modified,
        };
        let mut tx = self.tx(&held);
        tx.hold(&alone);
        tx.put_plain(part::key(upload, info.number), part::encode(&row));
        tx.put_orphan(ino, Orphan { why: Why::Part, parent: cx.root });
        if let Some(old) = &replaced {
            release(&mut tx, cx, old.ino);
        }
        self.commit(tx.done()).await?;
        Ok(replaced.map(|old| old.ino))
    }

    async fn part(&self, upload: [u8; 16], number: u16) -> Result<Option<Part>> {
        let row = self.rows().meta().get(&part::key(upload, number)).await?;
        row.map(|value| Ok(part::decode(&value)?)).transpose()
    }

    pub(super) async fn do_upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        cx.authority.check(Action::Write, Some(key))?;
        let row = self.upload_row(cx, key, id).await?;
        row.filter(|row| row.completed.is_none()).ok_or(StoreError::NoSuchUpload)?;
        let upload = id_bytes(id)?;
        let mut parts = Vec::new();
        for (number, row) in self.parts_after(upload, after, limit.saturating_add(1)).await? {
            if parts.len() == limit {
                return Ok((parts, false));
            }
            let Part { size, etag, checksums, modified, .. } = row;
            parts.push(PartInfo { number, size, etag, checksums, modified });
        }
        Ok((parts, true))
    }

    /// Up to `limit` parts with numbers above `above`.
    pub(crate) async fn parts_after(
        &self,
        upload: [u8; 16],
        above: u16,
        limit: usize,
    ) -> Result<Vec<(u16, Part)>> {
        const PAGE: usize = 1024;
        let prefix = part::prefix(upload);
        let mut found = Vec::new();
        let mut from = after(&above.to_be_bytes());
        while found.len() < limit {
            let page = scan(&**self.rows().meta(), &prefix, &from, PAGE.min(limit - found.len())).await?;
            let Some((last, _)) = page.last() else { break };
            from = after(last);
            for (rest, value) in page {
                let (_, number) = part::parse(&[&prefix[..], &rest[..]].concat())?;
                found.push((number, part::decode(&value)?));
            }
        }
        Ok(found)
    }
}

/// A part's inode is an ordinary orphan from now on, to be freed.
pub(crate) fn release(tx: &mut Tx<'_>, cx: &Caller, ino: Ino) {
    tx.put_orphan(ino, Orphan { why: Why::Staged, parent: cx.root });
}
