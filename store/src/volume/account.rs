//! Counting what extents come to, where the row that says so is missing.

use super::rows::scan;
use crate::api::Result;
use crate::keys::account::{self, Account};
use crate::keys::map::Source;
use crate::keys::{extent, map};
use crate::meta::{Batch, Meta, after};
use bytes::Bytes;

/// The sums of a volume that is being opened.
pub(super) async fn open(meta: &dyn Meta) -> Result<Account> {
    if let Some(value) = meta.get(&account::key()).await? {
        return Ok(account::decode(&value)?);
    }
    let account = count(meta).await?;
    let mut batch = Batch::new();
    batch.put(account::key(), account::encode(&account));
    meta.commit(batch).await?;
    Ok(account)
}

/// The sums, from every row.
pub(super) async fn count(meta: &dyn Meta) -> Result<Account> {
    let mut account = Account::default();
    each(meta, &extent::prefix(), |key, value| {
        let place = extent::decode(extent::parse(key)?, value)?.place;
        account.raw += u64::from(place.raw_len);
        account.stored += place.pack_bytes();
        account.extents += 1;
        Ok(())
    })
    .await?;
    each(meta, &map::all(), |key, value| {
        map::parse(key)?;
        let row = map::decode(value)?;
        if let Source::Extent { .. } = row.source {
            account.referenced += row.len;
        }
        Ok(())
    })
    .await?;
    Ok(account)
}

async fn each(
    meta: &dyn Meta,
    prefix: &[u8],
    mut see: impl FnMut(&[u8], &Bytes) -> Result<()>,
) -> Result<()> {
    const PAGE: usize = 4096;
    let mut from = Vec::new();
    loop {
        let page = scan(meta, prefix, &from, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from = after(last);
        for (rest, value) in page {
            see(&[prefix, &rest[..]].concat(), &value)?;
        }
    }
}
