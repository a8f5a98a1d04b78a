//! Opening a volume in an object store.

use super::named::Named;
use super::{Config, LocalOptions, Parts, Volume};
use crate::api::Result;
use crate::backend::{DirLock, Place};
use crate::journal::{FILE_BYTES, JournalError};
use crate::meta::{MetaError, SPACE_RESERVE, SlateMeta, SlateOptions, refuse_lost};
use crate::pack::{PackOptions, PackStore};
use crate::realm::Durability;
use crate::upstream::{Upstream, UpstreamOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a volume lies in an object store, and how it is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// Its part of the store.
    pub place: Place,
    /// The directory beside it, for what is on its way to the store, and the rest.
    pub local: LocalOptions,
    /// When a reply says durable.
    pub class: Durability,
    /// Opens a volume of class `host` though another host has changes that the store has not.
    pub accept_loss: bool,
    /// What this host is called, for who finds the volume taken.
    pub owner: String,
}

impl Volume {
    /// Waits until another gateway has taken the volume over; for ever where none can.
    pub async fn taken(&self) {
        self.rows().meta().taken().await;
    }

    /// Opens the volume in an object store, or makes it there, and takes it over from whoever had it.
    pub async fn open_on(options: StoreOptions) -> Result<Arc<Volume>> {
        let log = log_options(&options);
        let local = options.local;
        local.dir.prepare()?;
        let lock = Arc::new(local.dir.lock()?);
        super::rebuild::refuse_marked(&log.place).await?;
        let upstream = Upstream::open(log.clone()).await?;
        let (meta, packs) = match rows_and_packs(&local, &lock, &upstream, true).await {
            Err(crate::error::StoreError::Store(source)) if is_behind(&*source) => {
                tracing::warn!(place = %log.place.name(), %source, "making the journal anew from the store");
                upstream.import_again(&log).await?;
                rows_and_packs(&local, &lock, &upstream, true).await?
            }
            opened => opened?,
        };
        let config = Config { directory: None, ..local.config.clone() };
        let LocalOptions { memory, clock, random, .. } = local;
        let parts = Parts { meta, packs, memory, clock, random, config };
        let volume = Volume::open(parts).await?;
        // Who has lost the volume answers nothing more: what is cached here may be old.
        let trunk = Arc::downgrade(&volume.shared.trunk);
        upstream.listen(Arc::new(move |progress| {
            if let (Some(JournalError::Fenced { .. }), Some(trunk)) = (&progress.stopped, trunk.upgrade()) {
                trunk.broken.store(true, Ordering::Release);
            }
        }));
        Ok(volume)
    }
}

/// What the log of a volume needs.
pub(super) fn log_options(options: &StoreOptions) -> UpstreamOptions {
    let StoreOptions { place, local, class, accept_loss, owner } = options;
    UpstreamOptions {
        place: place.clone(),
        dir: local.dir.clone(),
        keys: local.keys.clone(),
        random: local.random.clone(),
        class: *class,
        accept_loss: *accept_loss,
        owner: owner.clone(),
    }
}

/// Engine and packs. `guarded` refuses packs without rows.
pub(super) async fn rows_and_packs(
    local: &LocalOptions,
    lock: &Arc<DirLock>,
    upstream: &Arc<Upstream>,
    guarded: bool,
) -> Result<(Arc<SlateMeta>, Arc<PackStore>)> {
    let packs = PackOptions {
        dir: local.dir.packs(),
        keys: local.keys.clone(),
        epoch: 0,
        random: local.random.clone(),
        cache: local.memory.extents.clone(),
        pack_bytes: local.config.pack_bytes,
    };
    let packs =
        PackStore::open_over(packs, Some((upstream.place().clone(), local.memory.copies.clone()))).await?;
    // Without rows every pack would be garbage.
    refuse_lost(upstream.place(), guarded && !packs.list().is_empty()).await?;
    upstream.set_packs(&packs);
    let meta = SlateOptions {
        dir: local.dir.clone(),
        lock: lock.clone(),
        keys: local.keys.clone(),
        cache: local.memory.blocks(),
        data: Some(Arc::new(Named(packs.clone()))),
        random: local.random.clone(),
        clock: local.clock.clone(),
        space_reserve: SPACE_RESERVE,
        journal_file_bytes: FILE_BYTES,
    };
    let meta = SlateMeta::open_over(meta, Some(upstream.clone())).await?;
    packs.set_epoch(meta.epoch());
    packs.forget_lists();
    Ok((meta, packs))
}

/// Whether the journal here lacks what the store has.
fn is_behind(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(MetaError::Journal(JournalError::Behind { .. })))
}
