//! Heads: cloning a tree, opening one, taking one away.
//!
//! A clone is a second head over the layers of the first. It costs six rows, whatever the size: the layer that the source
//! was writing into is frozen, as by a snapshot, and both go on in a new, empty layer above it.
//!
//! ```text
//!   before   head 0 ─▶ 3 ─▶ 2          after   head 0 ─▶ 4 ─┐
//!                                               head 7 ─▶ 5 ─┴▶ 3 ─▶ 2
//! ```
//!
//! A clone of a snapshot puts a head above the snapshot's layer and leaves the source as it is. From then on neither sees
//! what the other does: rows of lower layers are never written again, and a file's map is copied before it changes
//! ([`super::freeze`]). What is counted over the whole volume (references to extents, names of maps, live bytes) knows no
//! heads at all. Numbers of inodes and maps come from one allocator, so nothing new in one head is ever met in another.
//!
//! Inodes without a name come along where no name leads to them, and go when the clone purges orphans; uploads stay with
//! the source. The clone is charged with all that its source counts, at once.

use super::quota::More;
use super::snapshots::{self, plain};
use super::{Config, Used, Volume};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::counter::{self, Counter};
use crate::keys::{HeadId, Layer, RowError, inode, layer, snapshot};
use crate::meta::{Batch, Meta};
use crate::volume::Quota;
use mooring_policy::time::Clock;
use mooring_protocol::types::Ino;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is read of a head to open it.
pub(super) struct State {
    /// Newest first.
    pub(super) chain: Vec<Layer>,
    pub(super) used: Used,
}

/// The rows of a head.
pub(super) async fn read(meta: &dyn Meta, head: HeadId) -> Result<State> {
    let top = number(meta, counter::of(Counter::Head, head)).await?.ok_or(StoreError::NoSuchHead(head.0))?;
    let inodes = number(meta, counter::of(Counter::Inodes, head)).await?.unwrap_or(0);
    let blocks = number(meta, counter::of(Counter::Blocks, head)).await?.unwrap_or(0);
    Ok(State { chain: chain(meta, top).await?, used: Used { blocks, inodes } })
}

/// The layers from a number of one on, newest first.
pub(super) async fn chain(meta: &dyn Meta, top: u64) -> Result<Vec<Layer>> {
    let missing = RowError::Missing { family: "layer", of: top };
    let mut next = Some(Layer(u32::try_from(top).map_err(|_| missing.clone())?));
    let mut chain = Vec::new();
    while let Some(layer) = next {
        let value = meta.get(&layer::key(layer)).await?.ok_or(missing.clone())?;
        chain.push(layer);
        // A layer is always newer than the one below it; anything else would be a circle.
        next = layer::decode(&value)?;
        if next.is_some_and(|below| below >= layer) {
            return Err(RowError::Value("layer").into());
        }
    }
    Ok(chain)
}

pub(super) async fn number(meta: &dyn Meta, key: Vec<u8>) -> Result<Option<u64>> {
    match meta.get(&key).await? {
        Some(value) => Ok(Some(counter::decode(&value)?)),
        None => Ok(None),
    }
}

/// Writes the first rows of a volume.
pub(super) async fn format(meta: &dyn Meta, clock: &dyn Clock) -> Result<()> {
    let now = mooring_protocol::types::Time::from_millis(clock.now().as_millis());
    let mut batch = Batch::new();
    batch.put(layer::key(Layer::FIRST), layer::encode(None));
    batch.put(inode::key(Layer::FIRST, Ino::ROOT), inode::encode(&super::attr::root(now)));
    for (which, value) in [
        (Counter::Head, u64::from(Layer::FIRST.0)),
        (Counter::Inodes, 1),
        (Counter::Blocks, 0),
        (Counter::NextId, Ino::ROOT.get() + 1),
    ] {
        batch.put(counter::key(which), counter::encode(value));
    }
    meta.commit(batch).await?;
    meta.sync().await?;
    Ok(())
}

impl Volume {
    /// Opens another head of the volume. `config` says which, and its limits.
    ///
    /// # Errors
    /// [`StoreError::NoSuchHead`]; or it is open already.
    pub async fn open_head(&self, config: Config) -> Result<Arc<Volume>> {
        let _one = self.family.changing.lock().await;
        // The layers stay what they are until it is known to whom changes them.
        let _layers = self.family.layering.place.lock().await;
        if self.is_broken() || self.family.queue.read().is_none() {
            return Err(StoreError::Closed);
        }
        if self.family.get(config.head).is_some() {
            return Err(StoreError::Invalid("the head is open already"));
        }
        let state = read(&**self.rows().meta(), config.head).await?;
        let config = Config { directory: self.config.directory.clone(), ..config };
        let head = Volume::of_head(self.bare(config), state);
        self.family.join(&head);
        Ok(head)
    }

    /// Makes a head `to` that shows what this one shows now, or what it was in a snapshot. It is charged at once to the
    /// tenant and held against `quota`. Durable on return.
    ///
    /// What sessions have not sent yet must be asked for before.
    ///
    /// # Errors
    /// `Exists`: there is such a head. `NotFound`: there is no such snapshot. `QuotaExceeded`.
    pub async fn clone_head(
        &self,
        cx: &Caller,
        from: Option<&str>,
        to: HeadId,
        quota: Quota,
    ) -> Result<Used> {
        snapshots::may_change(cx)?;
        from.map_or(Ok(()), snapshots::check_name)?;
        self.alive()?;
        let layers = self.family.layering.place.lock().await;
        let done = match from {
            Some(name) => self.clone_snapshot(name, to, quota).await,
            None => self.clone_now(to, quota).await,
        };
        drop(layers);
        self.family.layering.wake();
        let used = done?;
        crate::api::Tree::sync(self).await?;
        Ok(used)
    }

    async fn clone_now(&self, to: HeadId, quota: Quota) -> Result<Used> {
        let next = self.next_layer().await?;
        let stopped = self.stop().await?;
        self.refuse_taken(to).await?;
        let (frozen, used) = (self.rows().head(), self.shared.usage.used());
        let top = Layer(next.0.checked_add(1).ok_or(NO_LAYERS)?);
        let mut tx = self.tx(&stopped);
        drop(stopped);
        for layer in [next, top] {
            tx.put_plain(layer::key(layer), layer::encode(Some(frozen)));
        }
        tx.counter(Counter::Head, self.head_id(), u64::from(next.0));
        new_head(&mut tx, to, top, used);
        tx.head([&[next], &self.rows().chain()[..]].concat(), false);
        self.charged(to, used, quota, self.commit(tx.done())).await
    }

    async fn clone_snapshot(&self, name: &str, to: HeadId, quota: Quota) -> Result<Used> {
        let row = self.snapshot(name).await?.ok_or(StoreError::NotFound)?;
        self.refuse_taken(to).await?;
        let top = self.next_layer().await?;
        let used = Used { inodes: row.inodes, blocks: row.blocks };
        let entered = self.enter().await;
        let mut tx = self.tx(&entered);
        drop(entered);
        tx.put_plain(layer::key(top), layer::encode(Some(row.layer)));
        new_head(&mut tx, to, top, used);
        self.charged(to, used, quota, self.commit(tx.done())).await
    }

    async fn refuse_taken(&self, head: HeadId) -> Result<()> {
        let taken = number(&**self.rows().meta(), counter::of(Counter::Head, head)).await?;
        if taken.is_some() || head == HeadId::FIRST { Err(StoreError::Exists) } else { Ok(()) }
    }

    /// Commits a new head if there is room for it.
    async fn charged(
        &self,
        to: HeadId,
        used: Used,
        quota: Quota,
        commit: impl Future<Output = Result<()>>,
    ) -> Result<Used> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let more = More { blocks: signed(used.blocks), inodes: signed(used.inodes) };
        if !self.shared.limits.charge_other(to.0, more, quota) {
            return Err(StoreError::QuotaExceeded);
        }
        let done = commit.await;
        if done.is_err() {
            self.shared.limits.forget_other(to.0);
        }
        done.map(|()| used)
    }

    /// Takes a head away that is not open, with its snapshots; whether there was one. What it alone had goes in the
    /// background. Durable on return.
    ///
    /// # Errors
    /// It is open, or the last: then the volume is to be removed instead.
    pub async fn remove_head(&self, head: HeadId) -> Result<bool> {
        self.alive()?;
        let _one = self.family.changing.lock().await;
        let layers = self.family.layering.place.lock().await;
        if self.family.get(head).is_some() {
            return Err(StoreError::Invalid("the head is open"));
        }
        let heads = self.heads().await?;
        if !heads.contains(&head) {
            return Ok(false);
        }
        if heads.len() == 1 {
            return Err(StoreError::Invalid("the last head of a volume goes with the volume"));
        }
        self.give_up_uploads_of(head).await?;
        let entered = self.enter().await;
        let mut tx = self.tx(&entered);
        drop(entered);
        for which in [Counter::Head, Counter::Inodes, Counter::Blocks] {
            tx.delete_plain(counter::of(which, head));
        }
        let all = self.all_snapshots().await?.into_iter();
        let own: Vec<_> = all.filter(|(of, ..)| *of == head).collect();
        for (_, name, _) in &own {
            tx.delete_plain(snapshot::key(head, name));
        }
        self.commit(tx.done()).await?;
        own.iter().for_each(|(_, _, row)| self.end_view(row.layer));
        self.shared.limits.forget_other(head.0);
        drop(layers);
        self.family.layering.wake();
        crate::api::Tree::sync(self).await?;
        Ok(true)
    }

    /// The heads there are, open or not.
    pub async fn heads(&self) -> Result<Vec<HeadId>> {
        heads(&**self.rows().meta()).await
    }

    /// The layer that each head writes into.
    pub(super) async fn head_layers(&self) -> Result<BTreeMap<Layer, HeadId>> {
        let mut layers = BTreeMap::new();
        for (key, value) in plain(self.rows(), &counter::key(Counter::Head)).await? {
            let number = counter::decode(&value)?;
            let layer = u32::try_from(number).map_err(|_| RowError::Value("counter"))?;
            layers.insert(Layer(layer), counter::parse(&key)?.1);
        }
        Ok(layers)
    }

    /// Layers that something looks from: those of heads and snapshots.
    pub(super) async fn tops(&self) -> Result<BTreeSet<Layer>> {
        let heads = self.head_layers().await?.into_keys();
        let snapshots = self.all_snapshots().await?.into_iter().map(|(.., row)| row.layer);
        Ok(heads.chain(snapshots).collect())
    }
}

const NO_LAYERS: StoreError = StoreError::TooLarge("layers of the volume: all numbers are used");

/// The heads of a volume.
pub(super) async fn heads(meta: &dyn Meta) -> Result<Vec<HeadId>> {
    const PAGE: usize = 512;
    let prefix = counter::key(Counter::Head);
    let (mut heads, mut from) = (Vec::new(), Vec::new());
    loop {
        let page = super::rows::scan(meta, &prefix, &from, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(heads) };
        from = crate::meta::after(last);
        for (rest, _) in page {
            heads.push(counter::parse(&[&prefix[..], &rest[..]].concat())?.1);
        }
    }
}

fn new_head(tx: &mut super::Tx<'_>, to: HeadId, top: Layer, used: Used) {
    tx.counter(Counter::Head, to, u64::from(top.0));
    tx.counter(Counter::Inodes, to, used.inodes);
    tx.counter(Counter::Blocks, to, used.blocks);
}
