//! Maps against inodes, extents against maps, packs against extents, totals.

use super::{All, Kind, Report};
use crate::keys::account::Account;
use crate::keys::counter::Counter;
use crate::keys::inode;
use crate::keys::map::{BLOCK, ExtentId, Source};
use crate::pack::PackId;
use mooring_protocol::types::Ino;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(all: &All, report: &mut Report) {
    report.kind = Kind::Extents;
    let refs = maps(all, report);
    extents(all, &refs, report);
    report.kind = Kind::Counters;
    counters(all, report);
    account(all, report);
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
                report.of(**ino, format!("rows of {ino:?} overlap at {start}"));
            }
            if row.len > row.blocks * BLOCK || row.len + BLOCK <= row.blocks * BLOCK {
                let (len, blocks) = (row.len, row.blocks);
                report.of(**ino, format!("row of {ino:?} at {start} holds {len} bytes in {blocks} blocks"));
            }
            if start + row.len > inode.size && !trims {
                report.of(**ino, format!("row of {ino:?} at {start} goes beyond its end {}", inode.size));
            }
            if start < inode.size {
                blocks += row.blocks;
            }
            behind = *end;
            source(all, (**ino, &row.source), row.len, &mut refs, report);
        }
        if blocks != inode.blocks {
            report.of(**ino, format!("{ino:?} counts {} blocks, not {blocks}", inode.blocks));
        }
    }
    for (ino, inode) in all.inodes.iter().filter(|(_, inode)| inode.blocks > 0) {
        if !all.maps.contains_key(&inode.map) {
            report.of(*ino, format!("{ino:?} counts {} blocks and has no map", inode.blocks));
        }
    }
    refs
}

fn source(
    all: &All,
    (ino, source): (Ino, &Source),
    len: u64,
    refs: &mut BTreeMap<ExtentId, u64>,
    report: &mut Report,
) {
    match source {
        Source::Extent { id, skip } => {
            *refs.entry(*id).or_default() += 1;
            let raw = all.extents.get(id).map(|extent| u64::from(extent.place.raw_len));
            if raw.is_none_or(|raw| u64::from(*skip) + len > raw) {
                report.of(
                    ino,
                    format!("a row of {ino:?} wants {len} bytes behind {skip} of an extent of {raw:?}"),
                );
            }
        }
        Source::Inline(bytes) if bytes.len() as u64 != len => {
            report.of(ino, format!("a row of {ino:?} of {len} bytes holds {}", bytes.len()));
        }
        Source::Inline(_) => {}
        Source::Slice { map, .. } => {
            report.of(ino, format!("a slice of map {map} in a volume without snapshots"))
        }
    }
}

fn extents(all: &All, refs: &BTreeMap<ExtentId, u64>, report: &mut Report) {
    let mut live: BTreeMap<u128, u64> = BTreeMap::new();
    for (id, extent) in &all.extents {
        let counted = refs.get(id).copied().unwrap_or(0);
        if extent.refs != counted {
            let hash = hex::encode(id.hash);
            report.repairs.extent(*id, extent, counted);
            report.say(format!("extent {hash} counts {} references, not {counted}", extent.refs));
        }
        *live.entry(extent.place.pack.0).or_default() += extent.place.pack_bytes();
    }
    let packs: BTreeSet<u128> = live.keys().chain(all.packs.keys()).copied().collect();
    for pack in packs {
        let (counted, said) = (live.get(&pack).copied(), all.packs.get(&pack).copied());
        if counted != said {
            report.repairs.live(pack, counted);
            let (counted, said) = (counted.unwrap_or(0), said.unwrap_or(0));
            report.say(format!("live bytes of pack {} are said to be {said}, not {counted}", PackId(pack)));
        }
    }
}

fn account(all: &All, report: &mut Report) {
    let mut sums = Account { extents: all.extents.len() as u64, ..Account::default() };
    for extent in all.extents.values() {
        sums.raw += u64::from(extent.place.raw_len);
        sums.stored += extent.place.pack_bytes();
    }
    let rows = all.maps.values().flatten().filter(|(_, row)| matches!(row.source, Source::Extent { .. }));
    sums.referenced = rows.map(|(_, row)| row.len).sum();
    if all.account != Some(sums) {
        report.repairs.account(sums);
        report.say(format!("the account of extents says {:?}, not {sums:?}", all.account));
    }
}

fn counters(all: &All, report: &mut Report) {
    let blocks: u64 = all.inodes.values().map(|inode| inode.blocks).sum();
    let highest = all.inodes.iter().map(|(ino, inode)| ino.get().max(inode.map)).max().unwrap_or(0);
    for &(which, number) in &all.counters {
        let right = match which {
            Counter::Inodes => all.inodes.len() as u64,
            Counter::Blocks => blocks,
            Counter::NextId => number.max(highest + 1),
            Counter::Head => number.max(1),
        };
        if number != right {
            report.repairs.counter(which, right);
            report.say(format!("counter {which:?} says {number}, not {right}"));
        }
    }
}
