//! Which layers show, in each head and snapshot, and which rows of all layers name which map.

use super::{All, Kind, Report, data, tree};
use crate::api::Result;
use crate::keys::counter::{self, Counter};
use crate::keys::map::Source;
use crate::keys::snapshot::{self, Snapshot};
use crate::keys::{HeadId, Layer, RowError, TOMBSTONE, frozen, garbage, inode, layer};
use crate::meta::{View, after};
use crate::volume::rows::scan_view;
use bytes::Bytes;
use mooring_protocol::types::FileKind;
use std::collections::{BTreeMap, BTreeSet};

/// Layers of a volume, and those that show.
#[derive(Clone, Default)]
pub(super) struct Layers {
    /// Those that rows are looked for in.
    chain: BTreeSet<Layer>,
    below: BTreeMap<Layer, Option<Layer>>,
    snapshots: Vec<(HeadId, String, Snapshot)>,
    heads: BTreeMap<HeadId, Layer>,
    /// The head that is looked at.
    pub(super) head: HeadId,
    /// The highest number of an inode in any layer.
    pub(super) highest: u64,
    /// Inodes of all layers that name a map.
    pub(super) named: BTreeMap<u64, u64>,
    /// What rows say of how many name a map.
    frozen: BTreeMap<u64, u64>,
    garbage: BTreeSet<u64>,
}

impl Layers {
    /// Those of a head.
    pub(super) async fn read(view: &dyn View, head: HeadId) -> Result<Layers> {
        let mut layers = Layers::default();
        for prefix in [layer::prefix(), snapshot::prefix(), counter::key(Counter::Head)] {
            let mut from = Vec::new();
            loop {
                let page = scan_view(view, &prefix, &from, 512).await?;
                let Some((last, _)) = page.last() else { break };
                from = after(last);
                for (rest, value) in page {
                    let key = [&prefix[..], &rest[..]].concat();
                    match key.first() {
                        Some(b'y') => drop(layers.below.insert(layer::parse(&key)?, layer::decode(&value)?)),
                        Some(b'n') => {
                            let (of, name) = snapshot::parse(&key)?;
                            layers.snapshots.push((of, name.to_owned(), snapshot::decode(&value)?));
                        }
                        _ => {
                            let top = Layer(u32::try_from(counter::decode(&value)?).unwrap_or(0));
                            layers.heads.insert(counter::parse(&key)?.1, top);
                        }
                    }
                }
            }
        }
        layers.look_from(head, layers.heads.get(&head).copied().unwrap_or_default());
        Ok(layers)
    }

    fn look_from(&mut self, head: HeadId, top: Layer) {
        self.head = head;
        self.chain.clear();
        let mut next = Some(top);
        while let Some(layer) = next.filter(|layer| self.below.contains_key(layer)) {
            if !self.chain.insert(layer) {
                break;
            }
            next = self.below.get(&layer).copied().flatten();
        }
    }

    /// Whether there is but one layer.
    pub(super) fn is_single(&self) -> bool {
        self.below.len() == 1
    }

    /// Whether a row shows. Takes note of what it names.
    pub(super) fn shows(&mut self, key: &Bytes, value: &Bytes) -> Result<bool, RowError> {
        match key.first() {
            Some(b'i' | b'd' | b'b' | b'x' | b'l' | b's' | b'm' | b'o') => {}
            Some(b'f') => {
                self.frozen.insert(frozen::parse(key)?, frozen::decode(value)?);
                return Ok(true);
            }
            Some(b'g') => {
                garbage::decode(value)?;
                self.garbage.insert(garbage::parse(key)?);
                return Ok(true);
            }
            _ => return Ok(true),
        }
        let number = key.get(1..5).and_then(<[u8]>::first_chunk).ok_or(RowError::Value("layer"))?;
        if key.first() == Some(&b'i') && value != TOMBSTONE {
            self.highest = self.highest.max(inode::parse(key)?.1.get());
            let row = inode::decode(value)?;
            if row.kind == FileKind::File {
                *self.named.entry(row.map).or_default() += 1;
            }
        }
        Ok(self.chain.contains(&Layer(u32::from_be_bytes(*number))))
    }
}

/// Holds every snapshot against itself.
pub(super) async fn snapshots(view: &dyn View, all: &All, report: &mut Report) -> Result<()> {
    for (of, name, row) in &all.layers.snapshots {
        let mut layers = Layers { named: BTreeMap::new(), ..all.layers.clone() };
        layers.look_from(*of, row.layer);
        let mut found = Report { kind: Kind::Namespace, ..Report::default() };
        let mut then = All::read_through(view, layers, &mut found).await?;
        // Uploads under way are the volume's.
        then.parts.clear();
        let parts = crate::keys::orphan::Why::Part;
        then.orphans.values_mut().filter(|orphan| orphan.why == parts).for_each(|orphan| {
            orphan.why = crate::keys::orphan::Why::Staged;
        });
        tree::check(&then, &mut found);
        data::owners(&then, &mut found);
        let blocks: u64 = then.inodes.values().map(|inode| inode.blocks).sum();
        if (row.inodes, row.blocks) != (then.inodes.len() as u64, blocks) {
            let (inodes, now) = (row.inodes, then.inodes.len());
            found.say(format!("it says {inodes} inodes and {} blocks, not {now} and {blocks}", row.blocks));
        }
        for finding in found.findings {
            report.kind = finding.kind;
            let of = said_of(&all.layers, *of);
            report.say(format!("snapshot {name}{of}: {}", finding.what));
        }
    }
    Ok(())
}

/// Holds every head but the one that is looked at against itself.
pub(super) async fn heads(view: &dyn View, all: &All, report: &mut Report) -> Result<()> {
    for (&head, &top) in all.layers.heads.iter().filter(|(head, _)| **head != all.layers.head) {
        let mut layers = Layers { named: BTreeMap::new(), ..all.layers.clone() };
        layers.look_from(head, top);
        let mut found = Report { kind: Kind::Namespace, ..Report::default() };
        let then = All::read_through(view, layers, &mut found).await?;
        tree::check(&then, &mut found);
        data::owners(&then, &mut found);
        found.kind = Kind::Counters;
        data::totals(&then, &mut found);
        report.repairs.counters_of(&found.repairs);
        let of = said_of(&all.layers, head);
        for finding in found.findings {
            report.kind = finding.kind;
            report.say(format!("in the tree{of}: {}", finding.what));
        }
    }
    Ok(())
}

fn said_of(layers: &Layers, head: HeadId) -> String {
    if head == layers.head { String::new() } else { format!(" of head {head}") }
}

/// Holds what is said of how many rows name a map against those rows.
pub(super) fn names(all: &All, report: &mut Report) {
    let Layers { named, frozen, garbage, .. } = &all.layers;
    let mut counted = named.clone();
    for (_, row) in all.maps.values().flatten() {
        if let Source::Slice { map, .. } = row.source {
            *counted.entry(map).or_default() += 1;
        }
    }
    for (map, count) in &counted {
        let said = frozen.get(map).copied().unwrap_or(1);
        if said != *count || (garbage.contains(map) && *count > 0) {
            report.say(format!("map {map} is said to be named {said} times, not {count}"));
        }
    }
    for map in frozen.keys().filter(|map| !counted.contains_key(map)) {
        report.say(format!("map {map} is said to be frozen, and nothing names it"));
    }
    for map in all.maps.keys().filter(|map| !counted.contains_key(map) && !garbage.contains(map)) {
        report.say(format!("map {map} belongs to no inode"));
    }
}
