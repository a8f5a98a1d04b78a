//! Taking layers away that no snapshot needs any more, and keeping chains of layers short ([`super::flatten`]), in the
//! background.
//!
//! Layers are a tree: each has one below it, a head is the newest of its branch. One that is neither a head's own nor a
//! snapshot's goes:
//!
//! ```text
//!   nothing above it   its rows are dropped              (the old head after a restore, or one that was removed)
//!   one layer above    its rows move up into that one    (a snapshot was removed)
//!   several above      it stays until one is left
//! ```
//!
//! It takes steps of a page of rows, each one commit: a row that the layer above has too, or a tombstone there hides, is
//! dropped, any other moves. What shows through the layers is the same before and after each step, so a crash in between
//! leaves nothing to mend, and the next open goes on. During a step nobody looks through layers, and while rows move into
//! the layer of a head nothing is changed; the pauses between steps are as long as the steps.
//!
//! An inode that moves says from then on that its map is shared: slices of other maps may name it.

use super::family::Family;
use super::flatten::{Absorb, Next, Sizes};
use super::rows::{in_layer, scan};
use super::{Tx, Volume, snapshots};
use crate::api::Result;
use crate::error::StoreError;
use crate::keys::inode::{self, Inode};
use crate::keys::{Layer, TOMBSTONE, layer};
use crate::meta::after;
use bytes::Bytes;
use mooring_protocol::types::FileKind;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Families that carry a layer.
pub(super) const FAMILIES: [u8; 8] = [b'i', b'd', b'b', b'x', b'l', b's', b'm', b'o'];
/// Rows of one step.
const STEP: usize = 256;
/// After a failure the task waits this long.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What the task and those who change layers share.
#[derive(Default)]
pub(crate) struct Layering {
    /// Held for each change of the tree of layers. Says how far the layer that is going is read.
    pub(crate) place: tokio::sync::Mutex<Place>,
    pub(super) sizes: Sizes,
    wake: Notify,
}

/// How far a layer is read.
#[derive(Default)]
pub(crate) struct Place {
    layer: Option<Layer>,
    /// It does not go: another takes it in.
    absorb: Option<Absorb>,
    family: usize,
    from: Vec<u8>,
}

/// What becomes of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Drop,
    /// Its rows move into this one, and lie above that one then.
    Merge(Layer, Option<Layer>),
}

/// The task. Ends with the volume.
pub(crate) struct Merger(JoinHandle<()>);

impl Merger {
    pub(crate) fn start(family: &Arc<Family>) -> Merger {
        Merger(tokio::spawn(run(Arc::downgrade(family), family.layering.clone())))
    }

    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(family: Weak<Family>, layering: Arc<Layering>) {
    loop {
        let began = Instant::now();
        let Some(open) = family.upgrade().and_then(|family| family.any()) else { return };
        let step = open.layer_step().await;
        let over = open.is_broken();
        drop(open);
        match step {
            Ok(true) => tokio::time::sleep(began.elapsed()).await,
            Ok(false) => layering.wake.notified().await,
            // This head was closed; another is asked the next time, if there is one.
            Err(StoreError::Closed) if !over => {}
            Err(StoreError::Closed | StoreError::Fenced) => return,
            Err(error) => {
                tracing::warn!(%error, "layers of removed snapshots could not be taken away yet");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

impl Place {
    /// Begins anew if it was of something else.
    fn is_of(&mut self, layer: Layer, absorb: Option<Absorb>) {
        if (self.layer, self.absorb) != (Some(layer), absorb) {
            *self = Place { layer: Some(layer), absorb, ..Place::default() };
        }
    }
}

impl Layering {
    /// There may be a layer that nobody needs.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl Volume {
    /// Takes away every layer that nobody needs, and the rows of maps that are freed by that. Done in the background all
    /// the time; for who cannot wait.
    pub async fn settle_layers(&self) -> Result<()> {
        while self.layer_step().await? {}
        self.sweep().await
    }

    /// One step; whether there was anything to do.
    async fn layer_step(&self) -> Result<bool> {
        self.alive()?;
        let mut place = self.family.layering.place.lock().await;
        if let Some((going, way)) = self.next_layer_to_go().await? {
            // Before its rows move.
            self.end_view(going);
            place.is_of(going, None);
            match self.next_rows(&mut place, going).await? {
                Some((rows, from)) => {
                    self.move_rows(way, rows).await?;
                    place.from = from;
                }
                None if place.family < FAMILIES.len() => {}
                None => {
                    self.layer_gone(going, way).await?;
                    *place = Place::default();
                }
            }
            return Ok(true);
        }
        match self.next_to_absorb(place.absorb).await? {
            Next::Short => return Ok(false),
            Next::Count(layer) => {
                // Takes a while, and whoever takes a snapshot meanwhile does not wait for it.
                drop(place);
                self.count_rows(layer).await?;
            }
            Next::Absorb(absorb) => {
                place.is_of(absorb.from, Some(absorb));
                match self.next_rows(&mut place, absorb.from).await? {
                    Some((rows, from)) => {
                        self.copy_up(absorb, rows).await?;
                        place.from = from;
                    }
                    None if place.family < FAMILIES.len() => {}
                    None => {
                        self.absorbed(absorb).await?;
                        *place = Place::default();
                    }
                }
            }
        }
        Ok(true)
    }

    /// The next rows of a layer, and where to go on behind them. `None`: a family ends.
    async fn next_rows(
        &self,
        place: &mut Place,
        layer: Layer,
    ) -> Result<Option<(Vec<(Vec<u8>, Bytes)>, Vec<u8>)>> {
        let Some(&family) = FAMILIES.get(place.family) else { return Ok(None) };
        let prefix = [&[family][..], &layer.0.to_be_bytes()].concat();
        let page = scan(&**self.rows().meta(), &prefix, &place.from, STEP).await?;
        let Some((last, _)) = page.last() else {
            (place.family, place.from) = (place.family + 1, Vec::new());
            return Ok(None);
        };
        let from = after(last);
        let rows = page.into_iter().map(|(rest, value)| ([&prefix[..], &rest[..]].concat(), value));
        Ok(Some((rows.collect(), from)))
    }

    async fn next_layer_to_go(&self) -> Result<Option<(Layer, Way)>> {
        let layers = snapshots::layers(self.rows()).await?;
        let kept = self.tops().await?;
        for &(going, below) in layers.iter().filter(|(layer, _)| !kept.contains(layer)) {
            let mut above = layers.iter().filter(|(_, below)| *below == Some(going));
            match (above.next(), above.next()) {
                (None, _) => return Ok(Some((going, Way::Drop))),
                (Some((above, _)), None) => return Ok(Some((going, Way::Merge(*above, below)))),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn move_rows(&self, way: Way, rows: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        let heads = self.head_layers().await?;
        let (mut head, mut held) = (None, None);
        match way {
            // Nobody looks through it any more.
            Way::Drop => {}
            Way::Merge(into, _) => match heads.get(&into) {
                // What that head has cached of inodes says in which layer they lie.
                Some(id) => {
                    head = self.family.get(*id);
                    held = Some(self.locks.stop_all(self.rows()).await);
                }
                None => held = Some(self.locks.enter_alone(self.rows()).await),
            },
        }
        let held = match held {
            Some(held) => held,
            None => self.enter().await,
        };
        let by = head.as_deref().unwrap_or(self);
        let mut tx = by.tx(&held);
        drop(held);
        for (key, value) in rows {
            tx.delete_plain(key.clone());
            match way {
                Way::Drop => unname(&mut tx, &key, &value)?,
                Way::Merge(into, below) => self.move_row(&mut tx, (into, below), &key, value).await?,
            }
        }
        by.commit_bare(tx.done()).await
    }

    async fn move_row(
        &self,
        tx: &mut Tx<'_>,
        (into, below): (Layer, Option<Layer>),
        key: &[u8],
        value: Bytes,
    ) -> Result<()> {
        let above = in_layer(key, into);
        match self.rows().meta().get(&above).await? {
            Some(hiding) => {
                unname(tx, key, &value)?;
                if hiding == TOMBSTONE && !self.shows_in(key, below).await? {
                    tx.delete_plain(above);
                }
            }
            None if value == TOMBSTONE => {
                if self.shows_in(key, below).await? {
                    tx.put_plain(above, value);
                }
            }
            None if key.first() == Some(&b'i') => {
                let (_, ino) = inode::parse(key)?;
                let mut moved = inode::decode(&value)?;
                if moved.kind == FileKind::File {
                    moved.flags |= inode::SHARED;
                }
                tx.put_plain(above, inode::encode(&moved));
                tx.forget_inode(ino);
            }
            None => tx.put_plain(above, value),
        }
        Ok(())
    }

    /// Whether the row shows in a layer or those below it.
    pub(super) async fn shows_in(&self, key: &[u8], top: Option<Layer>) -> Result<bool> {
        let mut next = top;
        while let Some(at) = next {
            if let Some(value) = self.rows().meta().get(&in_layer(key, at)).await? {
                return Ok(value != TOMBSTONE);
            }
            let row = self.rows().meta().get(&layer::key(at)).await?;
            next = row.map(|value| layer::decode(&value)).transpose()?.flatten();
        }
        Ok(false)
    }

    /// The layer has no rows any more.
    async fn layer_gone(&self, going: Layer, way: Way) -> Result<()> {
        let held = self.locks.stop_all(self.rows()).await;
        let mut tx = self.tx(&held);
        tx.delete_plain(layer::key(going));
        if let Way::Merge(above, below) = way {
            tx.put_plain(layer::key(above), layer::encode(below));
        }
        let without = |chain: &[Layer]| -> Vec<Layer> {
            chain.iter().copied().filter(|layer| *layer != going).collect()
        };
        for head in self.family.open() {
            let chain = head.rows().chain();
            if chain.contains(&going) {
                tx.head_of(&head.shared, without(&chain));
            }
        }
        self.commit_bare(tx.done()).await?;
        if let Way::Merge(above, _) = way {
            self.family.layering.sizes.add(above, going);
        }
        self.family.layering.sizes.forget(going);
        // It is empty, so a view that is opened right now with the old layers sees the same.
        for view in self.family.views.lock().values().filter_map(Weak::upgrade) {
            view.set_chain(without);
        }
        Ok(())
    }
}

/// A row goes: if it is a file's, it names the file's map no more.
fn unname(tx: &mut Tx<'_>, key: &[u8], value: &Bytes) -> Result<()> {
    if key.first() == Some(&b'i') && value != TOMBSTONE {
        let Inode { kind, map, .. } = inode::decode(value)?;
        if kind == FileKind::File {
            tx.name_map(map, -1);
        }
    }
    Ok(())
}
