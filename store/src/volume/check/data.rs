//! Maps against inodes, extents against maps, packs against extents, totals.

use super::{All, Report};
use crate::keys::counter::Counter;
use crate::keys::inode;
use crate::keys::map::{BLOCK, ExtentId, Source};
use std::collections::BTreeMap;

pub(super) fn check(all: &All, report: &mut Report) {
    let refs = maps(all, report);
    extents(all, &refs, report);
    counters(all, report);
}

fn maps(all: &All, report: &mut Report) -> BTreeMap<ExtentId, u64> {
    let mut refs: BTreeMap<ExtentId, u64> = BTreeMap::new();
    let owners: BTreeMap<u64, _> = all.inodes.iter().map(|(ino, inode)| (inode.map, (ino, inode))).collect();
    for (map, rows) in &all.maps {
        let Some((ino, inode)) = owners.get(map) else {
            report.say(format!("map {map} belongs to no inode"));
            continue;
        };
        let trims = inode.has(inode::TRIM);
        let (mut behind, mut blocks) = (0, 0);
        for (end, row) in rows {
            let start = end - row.blocks * BLOCK;
            if start < behind {
                report.say(format!("rows of {ino:?} overlap at {start}"));
            }
            if row.len > row.blocks * BLOCK || row.len + BLOCK <= row.blocks * BLOCK {
                report.say(format!(
                    "row of {ino:?} at {start} holds {} bytes in {} blocks",
                    row.len, row.blocks
                ));
            }
            if start + row.len > inode.size && !trims {
                report.say(format!("row of {ino:?} at {start} goes beyond its end {}", inode.size));
            }
            if start < inode.size {
                blocks += row.blocks;
            }
            behind = *end;
            source(all, &row.source, row.len, &mut refs, report);
        }
        if blocks != inode.blocks {
            report.say(format!("{ino:?} counts {} blocks, not {blocks}", inode.blocks));
        }
    }
    for (ino, inode) in all.inodes.iter().filter(|(_, inode)| inode.blocks > 0) {
        if !all.maps.contains_key(&inode.map) {
            report.say(format!("{ino:?} counts {} blocks and has no map", inode.blocks));
        }
    }
    refs
}

fn source(all: &All, source: &Source, len: u64, refs: &mut BTreeMap<ExtentId, u64>, report: &mut Report) {
    match source {
        Source::Extent { id, skip } => {
            *refs.entry(*id).or_default() += 1;
            let raw = all.extents.get(id).map(|extent| u64::from(extent.place.raw_len));
            if raw.is_none_or(|raw| u64::from(*skip) + len > raw) {
                report.say(format!("a row wants {len} bytes behind {skip} of an extent of {raw:?}"));
            }
        }
        Source::Inline(bytes) if bytes.len() as u64 != len => {
            report.say(format!("a row of {len} bytes holds {}", bytes.len()));
        }
        Source::Inline(_) => {}
        Source::Slice { map, .. } => {
            report.say(format!("a slice of map {map} in a volume without snapshots"))
        }
    }
}

fn extents(all: &All, refs: &BTreeMap<ExtentId, u64>, report: &mut Report) {
    let mut live: BTreeMap<u128, u64> = BTreeMap::new();
    for (id, extent) in &all.extents {
        let counted = refs.get(id).copied().unwrap_or(0);
        if extent.refs != counted {
            let hash = hex::encode(id.hash);
            report.say(format!("extent {hash} counts {} references, not {counted}", extent.refs));
        }
        *live.entry(extent.place.pack.0).or_default() += extent.place.pack_bytes();
    }
    if live != all.packs {
        report.say(format!("live bytes of packs are {:?}, not {live:?}", all.packs));
    }
}

fn counters(all: &All, report: &mut Report) {
    let blocks: u64 = all.inodes.values().map(|inode| inode.blocks).sum();
    let highest = all.inodes.iter().map(|(ino, inode)| ino.get().max(inode.map)).max().unwrap_or(0);
    for &(which, number) in &all.counters {
        let good = match which {
            Counter::Inodes => number == all.inodes.len() as u64,
            Counter::Blocks => number == blocks,
            Counter::NextId => number > highest,
            Counter::Head => number > 0,
        };
        if !good {
            report.say(format!("counter {which:?} says {number}"));
        }
    }
}
