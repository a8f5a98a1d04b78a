//! Maps against inodes, extents against maps, packs against extents, totals.

use super::{All, Kind, Report};
use crate::keys::HeadId;
use crate::keys::account::Account;
use crate::keys::counter::Counter;
use crate::keys::inode;
use crate::keys::map::{BLOCK, ExtentId, Source};
use crate::pack::PackId;
use mooring_protocol::types::{FileKind, Ino};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(all: &All, report: &mut Report) {
    report.kind = Kind::Extents;
    let refs = maps(all, report);
    super::layers::names(all, report);
    extents(all, &refs, report);
    report.kind = Kind::Counters;
    totals(all, report);
    next_id(all, report);
    account(all, report);
}

/// Rows of all maps; what they refer to.
fn maps(all: &All, report: &mut Report) -> BTreeMap<ExtentId, u64> {
    let mut refs: BTreeMap<ExtentId, u64> = BTreeMap::new();
    let owners: BTreeMap<u64, Ino> = all.inodes.iter().map(|(ino, inode)| (inode.map, *ino)).collect();
    for (map, rows) in &all.maps {
        let (owner, mut behind) = (owners.get(map).copied(), 0);
        for (end, row) in rows {
            let start = end.saturating_sub(row.blocks * BLOCK);
            if start < behind {
                report.of_some(owner, format!("rows of map {map} overlap at {start}"));
            }
            if row.len > row.blocks * BLOCK || row.len + BLOCK <= row.blocks * BLOCK {
                let (len, blocks) = (row.len, row.blocks);
                report.of_some(
                    owner,
                    format!("row of map {map} at {start} holds {len} bytes in {blocks} blocks"),
                );
            }
            behind = *end;
            source(all, (*map, owner, &row.source), row.len, &mut refs, report);
        }
    }
    owners_of(all, report);
    refs
}

/// Files against the maps they read through.
pub(super) fn owners(all: &All, report: &mut Report) {
    report.kind = Kind::Extents;
    owners_of(all, report);
}

fn owners_of(all: &All, report: &mut Report) {
    for (ino, inode) in all.inodes.iter().filter(|(_, inode)| inode.kind == FileKind::File) {
        let none = Vec::new();
        let rows = all.maps.get(&inode.map).unwrap_or(&none);
        for (end, row) in rows.iter().filter(|_| !inode.has(inode::TRIM)) {
            let start = end.saturating_sub(row.blocks * BLOCK);
            if start + row.len > inode.size {
                report.of(*ino, format!("row of {ino:?} at {start} goes beyond its end {}", inode.size));
            }
        }
        let until = inode.size.div_ceil(BLOCK) * BLOCK;
        let (blocks, depth) = shown(all, inode.map, (0, until), usize::from(inode::MAX_DEPTH) + 1);
        if blocks != inode.blocks {
            report.of(*ino, format!("{ino:?} counts {} blocks, not {blocks}", inode.blocks));
        }
        if depth > usize::from(inode.depth()) {
            report.of(*ino, format!("{ino:?} says its map is nested {} deep, not {depth}", inode.depth()));
        }
    }
}

/// Blocks of a map that show data in a range, and how deep slices are nested.
fn shown(all: &All, map: u64, (from, to): (u64, u64), left: usize) -> (u64, usize) {
    let (mut blocks, mut depth) = (0, 0);
    let Some(rows) = all.maps.get(&map).filter(|_| left > 0) else { return (0, 0) };
    let first = rows.partition_point(|(end, _)| *end <= from);
    for (end, row) in &rows[first..] {
        let start = end.saturating_sub(row.blocks * BLOCK);
        let (cut, until) = (start.max(from), (*end).min(to));
        if cut >= until {
            break;
        }
        if let Source::Slice { map, offset } = row.source {
            let below = (offset + cut - start, offset + until - start);
            let (more, deep) = shown(all, map, below, left - 1);
            (blocks, depth) = (blocks + more, depth.max(deep + 1));
        } else {
            blocks += (until - cut) / BLOCK;
        }
    }
    (blocks, depth)
}

fn source(
    all: &All,
    (map, owner, source): (u64, Option<Ino>, &Source),
    len: u64,
    refs: &mut BTreeMap<ExtentId, u64>,
    report: &mut Report,
) {
    match source {
        Source::Extent { id, skip } => {
            *refs.entry(*id).or_default() += 1;
            let raw = all.extents.get(id).map(|extent| u64::from(extent.place.raw_len));
            if raw.is_none_or(|raw| u64::from(*skip) + len > raw) {
                report.of_some(
                    owner,
                    format!("a row of map {map} wants {len} bytes behind {skip} of an extent of {raw:?}"),
                );
            }
        }
        Source::Inline(bytes) if bytes.len() as u64 != len => {
            report.of_some(owner, format!("a row of map {map} of {len} bytes holds {}", bytes.len()));
        }
        Source::Inline(_) => {}
        Source::Slice { map: below, .. } if !all.maps.contains_key(below) => {
            report.of_some(owner, format!("a slice of map {below}, which has no rows, in map {map}"));
        }
        Source::Slice { .. } => {}
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

/// What the head counts.
pub(super) fn totals(all: &All, report: &mut Report) {
    let blocks: u64 = all.inodes.values().map(|inode| inode.blocks).sum();
    for &(which, head, number) in all.counters.iter().filter(|(_, head, _)| *head == all.layers.head) {
        let right = match which {
            Counter::Inodes => all.inodes.len() as u64,
            Counter::Blocks => blocks,
            Counter::Head => number.max(1),
            Counter::NextId => continue,
        };
        counted(which, head, (number, right), report);
    }
}

/// No number that is in use may come again.
fn next_id(all: &All, report: &mut Report) {
    let maps = all.maps.keys().chain(all.layers.named.keys()).copied();
    let highest = maps.chain([all.layers.highest]).max().unwrap_or(0);
    for &(which, head, number) in all.counters.iter().filter(|(which, ..)| *which == Counter::NextId) {
        counted(which, head, (number, number.max(highest + 1)), report);
    }
}

fn counted(which: Counter, head: HeadId, (number, right): (u64, u64), report: &mut Report) {
    if number != right {
        report.repairs.counter((which, head), right);
        report.say(format!("counter {which:?} says {number}, not {right}"));
    }
}
