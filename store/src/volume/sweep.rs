//! Dropping the rows of maps that nothing names any more, in the background.
//!
//! The committer notes such a map ([`garbage`]) in the commit that takes its last name away. One task of the volume drops
//! its rows, a page with each commit, and the note with the last; a crash in between leaves the note, and the next open
//! goes on. Extents and frozen maps that the rows refer to are counted down as they go.

use super::Volume;
use super::family::Family;
use super::shared::Trunk;
use crate::api::Result;
use crate::error::StoreError;
use crate::keys::{garbage, map};
use crate::meta::after;
use std::sync::{Arc, Weak};
use tokio::task::JoinHandle;

/// Rows dropped by one commit.
const STEP: usize = 1024;

/// The task. Ends with the volume.
pub(crate) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    pub(crate) fn start(family: &Arc<Family>, trunk: Arc<Trunk>) -> Sweeper {
        Sweeper(tokio::spawn(run(Arc::downgrade(family), trunk)))
    }

    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(family: Weak<Family>, trunk: Arc<Trunk>) {
    loop {
        let Some(open) = family.upgrade().and_then(|family| family.any()) else { return };
        match open.sweep().await {
            Ok(()) => {}
            // This head was; another is asked the next time, if there is one.
            Err(StoreError::Closed) if !open.is_broken() => continue,
            Err(StoreError::Closed) => return,
            // The note is there still: it is done at the next sweep.
            Err(error) => tracing::warn!(%error, "what was freed could not be dropped yet"),
        }
        drop(open);
        trunk.sweep.notified().await;
    }
}

impl Volume {
    /// Drops the rows of all maps that nothing names. Done in the background all the time; for who cannot wait.
    pub async fn sweep(&self) -> Result<()> {
        const PAGE: usize = 64;
        loop {
            let building = self.shared.trunk.building.lock().await;
            let page = super::rows::scan(&**self.rows().meta(), &garbage::prefix(), &[], PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (rest, value) in page {
                garbage::decode(&value)?;
                let number = garbage::parse(&[&garbage::prefix()[..], &rest[..]].concat())?;
                self.drop_map(number).await?;
            }
            drop(building);
        }
    }

    async fn drop_map(&self, number: u64) -> Result<()> {
        let prefix = map::prefix(number);
        let mut from = Vec::new();
        loop {
            self.alive()?;
            let page = super::rows::scan(&**self.rows().meta(), &prefix, &from, STEP).await?;
            let held = self.lock_gate(super::Gate::Open, &[], &[]).await?;
            let mut tx = self.tx(&held);
            for (rest, value) in &page {
                let (_, end) = map::parse(&[&prefix[..], &rest[..]].concat())?;
                tx.drop_row(number, end, &map::decode(value)?);
            }
            match page.last() {
                Some((last, _)) => from = after(last),
                None => tx.delete_plain(garbage::key(number)),
            }
            self.commit(tx.done()).await?;
            if page.is_empty() {
                return Ok(());
            }
        }
    }
}
