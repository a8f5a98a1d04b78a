//! The volumes that buckets lie in, each with the heads of it that are open.
//!
//! A bucket and its clones are heads of one volume. Each has a number of its own, by which sessions, doors and limits know
//! it; where its files lie is the number of the volume, which is that of the first bucket. Whichever is asked for first
//! opens the volume, the others join, and the last that is closed closes it. Heads of one volume are opened and closed
//! one after another, so that nobody joins a volume that is just being closed, or opens one twice.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use mooring_policy::ids::VolumeId;
use mooring_store::error::StoreError;
use mooring_store::volume::{Config, Volume};
use parking_lot::Mutex;

/// One volume.
#[derive(Default)]
pub(super) struct Place {
    /// Its heads that are open; held while one comes or goes.
    heads: tokio::sync::Mutex<Vec<Weak<Volume>>>,
    /// Held while a bucket that lies in it is cloned or removed.
    pub(super) changing: tokio::sync::Mutex<()>,
}

/// All volumes that somebody works with.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<VolumeId, Arc<Place>>>);

impl Places {
    pub(super) fn of(&self, id: VolumeId) -> Arc<Place> {
        self.0.lock().entry(id).or_default().clone()
    }

    /// Forgets those that nobody works with.
    pub(super) fn tidy(&self) {
        self.0.lock().retain(|_, place| Arc::strong_count(place) > 1 || !place.is_closed());
    }
}

impl Place {
    fn is_closed(&self) -> bool {
        self.heads.try_lock().is_ok_and(|heads| heads.iter().all(|head| head.strong_count() == 0))
    }

    /// Opens a head of it: of the volume as it is open, or with `open`.
    pub(super) async fn open(
        &self,
        config: &Config,
        open: impl AsyncFnOnce() -> Result<Arc<Volume>, StoreError>,
    ) -> Result<Arc<Volume>, StoreError> {
        let mut heads = self.heads.lock().await;
        heads.retain(|head| head.strong_count() > 0);
        let mut joined = None;
        for head in heads.iter().filter_map(Weak::upgrade) {
            match head.open_head(config.clone()).await {
                // What is left of an earlier opening.
                Err(StoreError::Closed) => {}
                done => {
                    joined = Some(done?);
                    break;
                }
            }
        }
        let volume = match joined {
            Some(volume) => volume,
            None => open().await?,
        };
        heads.push(Arc::downgrade(&volume));
        Ok(volume)
    }

    /// Closes a head with `close`, which lets go of it.
    pub(super) async fn close(&self, close: impl AsyncFnOnce()) {
        let _one = self.heads.lock().await;
        close().await;
    }
}
