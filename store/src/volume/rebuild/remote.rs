//! Putting a volume together again whose metadata is gone from an object store.
//!
//! It goes as on a directory: from the newest checkpoint, the log and the packs, all of which the store has; no host need
//! be left. What differs is where things are put aside, and who may come in between.
//!
//! ```text
//!   take the log over ─▶ mark `rebuilding` ─▶ tables and log to `lost-<moment>/` ─▶ mark: put aside
//!        ─▶ begin log and tables anew ─▶ fill, add, check, checkpoint ─▶ remove the mark
//! ```
//! While the mark is there no host opens the volume, and the next rebuild begins again from what was put aside.

use super::super::remote::{StoreOptions, log_options, rows_and_packs};
use super::super::{LocalOptions, Volume};
use super::{Ground, RebuildNeeded, Rebuilt};
use crate::api::Result;
use crate::backend::{OPEN_LIMIT, Place};
use crate::checkpoint;
use crate::error::StoreError;
use crate::meta::SlateMeta;
use crate::pack::PackStore;
use crate::upstream::{self, Upstream, UpstreamError};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The object that keeps everybody out.
const MARK: &str = "rebuilding";
/// Objects put aside at a time.
const MOVES: usize = 8;
/// How long one of them may take.
const MOVE_LIMIT: Duration = Duration::from_secs(300);

/// What [`MARK`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// When the rebuild began, milliseconds since 1970: the name of what is put aside.
    moment: u64,
    /// Everything is put aside; what is in its place now is of a rebuild.
    aside: bool,
}

impl Mark {
    fn folder(self) -> String {
        format!("lost-{}", self.moment)
    }

    async fn read(place: &Place) -> Result<Option<Mark>> {
        let path = place.path(MARK);
        let get = || async { place.store().get(&path).await?.bytes().await };
        let bytes = match place.within(OPEN_LIMIT, get).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            read => read.map_err(|error| place.backing.error("read the mark of a rebuild in", error))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::Store(Box::new(error)))
    }

    async fn write(self, place: &Place) -> Result<()> {
        let path = place.path(MARK);
        let text = serde_json::to_vec(&self).map_err(|error| StoreError::Store(Box::new(error)))?;
        let put = || place.store().put(&path, text.clone().into());
        let put = place.within(OPEN_LIMIT, put).await;
        put.map_err(|error| place.backing.error("mark a rebuild in", error))?;
        Ok(())
    }
}

/// Refuses a volume that is being rebuilt, or whose rebuild did not come to its end.
pub(in crate::volume) async fn refuse_marked(place: &Place) -> Result<()> {
    let path = place.path(MARK);
    match place.within(OPEN_LIMIT, || place.store().head(&path)).await {
        Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(place.backing.error("look for a rebuild in", error).into()),
        Ok(_) => Err(StoreError::Store(Box::new(RebuildNeeded::StoppedInStore { place: place.name() }))),
    }
}

impl Volume {
    /// Puts a volume in an object store together again; see the module documentation. Whoever has it open loses it.
    pub async fn rebuild_on(options: StoreOptions) -> Result<Rebuilt> {
        let (place, dir) = (options.place.clone(), options.local.dir.clone());
        dir.prepare()?;
        let mut report = Rebuilt::default();
        // Until the engine opens the directory in its turn.
        let lock = dir.lock()?;
        let mark = match Mark::read(&place).await? {
            Some(mark) => mark,
            None => {
                take_over(&options, &mut report).await?;
                let mark = Mark { moment: options.local.clock.now().as_millis(), aside: false };
                mark.write(&place).await?;
                mark
            }
        };
        if mark.aside && !dir.rebuilding().exists() {
            // It was begun on another host, whose journal this one makes anew.
            let aside = Place { at: place.path(&mark.folder()), backing: place.backing.clone() };
            upstream::import_from(&log_options(&options), &aside).await.map_err(boxed)?;
        }
        super::put_aside(&dir)?;
        let mark = put_aside_in(&place, mark).await?;
        upstream::restart(&log_options(&options)).await.map_err(boxed)?;
        checkpoint::store::fetch(&place, &dir).await?;
        drop(lock);
        let ground = Ground::Store(Box::new(options.clone()));
        super::work(&ground, &options.local, &mut report).await?;
        checkpoint::store::forget(&dir)?;
        let path = place.path(MARK);
        match place.within(OPEN_LIMIT, || place.store().delete(&path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(place.backing.error("end a rebuild in", error).into()),
        }
        super::finish(&dir, options.local.clock.now().as_millis())?;
        report.aside = format!("{}/{}", place.name(), mark.folder()).into();
        Ok(report)
    }
}

fn boxed(error: UpstreamError) -> StoreError {
    StoreError::Store(Box::new(error))
}

/// Takes the log over as an open does: the journal and the open packs here are then what the store has, or more. A log
/// that is gone or damaged is of no use, and told.
async fn take_over(options: &StoreOptions, report: &mut Rebuilt) -> Result<()> {
    match Upstream::open(log_options(options)).await {
        Ok(upstream) => upstream.stop(),
        Err(error @ (UpstreamError::Vanished { .. } | UpstreamError::Corrupt { .. })) => {
            report.journal_error = Some(error.to_string());
        }
        Err(error) => return Err(boxed(error)),
    }
    Ok(())
}

/// Moves the tables away and copies the log, so that nothing is destroyed. What a stopped rebuild made goes instead.
async fn put_aside_in(place: &Place, mark: Mark) -> Result<Mark> {
    let failed = |error| StoreError::from(place.backing.error("put metadata aside in", error));
    for (below, stays) in [("meta", false), ("log", true)] {
        let from = place.path(below);
        let list = || place.store().list(Some(&from)).map_ok(|object| object.location).try_collect();
        let found: Vec<Key> = place.within(MOVE_LIMIT, list).await.map_err(failed)?;
        let to = place.path(&mark.folder());
        let moves = found.iter().map(|key| {
            let rest: Vec<_> = key.prefix_match(&place.at).into_iter().flatten().collect();
            let aside = rest.into_iter().fold(to.clone(), |path, part| path.join(part));
            put_one_aside(place, key, (!mark.aside).then_some(aside), stays)
        });
        // Boxed, or the compiler cannot tell that whoever rebuilds may move between threads.
        let moves: Vec<_> = moves.map(FutureExt::boxed).collect();
        futures::stream::iter(moves)
            .buffer_unordered(MOVES)
            .try_collect::<Vec<()>>()
            .await
            .map_err(failed)?;
    }
    let mark = Mark { aside: true, ..mark };
    mark.write(place).await?;
    Ok(mark)
}

async fn put_one_aside(place: &Place, key: &Key, aside: Option<Key>, stays: bool) -> Result<(), Error> {
    if let Some(aside) = &aside {
        match place.within(MOVE_LIMIT, || place.store().copy(key, aside)).await {
            // Moved by a rebuild that was stopped here.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if stays {
        return Ok(());
    }
    match place.within(MOVE_LIMIT, || place.store().delete(key)).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Engine and packs of a volume whose log was begun anew.
pub(super) async fn parts(options: &StoreOptions) -> Result<(Arc<SlateMeta>, Arc<PackStore>)> {
    let local: &LocalOptions = &options.local;
    local.dir.prepare()?;
    let lock = Arc::new(local.dir.lock()?);
    let upstream = Upstream::open(log_options(options)).await.map_err(boxed)?;
    rows_and_packs(local, &lock, &upstream, false).await
}
