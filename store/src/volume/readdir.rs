//! Listing a directory.

mod many;

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::dentry;
use crate::meta::after;
use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, DirEntry, Ino, Name};

/// Entries of one page, whatever is asked for.
const MAX_PAGE: usize = 4096;

impl Volume {
    pub(super) async fn do_readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        cx.authority.check(Action::List, None)?;
        let limit = limit.clamp(1, MAX_PAGE);
        let (page, end) = {
            let _held = self.lock(cx, &[], &[ino]).await?;
            self.confine(cx, ino).await?;
            self.directory(ino).await?;
            self.entries(ino, cursor, limit).await?
        };
        if !plus {
            return Ok((page, end));
        }
        let attrs = self.attrs_of(&page).await?;
        let with = |(mut entry, attr): (DirEntry, Option<Attr>)| {
            // An entry that went away since is left out: the listing is of no single moment, as POSIX has it.
            entry.attr = Some(attr?);
            Some(entry)
        };
        Ok((page.into_iter().zip(attrs).filter_map(with).collect(), end))
    }

    /// Up to `limit` entries after `cursor`, and whether nothing follows. The directory's lock is held.
    async fn entries(&self, ino: Ino, cursor: &[u8], limit: usize) -> Result<(Vec<DirEntry>, bool)> {
        let mut entries: Vec<DirEntry> = Vec::new();
        let mut from = if cursor.is_empty() { Vec::new() } else { after(cursor) };
        loop {
            // One row more than asked for tells whether this is the end without another scan.
            let wanted = limit + 1 - entries.len();
            let page = self.rows().page(|layer| dentry::prefix(layer, ino), &from, wanted).await?;
            let Some((last, _)) = page.last() else { return Ok((entries, true)) };
            from = after(last);
            for (rest, value) in page {
                if entries.len() == limit {
                    return Ok((entries, false));
                }
                let found = dentry::decode(&value)?;
                let name = rest.strip_suffix(b"/").unwrap_or(&rest);
                let name = Name::new(name).map_err(|error| StoreError::Store(Box::new(error)))?;
                entries.push(DirEntry { name, ino: found.ino, kind: found.kind, attr: None });
            }
        }
    }
}
