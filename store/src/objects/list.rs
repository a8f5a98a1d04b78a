//! Listings.

use super::walk::{Item, Walk};
use crate::api::{Caller, ListPage, ListQuery, ObjectInfo, Result};
use crate::meta::after;
use crate::volume::Volume;
use bytes::Bytes;
use mooring_policy::action::Action;
use std::sync::atomic::Ordering;

/// Keys and prefixes of one page, whatever is asked for.
const MAX_PAGE: usize = 10_000;

impl Volume {
    pub(super) async fn do_list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage> {
        cx.authority.check(Action::List, Some(&query.prefix))?;
        let limit = query.limit.min(MAX_PAGE);
        let mut page = ListPage::default();
        if limit == 0 {
            return Ok(page);
        }
        let behind = if query.after.is_empty() { Vec::new() } else { after(&query.after) };
        let mut walk = Walk::new(self, cx.root, behind.max(query.prefix.clone())).await?;
        let mut last = Vec::new();
        while let Some(item) = walk.next().await? {
            if !item.key.starts_with(&query.prefix) {
                break;
            }
            let rolled = rolled_up(&item.key, query);
            // Prefixes that were passed already: on an earlier page, or just now (a delimiter other than the slash ends no
            // directory, so the walk meets such a prefix again).
            let known = |prefix: &Vec<u8>| {
                *prefix <= query.after || page.prefixes.last().is_some_and(|last| last == prefix)
            };
            if rolled.as_ref().is_some_and(known) {
                walk.skip(&rolled.unwrap_or_default());
                continue;
            }
            if page.objects.len() + page.prefixes.len() == limit {
                page.next = Some(last);
                break;
            }
            match rolled {
                Some(prefix) => {
                    walk.skip(&prefix);
                    last.clone_from(&prefix);
                    page.prefixes.push(Bytes::from(prefix));
                }
                None => {
                    last.clone_from(&item.key);
                    page.objects.extend(self.describe_item(item).await?);
                }
            }
        }
        self.invisible.fetch_add(walk.invisible, Ordering::Relaxed);
        Ok(page)
    }

    /// `None` when the object went away since the walk met it.
    async fn describe_item(&self, item: Item) -> Result<Option<ObjectInfo>> {
        let inode = match item.inode {
            Some(inode) => Some(inode),
            None => self.peek_inode(item.ino).await?,
        };
        match inode {
            Some(inode) => Ok(Some(self.describe(&item.key, item.ino, &inode).await?)),
            None => Ok(None),
        }
    }

    /// Entries that listings passed over since the volume was opened, because S3 cannot carry their keys.
    #[must_use]
    pub fn invisible_entries(&self) -> u64 {
        self.invisible.load(Ordering::Relaxed)
    }
}

/// The common prefix a key is rolled up into.
fn rolled_up(key: &[u8], query: &ListQuery) -> Option<Vec<u8>> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
    let rest = &key[query.prefix.len()..];
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(key[..query.prefix.len() + at + delimiter.len()].to_vec())
}
