//! Keeping chains of layers short, in the background.
//!
//! Each snapshot puts a layer on the chain, each clone one on that of its source, and a row that lies low is looked for in every layer above it. Where a chain is
//! longer than [`Config::layers`](super::Config::layers), one frozen layer takes in the rows of the one below it, as copies,
//! and then stands on what was below that:
//!
//! ```text
//!   head ─▶ 9 ─▶ 8 ─▶ 7 ─▶ ...         head ─▶ 9 ─▶ 8+7 ────▶ 6 ─▶ ...
//!                                      snapshot 7 ──────▶ 7 ───┘
//! ```
//!
//! Snapshots and other heads keep the chains they have, so those get no longer either. Of all pairs in the chain the one is taken in which
//! the lower layer is smallest against the upper: then a row is copied again only into a layer that is much larger than the
//! one it lay in, and the few rows of an hour are never bought with the million of the first layer.
//!
//! A copy hides what is the same, so nothing that shows changes until the last step, which is one commit; a crash in between
//! leaves copies that hide what they equal. An inode that is copied names its map once more.

use super::layers::FAMILIES;
use super::rows::{in_layer, scan};
use super::{Volume, snapshots};
use crate::api::Result;
use crate::keys::inode;
use crate::keys::{Layer, TOMBSTONE, layer};
use crate::meta::after;
use bytes::Bytes;
use mooring_protocol::types::FileKind;
use std::collections::BTreeMap;

/// More rows of a layer are not counted: it is large.
const LARGE: u64 = 1 << 18;
/// Rows of one scan when they are counted.
const PAGE: usize = 1024;

/// One layer is to take in the one below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absorb {
    pub(super) into: Layer,
    pub(super) from: Layer,
    /// What lies below both.
    pub(super) below: Option<Layer>,
}

/// What is to be done for short chains.
pub(super) enum Next {
    /// Nothing.
    Short,
    /// This layer's rows are to be counted first.
    Count(Layer),
    Absorb(Absorb),
}

/// Rows of frozen layers, about. They change only by what this task does.
#[derive(Default)]
pub(super) struct Sizes(parking_lot::Mutex<BTreeMap<Layer, u64>>);

impl Sizes {
    fn of(&self, layer: Layer) -> Option<u64> {
        self.0.lock().get(&layer).copied()
    }

    fn set(&self, layer: Layer, rows: u64) {
        self.0.lock().insert(layer, rows);
    }

    /// The rows of one went into another, or were copied.
    pub(super) fn add(&self, into: Layer, from: Layer) {
        let mut sizes = self.0.lock();
        if let Some(more) = sizes.get(&from).copied()
            && let Some(rows) = sizes.get_mut(&into)
        {
            *rows += more;
        }
    }

    pub(super) fn forget(&self, layer: Layer) {
        self.0.lock().remove(&layer);
    }
}

impl Volume {
    /// Which layer is to take in another. `begun` goes on if it still makes sense.
    pub(super) async fn next_to_absorb(&self, begun: Option<Absorb>) -> Result<Next> {
        let below: BTreeMap<Layer, Option<Layer>> =
            snapshots::layers(self.rows()).await?.into_iter().collect();
        if let Some(begun) = begun
            && below.get(&begun.into) == Some(&Some(begun.from))
            && below.get(&begun.from) == Some(&begun.below)
        {
            return Ok(Next::Absorb(begun));
        }
        let heads = self.head_layers().await?;
        let chain = self.tops().await?.into_iter().map(|top| chain_from(&below, top));
        let Some(long) = chain.into_iter().find(|chain| chain.len() > self.config.layers.max(2)) else {
            return Ok(Next::Short);
        };
        let frozen: Vec<Layer> = long.into_iter().filter(|layer| !heads.contains_key(layer)).collect();
        if let Some(&unknown) = frozen.iter().find(|layer| self.family.layering.sizes.of(**layer).is_none()) {
            return Ok(Next::Count(unknown));
        }
        let rows = |layer: Layer| self.family.layering.sizes.of(layer).unwrap_or(LARGE).max(1);
        let absorb = best_pair(&frozen, rows).map(|(into, from)| Absorb {
            into,
            from,
            below: below.get(&from).copied().flatten(),
        });
        Ok(absorb.map_or(Next::Short, Next::Absorb))
    }

    /// Counts a layer's rows, up to a bound.
    pub(super) async fn count_rows(&self, layer: Layer) -> Result<()> {
        let mut rows = 0;
        for family in FAMILIES {
            let prefix = [&[family][..], &layer.0.to_be_bytes()].concat();
            let mut from = Vec::new();
            while rows < LARGE {
                let page = scan(&**self.rows().meta(), &prefix, &from, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                from = after(last);
                rows += page.len() as u64;
            }
        }
        self.family.layering.sizes.set(layer, rows);
        Ok(())
    }

    /// Copies rows up, where nothing hides them. Who looks through the layers meanwhile finds the row or its copy.
    pub(super) async fn copy_up(&self, absorb: Absorb, rows: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        let held = self.enter().await;
        let mut tx = self.tx(&held);
        drop(held);
        for (key, value) in rows {
            let copy = in_layer(&key, absorb.into);
            if self.rows().meta().get(&copy).await?.is_some() {
                continue;
            }
            if value == TOMBSTONE {
                if !self.shows_in(&key, absorb.below).await? {
                    continue;
                }
            } else if key.first() == Some(&b'i') {
                let copied = inode::decode(&value)?;
                if copied.kind == FileKind::File {
                    tx.name_map(copied.map, 1);
                }
            }
            tx.put_plain(copy, value);
        }
        self.commit_bare(tx.done()).await
    }

    /// All rows are copied: the layer stands on what was below both.
    pub(super) async fn absorbed(&self, absorb: Absorb) -> Result<()> {
        let Absorb { into, from, below } = absorb;
        let held = self.locks.stop_all(self.rows()).await;
        let mut tx = self.tx(&held);
        drop(held);
        tx.put_plain(layer::key(into), layer::encode(below));
        let without = |chain: &[Layer]| -> Vec<Layer> {
            let through = chain.contains(&into);
            chain.iter().copied().filter(|layer| !through || *layer != from).collect()
        };
        for head in self.family.open() {
            let chain = head.rows().chain();
            if chain.contains(&into) {
                tx.head_of(&head.shared, without(&chain));
            }
        }
        self.commit_bare(tx.done()).await?;
        self.family.layering.sizes.add(into, from);
        // What a view finds with the old chain is the same.
        for view in self.family.views.lock().values().filter_map(std::sync::Weak::upgrade) {
            view.set_chain(without);
        }
        Ok(())
    }

    /// How many layers a look goes through at most: those of a head or a snapshot.
    pub async fn layers_deep(&self) -> Result<usize> {
        let below: BTreeMap<Layer, Option<Layer>> =
            snapshots::layers(self.rows()).await?.into_iter().collect();
        let tops = self.tops().await?.into_iter();
        Ok(tops.map(|top| chain_from(&below, top).len()).max().unwrap_or(0))
    }
}

/// The layers from `top` down.
fn chain_from(below: &BTreeMap<Layer, Option<Layer>>, top: Layer) -> Vec<Layer> {
    std::iter::successors(Some(top), |layer| below.get(layer).copied().flatten()).collect()
}

/// The pair of neighbours (upper, lower) of a chain in which the lower is smallest against the upper. Of equals the
/// smaller, then the lowest.
fn best_pair(chain: &[Layer], rows: impl Fn(Layer) -> u64) -> Option<(Layer, Layer)> {
    let worse = |(upper, lower): (Layer, Layer), (other, below): (Layer, Layer)| {
        // a/b against c/d without dividing.
        let (one, two) = (rows(lower) * rows(other), rows(below) * rows(upper));
        one.cmp(&two).then(rows(lower).cmp(&rows(below)))
    };
    let pairs = chain.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
    pairs.rev().min_by(|one, two| worse(*one, *two))
}

#[cfg(test)]
mod tests {
    use super::{Layer, best_pair};

    /// What a hundred thousand snapshots of a few rows over a large first layer cost: rows copied for each that was new.
    #[test]
    fn rows_are_copied_few_times_and_the_first_layer_never() {
        let mut chain: Vec<(Layer, u64)> = vec![(Layer(1), 1 << 18)];
        let (mut copied, mut highest) = (0, 1);
        let new = 10_000;
        for number in 2..new {
            chain.insert(0, (Layer(number), 1 + u64::from(number % 7)));
            while chain.len() > 7 {
                let layers: Vec<Layer> = chain.iter().map(|(layer, _)| *layer).collect();
                let rows =
                    |layer| chain.iter().find(|(known, _)| *known == layer).map_or(0, |(_, rows)| *rows);
                let Some((into, from)) = best_pair(&layers, rows) else { break };
                let more = rows(from);
                assert_ne!(from, Layer(1), "the first layer is copied at {number}");
                (copied, highest) = (copied + more, highest.max(more));
                chain.retain(|(layer, _)| *layer != from);
                chain.iter_mut().filter(|(layer, _)| *layer == into).for_each(|(_, rows)| *rows += more);
            }
        }
        assert!(copied < 12 * 4 * u64::from(new), "{copied} rows were copied");
    }
}
