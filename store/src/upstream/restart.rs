//! Beginning the log anew, for a volume that is put together again.
//!
//! Records are numbered from the first again, as the new tables know none of them. Objects go on where they were: so
//! whoever wrote last finds its next number taken, and writes no more.

use super::format::{self, Content, Head, Kind, Object};
use super::import::Import;
use super::lineage::Lineage;
use super::open::{Claim, claim};
use super::{UpstreamError, UpstreamOptions, object};
use crate::backend::{OPEN_LIMIT, Place};
use object_store::{Error, ObjectStoreExt};

/// Others may open the volume at the same moment.
const TRIES: usize = 8;

/// Takes the log over with no records in it. Whoever needs those that were there has them by now: they go.
pub(crate) async fn restart(options: &UpstreamOptions) -> Result<(), UpstreamError> {
    for _ in 0..TRIES {
        let numbers = options.numbers().await?;
        let last = match numbers.last() {
            Some(number) => options.fetch(*number).await?,
            None => None,
        };
        if last.is_none() && !numbers.is_empty() {
            continue;
        }
        let ended = last.as_ref().map_or(0, |last| last.head.epoch);
        let lineage = Lineage::read(&options.dir)?.unwrap_or_default();
        let epoch = ended.max(lineage.highest()) + 1;
        Lineage { confirmed: 0, claiming: epoch }.write(&options.dir)?;
        let ours = lineage.covers(ended);
        let at = Claim { last_id: 0, last_seq: 0, ..Claim::behind(last.as_ref(), ours) };
        if claim(options, &at, epoch).await?.is_none() {
            continue;
        }
        Lineage { confirmed: epoch, claiming: epoch }.write(&options.dir)?;
        for number in numbers {
            clear(options, number).await?;
        }
        return Ok(());
    }
    Err(UpstreamError::Contended { place: options.place.name() })
}

/// Removes an object of the old log; one that must stay where it is begins the new one.
async fn clear(options: &UpstreamOptions, number: u64) -> Result<(), UpstreamError> {
    let (path, store) = (object(&options.place, number), options.place.store());
    let kept = match options.fetch(number).await {
        Ok(Some(object)) if object.head.kind == Kind::Taken => Some(object),
        Ok(Some(_)) | Err(UpstreamError::Corrupt { .. }) => None,
        Ok(None) => return Ok(()),
        Err(error) => return Err(error),
    };
    let done = match kept {
        Some(Object { head, owner, .. }) => {
            let mut head = Head { first_id: 1, last_id: 0, last_seq: 0, ..head };
            let content = Content { owner: &owner, pieces: &[], records: &[] };
            let bytes = format::encode(&mut head, &content, &options.keys, &*options.random)?;
            let bytes = bytes::Bytes::from(bytes);
            options.place.within(OPEN_LIMIT, || store.put(&path, bytes.clone().into())).await.map(drop)
        }
        None => options.place.within(OPEN_LIMIT, || store.delete(&path)).await,
    };
    match done {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(options.failed("clear the old log of a volume in", error)),
    }
}

/// Makes journal and open packs here anew from a log that was put aside at `from`.
pub(crate) async fn import_from(options: &UpstreamOptions, from: &Place) -> Result<(), UpstreamError> {
    let aside = UpstreamOptions { place: from.clone(), ..options.clone() };
    let mut importing = Import::begin(options).await?;
    for number in aside.numbers().await? {
        if let Some(object) = aside.fetch(number).await? {
            importing.add(object).await?;
        }
    }
    importing.end().await
}
