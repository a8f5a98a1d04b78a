//! Names against inodes, backlinks, counts.

use super::{All, Report};
use crate::keys::inode::{self, Inode};
use crate::keys::orphan::Why;
use mooring_protocol::types::{FileKind, Ino};
use std::collections::{BTreeMap, BTreeSet};

/// What the entries say of an inode or a directory.
#[derive(Default)]
struct Counted {
    names: u32,
    entries: u64,
    directories: u32,
    sides: u32,
    parent: Option<Ino>,
}

pub(super) fn check(all: &All, report: &mut Report) {
    let counted = entries(all, report);
    for (&ino, inode) in &all.inodes {
        let nothing = Counted::default();
        let seen = counted.get(&ino).unwrap_or(&nothing);
        match inode.kind {
            FileKind::Dir => directory(all, ino, inode, seen, report),
            _ if inode.nlink != seen.names => {
                report.of(ino, format!("{ino:?} has nlink {} and {} names", inode.nlink, seen.names));
            }
            _ => {}
        }
        belongings(all, ino, inode, report);
    }
    for (kind, owners) in [
        ("xattr", all.xattrs.keys().copied().collect::<Vec<_>>()),
        ("symlink", all.symlinks.keys().copied().collect()),
        ("object", all.objects.iter().copied().collect()),
        ("orphan", all.orphans.keys().copied().collect()),
    ] {
        for ino in owners.into_iter().filter(|ino| !all.inodes.contains_key(ino)) {
            report.stray(format!("a row of family {kind} belongs to {ino:?}, which is not there"));
        }
    }
    uploads(all, report);
    knots(all, report);
}

fn entries(all: &All, report: &mut Report) -> BTreeMap<Ino, Counted> {
    let mut counted: BTreeMap<Ino, Counted> = BTreeMap::new();
    for (parent, name) in &all.twice {
        report.of(*parent, format!("{parent:?} has {} twice", name.escape_ascii()));
    }
    let mut links = BTreeSet::new();
    let mut sides = 0;
    for ((parent, name), entry) in &all.dentries {
        let shown = format!("{} in {parent:?}", name.escape_ascii());
        report.invisible += u64::from(std::str::from_utf8(name).is_err());
        match all.inodes.get(&entry.ino) {
            None => {
                report.of(*parent, format!("{shown} names {:?}, which is not there", entry.ino));
            }
            Some(inode) if inode.kind != entry.kind => {
                report.of(entry.ino, format!("{shown} has the wrong kind"));
            }
            Some(_) => {}
        }
        if all.inodes.get(parent).is_none_or(|inode| inode.kind != FileKind::Dir || inode.nlink == 0) {
            report.of(entry.ino, format!("{shown} is in no directory"));
        }
        links.insert((entry.ino, *parent, name.clone()));
        if let Some(rest) = &entry.side {
            sides += 1;
            let row = all.sides.get(&(*parent, rest.clone()));
            if row.is_none_or(|row| row.ino != entry.ino || row.name.as_bytes() != name) {
                report.of(entry.ino, format!("{shown} has no row beside the tree"));
            }
        }
        let child = counted.entry(entry.ino).or_default();
        child.names += 1;
        child.parent = Some(*parent);
        let above = counted.entry(*parent).or_default();
        above.entries += 1;
        above.directories += u32::from(entry.kind == FileKind::Dir);
        above.sides += u32::from(entry.side.is_some());
    }
    if sides != all.sides.len() {
        report.say(format!("{} rows beside the tree for {sides} entries", all.sides.len()));
    }
    for (ino, parent, name) in links.symmetric_difference(&all.backlinks) {
        let name = name.escape_ascii();
        report.of(*ino, format!("{name} of {ino:?} in {parent:?}: name and backlink do not agree"));
    }
    counted
}

fn directory(all: &All, ino: Ino, inode: &Inode, seen: &Counted, report: &mut Report) {
    let live = ino == Ino::ROOT || seen.names > 0;
    let wanted = if live { 2 + seen.directories } else { 0 };
    if inode.nlink != wanted {
        report.of(ino, format!("directory {ino:?} has nlink {}, not {wanted}", inode.nlink));
    }
    if inode.size != seen.entries || inode.sides != seen.sides {
        let (size, sides) = (seen.entries, seen.sides);
        let (counted, counted_sides) = (inode.size, inode.sides);
        let what = format!("directory {ino:?} counts {counted} and {counted_sides}, not {size} and {sides}");
        report.of(ino, what);
    }
    let parent = if ino == Ino::ROOT { Some(ino) } else { seen.parent };
    if inode.parent != parent.map_or(0, Ino::get) {
        report.of(ino, format!("directory {ino:?} has parent {}, but is in {parent:?}", inode.parent));
    }
    if live && all.orphans.contains_key(&ino) {
        report.of(ino, format!("directory {ino:?} has a name and is an orphan"));
    }
}

fn belongings(all: &All, ino: Ino, inode: &Inode, report: &mut Report) {
    if (inode.nlink == 0) != all.orphans.contains_key(&ino) {
        report.of(ino, format!("{ino:?} has nlink {} and its orphan row does not agree", inode.nlink));
    }
    if all.xattrs.contains_key(&ino) && !inode.has(inode::XATTRS) {
        report.of(ino, format!("{ino:?} has attributes and does not know"));
    }
    if all.objects.contains(&ino) != inode.has(inode::OBJECT) {
        report.of(ino, format!("{ino:?}: object row and flag do not agree"));
    }
    let target = all.symlinks.get(&ino).copied();
    let wanted = (inode.kind == FileKind::Symlink).then_some(inode.size);
    if target != wanted {
        report.of(ino, format!("{ino:?}: symlink target of {target:?} bytes, not {wanted:?}"));
    }
}

fn uploads(all: &All, report: &mut Report) {
    let mut kept = BTreeSet::new();
    for ((upload, number), part) in &all.parts {
        kept.insert(part.ino);
        if all.uploads.get(upload).is_none_or(|row| row.completed.is_some()) {
            report.say(format!("part {number} belongs to no upload under way"));
        }
        if all.inodes.get(&part.ino).is_none_or(|inode| inode.size != part.size) {
            report.say(format!("part {number} and its inode {:?} do not agree", part.ino));
        }
    }
    for (ino, orphan) in &all.orphans {
        if (orphan.why == Why::Part) != kept.contains(ino) {
            report.of(*ino, format!("orphan {ino:?} is {:?} and its part row does not agree", orphan.why));
        }
    }
}

/// Every directory leads to the root.
fn knots(all: &All, report: &mut Report) {
    let mut good: BTreeSet<u64> = BTreeSet::from([Ino::ROOT.get(), 0]);
    for &start in all.inodes.iter().filter(|(_, inode)| inode.kind == FileKind::Dir).map(|(ino, _)| ino) {
        let mut way = BTreeSet::new();
        let mut at = start.get();
        while !good.contains(&at) {
            if !way.insert(at) {
                report.of(start, format!("directory {start:?} does not lead to the root"));
                break;
            }
            let above = Ino::new(at).and_then(|ino| all.inodes.get(&ino));
            at = above.map_or(0, |inode| inode.parent);
        }
        good.extend(way);
    }
}
