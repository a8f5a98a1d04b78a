//! Which layers show, and which rows of all layers name which map.

use super::{All, Kind, Report, data, tree};
use crate::api::Result;
use crate::keys::counter::{self, Counter};
use crate::keys::map::Source;
use crate::keys::snapshot::{self, Snapshot};
use crate::keys::{Layer, RowError, TOMBSTONE, frozen, garbage, inode, layer};
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
    snapshots: Vec<(String, Snapshot)>,
    /// Inodes of all layers that name a map.
    pub(super) named: BTreeMap<u64, u64>,
    /// What rows say of how many name a map.
    frozen: BTreeMap<u64, u64>,
    garbage: BTreeSet<u64>,
}

impl Layers {
    /// The head's.
    pub(super) async fn read(view: &dyn View) -> Result<Layers> {
        let mut layers = Layers::default();
        let mut head = 0;
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
                            let name = snapshot::parse(&key)?.to_owned();
                            layers.snapshots.push((name, snapshot::decode(&value)?));
                        }
                        _ => head = counter::decode(&value)?,
                    }
                }
            }
        }
        layers.look_from(Layer(u32::try_from(head).unwrap_or(0)));
        Ok(layers)
    }

    fn look_from(&mut self, top: Layer) {
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
    for (name, row) in &all.layers.snapshots {
        let mut layers = Layers { named: BTreeMap::new(), ..all.layers.clone() };
        layers.look_from(row.layer);
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
            report.say(format!("snapshot {name}: {}", finding.what));
        }
    }
    Ok(())
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
