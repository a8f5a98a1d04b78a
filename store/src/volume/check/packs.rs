//! Extents' rows against packs: the pack is there, its reverse map has the extent at that place, and with `data` the bytes
//! open and have their hash.

use super::{All, CheckOptions, Kind, Progress, Report};
use crate::api::Result;
use crate::keys::extent::Extent;
use crate::keys::map::{BLOCK, ExtentId, Source};
use crate::pack::{ExtentRef, PackError, PackId};
use crate::volume::Volume;
use futures::StreamExt;
use mooring_protocol::types::Ino;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Extents read at once.
const READERS: usize = 4;

/// An extent that is not as its row says.
struct Bad {
    id: ExtentId,
    place: ExtentRef,
    kind: Kind,
    what: String,
}

pub(super) async fn check(
    volume: &Volume,
    all: &All,
    options: &CheckOptions,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    report.packs = volume.packs.list().len() as u64;
    let mut by_pack: BTreeMap<u128, Vec<(ExtentId, &Extent)>> = BTreeMap::new();
    for (id, extent) in &all.extents {
        by_pack.entry(extent.place.pack.0).or_default().push((*id, extent));
    }
    let total = all.extents.values().map(|extent| extent.place.pack_bytes()).sum();
    progress.begin(if options.data { total } else { 0 });
    let mut bad = Vec::new();
    for (pack, mut extents) in by_pack {
        extents.sort_unstable_by_key(|(_, extent)| extent.place.offset);
        let there = listed(volume, PackId(pack), &extents, report, &mut bad).await?;
        if options.data && there {
            read(volume, PackId(pack), &extents, progress, report, &mut bad).await?;
        }
    }
    tell(volume, all, bad, report).await
}

/// Holds the rows of one pack against its reverse map. Returns whether the pack is there.
async fn listed(
    volume: &Volume,
    pack: PackId,
    extents: &[(ExtentId, &Extent)],
    report: &mut Report,
    bad: &mut Vec<Bad>,
) -> Result<bool> {
    let mut say = |what: &str| {
        bad.extend(extents.iter().map(|(id, extent)| Bad {
            id: *id,
            place: extent.place,
            kind: Kind::Packs,
            what: what.to_owned(),
        }));
    };
    let entries = match volume.packs.entries(pack).await {
        Ok(entries) => entries,
        Err(error @ PackError::Missing { .. }) => {
            say(&error.to_string());
            return Ok(false);
        }
        // The extents themselves may be whole: they do not need it. It costs repacking and rebuilding.
        Err(error @ PackError::Corrupt { .. }) => {
            report.kind = Kind::Packs;
            report.say(format!("the reverse map of {error}"));
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    let known: HashMap<u32, ExtentRef> =
        entries.iter().map(|entry| (entry.extent.offset, entry.extent)).collect();
    for (id, Extent { place, .. }) in extents {
        let what = match known.get(&place.offset) {
            Some(there) if there == place => continue,
            Some(_) => format!("pack {pack} has another extent at byte {}", place.offset),
            None => format!("pack {pack} has no extent at byte {}", place.offset),
        };
        bad.push(Bad { id: *id, place: *place, kind: Kind::Packs, what });
    }
    Ok(true)
}

/// Reads extents from their pack as it is kept, past every cache, and hashes them.
async fn read(
    volume: &Volume,
    pack: PackId,
    extents: &[(ExtentId, &Extent)],
    progress: &Progress,
    report: &mut Report,
    bad: &mut Vec<Bad>,
) -> Result<()> {
    let places: Vec<(ExtentId, ExtentRef)> = extents.iter().map(|(id, extent)| (*id, extent.place)).collect();
    let kept = match volume.packs.kept(pack).await {
        Ok(kept) => Arc::new(kept),
        Err(error @ PackError::Missing { .. }) => {
            let gone = |(id, place)| Bad { id, place, kind: Kind::Data, what: error.to_string() };
            bad.extend(places.into_iter().map(gone));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let reads = places.into_iter().map(|(id, place)| {
        let (packs, kept) = (volume.packs.clone(), Arc::clone(&kept));
        async move { (id, place, packs.verify_kept(&kept, &place).await) }
    });
    let mut reads = futures::stream::iter(reads).buffered(READERS);
    while let Some((id, place, verified)) = reads.next().await {
        progress.add(place.pack_bytes());
        report.bytes_read += place.pack_bytes();
        match verified {
            Ok(()) => {}
            Err(error @ (PackError::Corrupt { .. } | PackError::Missing { .. })) => {
                bad.push(Bad { id, place, kind: Kind::Data, what: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reports what is bad now, too: an extent that was moved or dropped since the view was taken is not.
async fn tell(volume: &Volume, all: &All, bad: Vec<Bad>, report: &mut Report) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    let wanted: BTreeSet<ExtentId> = bad.iter().map(|bad| bad.id).collect();
    let hurt = files_of(all, &wanted);
    for Bad { id, place, kind, what } in bad {
        if volume.stored_place(id).await? != Some(place) {
            continue;
        }
        report.kind = kind;
        report.hurts(hurt.get(&id).cloned().unwrap_or_default(), what);
    }
    Ok(())
}

/// The files that show some of these extents, also by slices of frozen maps.
fn files_of(all: &All, wanted: &BTreeSet<ExtentId>) -> BTreeMap<ExtentId, BTreeSet<Ino>> {
    let mut hurt = BTreeSet::new();
    for (map, rows) in &all.maps {
        for (end, row) in rows {
            if let Source::Extent { id, .. } = &row.source
                && wanted.contains(id)
            {
                hurt.insert((*map, end.saturating_sub(row.blocks * BLOCK), *end, *id));
            }
        }
    }
    // Each round finds the maps that show those of the last.
    let mut last = hurt.clone();
    while !last.is_empty() {
        let shown = shown_by_slices(all, &last);
        last = shown.difference(&hurt).copied().collect();
        hurt.extend(&last);
    }
    let mut files: BTreeMap<ExtentId, BTreeSet<Ino>> = BTreeMap::new();
    let mut owners: HashMap<u64, Ino> = HashMap::new();
    owners.extend(all.inodes.iter().map(|(ino, inode)| (inode.map, *ino)));
    for (map, _, _, id) in hurt {
        if let Some(ino) = owners.get(&map) {
            files.entry(id).or_default().insert(*ino);
        }
    }
    files
}

/// A range of a map, and the extent it shows.
type Hurt = (u64, u64, u64, ExtentId);

/// The ranges of maps whose slices show these.
fn shown_by_slices(all: &All, hurt: &BTreeSet<Hurt>) -> BTreeSet<Hurt> {
    let mut by_map: HashMap<u64, Vec<&Hurt>> = HashMap::new();
    hurt.iter().for_each(|range| by_map.entry(range.0).or_default().push(range));
    let mut shown = BTreeSet::new();
    for (map, rows) in &all.maps {
        for (end, row) in rows {
            let Source::Slice { map: below, offset } = row.source else { continue };
            let (covered, start) = (row.blocks * BLOCK, end.saturating_sub(row.blocks * BLOCK));
            for (_, from, to, id) in by_map.get(&below).into_iter().flatten() {
                let (from, to) = ((*from).max(offset), (*to).min(offset.saturating_add(covered)));
                if from < to {
                    shown.insert((*map, from - offset + start, to - offset + start, *id));
                }
            }
        }
    }
    shown
}
