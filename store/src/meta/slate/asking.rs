//! Reads of rows whose tables lie in an object store: what comes over a network may be wrong once and right the next time,
//! and the engine asks a store that is away for ever. Whoever reads waits for [`READ_LIMIT`] at most. And tables that are
//! gone must not pass for a volume that has none yet.

use super::{SlateMeta, engine_error};
use crate::backend::Place;
use crate::meta::{MetaError, Rows, SCAN_PAGE_BYTES};
use crate::upstream::READ_AGAIN;
use slatedb::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// How long a read asks a store that does not answer.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// The store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the object store with its tables did not answer within {} s", READ_LIMIT.as_secs())]
struct Away;

/// Asks until the bytes check, or it is enough.
pub(super) async fn ask<T, F: Future<Output = Result<T, slatedb::Error>>>(
    path: &Path,
    mut read: impl FnMut() -> F,
) -> Result<Result<T, slatedb::Error>, MetaError> {
    let reading = async {
        let mut again = READ_AGAIN;
        loop {
            match read().await {
                Err(error) if again > 0 && error.kind() == ErrorKind::Data => {
                    tracing::warn!(path = %path.display(), %error, "a table does not check; reading it again");
                    again -= 1;
                }
                done => return done,
            }
        }
    };
    let read = tokio::time::timeout(READ_LIMIT, reading).await;
    read.map_err(|_| MetaError::Disk { path: path.to_owned(), source: Box::new(Away) })
}

impl SlateMeta {
    /// A read of the engine, as its tables' place asks for.
    pub(super) async fn read<T, F: Future<Output = Result<T, slatedb::Error>>>(
        &self,
        mut read: impl FnMut() -> F,
    ) -> Result<T, MetaError> {
        let done = match &self.upstream {
            None => read().await,
            Some(_) => ask(&self.path, read).await?,
        };
        done.map_err(|error| self.failed(error))
    }
}

/// The same for a view.
pub(super) async fn read_view<T, F: Future<Output = Result<T, slatedb::Error>>>(
    (path, remote): (&Path, bool),
    mut read: impl FnMut() -> F,
) -> Result<T, MetaError> {
    let done = if remote { ask(path, read).await? } else { read().await };
    done.map_err(|error| engine_error(path, error))
}

/// Refuses a volume whose tables are gone, when `used` says that there was something in them.
pub(crate) async fn refuse_lost(place: &Place, used: bool) -> Result<(), MetaError> {
    if used && place.is_empty("meta/db/manifest").await? {
        return Err(MetaError::Lost { place: place.name() });
    }
    Ok(())
}

/// A page of what an iterator finds.
pub(super) async fn collect(mut found: slatedb::DbIterator, limit: usize) -> Result<Rows, slatedb::Error> {
    let (mut rows, mut bytes) = (Rows::new(), 0);
    while rows.len() < limit && bytes < SCAN_PAGE_BYTES {
        let Some(row) = found.next().await? else { break };
        bytes += row.key.len() + row.value.len();
        rows.push((row.key, row.value));
    }
    Ok(rows)
}
