//! The checker: holds every row of a volume against the rows it must agree with, and against the packs.
//!
//! It reads a view of the rows as they were at one moment ([`crate::meta::View`]), so others may go on writing. What the
//! view says of packs is asked of the packs as they are now, and looked up again before it is called wrong: a pack may
//! have been repacked meanwhile.
//!
//! ```text
//!   rows ([`All`]) ─▶ tree: names, inodes, backlinks, counts     ─▶ findings, each with the files it hurts
//!                  ─▶ data: maps, references, live bytes, totals
//!                  ─▶ packs: reverse maps, places; with `data`, every extent is read and hashed
//! ```
//!
//! It keeps the rows in memory: about half a kilobyte for each inode. The head is held against itself through its layers,
//! then each other head and each snapshot through its own; maps and references are counted once, over the rows of all layers ([`layers`]).

use super::Volume;
use super::rows::scan_view;
use crate::api::Result;
use crate::keys::account::Account;
use crate::keys::dentry::Dentry;
use crate::keys::extent::Extent;
use crate::keys::inode::Inode;
use crate::keys::map::{ExtentId, Row};
use crate::keys::orphan::{Orphan, Why};
use crate::keys::part::Part;
use crate::keys::side::Side;
use crate::keys::upload::Upload;
use crate::keys::{
    HeadId, RowError, TOMBSTONE, account, backlink, counter, dentry, extent, inode, map, object, orphan,
    pack, part, side, symlink, upload, xattr,
};
use crate::meta::after;
use bytes::Bytes;
use mooring_protocol::types::Ino;
use std::collections::{BTreeMap, BTreeSet};

mod data;
mod layers;
mod packs;
mod repair;
mod report;
mod tree;

pub use report::{CheckOptions, Finding, Kind, Progress, Report};

/// Every row of a volume, by family.
#[derive(Default)]
struct All {
    inodes: BTreeMap<Ino, Inode>,
    /// By parent and name.
    dentries: BTreeMap<(Ino, Bytes), Dentry>,
    backlinks: BTreeSet<(Ino, Ino, Bytes)>,
    xattrs: BTreeMap<Ino, u64>,
    symlinks: BTreeMap<Ino, u64>,
    sides: BTreeMap<(Ino, Bytes), Side>,
    objects: BTreeSet<Ino>,
    orphans: BTreeMap<Ino, Orphan>,
    maps: BTreeMap<u64, Vec<(u64, Row)>>,
    extents: BTreeMap<ExtentId, Extent>,
    packs: BTreeMap<u128, u64>,
    uploads: BTreeMap<[u8; 16], Upload>,
    parts: BTreeMap<([u8; 16], u16), Part>,
    counters: Vec<(counter::Counter, HeadId, u64)>,
    /// Uploads of other heads.
    foreign: BTreeSet<[u8; 16]>,
    account: Option<Account>,
    /// Entries found twice under one name, as a file and as a directory.
    twice: Vec<(Ino, Bytes)>,
    /// Entries by parent and cursor, and attributes by name, until all layers are read.
    cursors: BTreeMap<(Ino, Bytes), Dentry>,
    attributes: BTreeSet<(Ino, Bytes)>,
    layers: layers::Layers,
}

impl All {
    fn add(&mut self, key: &Bytes, value: &Bytes) -> Result<(), RowError> {
        if !self.layers.shows(key, value)? {
            return Ok(());
        }
        if value == TOMBSTONE {
            return self.remove(key);
        }
        match key.first() {
            Some(b'i') => {
                let (_, ino) = inode::parse(key)?;
                self.inodes.insert(ino, inode::decode(value)?);
            }
            Some(b'd') => {
                let (_, parent, cursor) = dentry::parse(key)?;
                self.cursors.insert((parent, Bytes::copy_from_slice(cursor)), dentry::decode(value)?);
            }
            Some(b'b') => {
                let (_, ino, parent, name) = backlink::parse(key)?;
                backlink::decode(value)?;
                self.backlinks.insert((ino, parent, Bytes::copy_from_slice(name)));
            }
            Some(b'x') => {
                let (_, ino, name) = xattr::parse(key)?;
                self.attributes.insert((ino, Bytes::copy_from_slice(name)));
            }
            Some(b'l') => {
                let (_, ino) = symlink::parse(key)?;
                self.symlinks.insert(ino, symlink::decode(value)?.len() as u64);
            }
            Some(b's') => {
                let (_, dir, rest) = side::parse(key)?;
                self.sides.insert((dir, Bytes::copy_from_slice(rest)), side::decode(value)?);
            }
            Some(b'm') => {
                object::decode(value)?;
                self.objects.insert(object::parse(key)?.1);
            }
            Some(b'o') => {
                let (_, ino) = orphan::parse(key)?;
                self.orphans.insert(ino, orphan::decode(value)?);
            }
            _ => self.add_data(key, value)?,
        }
        Ok(())
    }

    fn add_data(&mut self, key: &Bytes, value: &Bytes) -> Result<(), RowError> {
        match key.first() {
            Some(b'e') => {
                let (map, end) = map::parse(key)?;
                self.maps.entry(map).or_default().push((end, map::decode(value)?));
            }
            Some(b'h') => {
                let id = extent::parse(key)?;
                self.extents.insert(id, extent::decode(id, value)?);
            }
            Some(b'p') => {
                self.packs.insert(pack::parse(key)?, pack::decode(value)?);
            }
            Some(b'u') => {
                let (head, _, _, id) = upload::parse(key)?;
                let id = crate::objects::id_bytes(id).map_err(|_| RowError::Value("upload"))?;
                let row = upload::decode(value)?;
                if head == self.layers.head {
                    self.uploads.insert(id, row);
                } else {
                    self.foreign.insert(id);
                }
            }
            Some(b'q') => {
                self.parts.insert(part::parse(key)?, part::decode(value)?);
            }
            Some(b'a') => self.account = Some(account::decode(value)?),
            Some(b'c') => {
                let (which, head) = counter::parse(key)?;
                self.counters.push((which, head, counter::decode(value)?));
            }
            Some(b'y' | b'n' | b'f' | b'g') => {}
            _ => return Err(RowError::Key { family: "any", key: key.escape_ascii().to_string() }),
        }
        Ok(())
    }
}

impl All {
    /// Every row of a view, those with layers as a head shows them.
    async fn read(view: &dyn crate::meta::View, head: HeadId, report: &mut Report) -> Result<All> {
        All::read_through(view, layers::Layers::read(view, head).await?, report).await
    }

    /// Every row of a view, those with layers as they show through some.
    async fn read_through(
        view: &dyn crate::meta::View,
        layers: layers::Layers,
        report: &mut Report,
    ) -> Result<All> {
        const PAGE: usize = 4096;
        let mut all = All { layers, ..All::default() };
        let mut from = Vec::new();
        loop {
            let page = scan_view(view, &[], &from, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            from = after(last);
            for (key, value) in page {
                if let Err(error) = all.add(&key, &value) {
                    report.say(error.to_string());
                }
            }
        }
        all.settle();
        Ok(all)
    }

    /// A newer layer hides the row. Layers lie in the order in which they were made, so it was read before.
    fn remove(&mut self, key: &Bytes) -> Result<(), RowError> {
        match key.first() {
            Some(b'i') => drop(self.inodes.remove(&inode::parse(key)?.1)),
            Some(b'd') => {
                let (_, parent, cursor) = dentry::parse(key)?;
                self.cursors.remove(&(parent, Bytes::copy_from_slice(cursor)));
            }
            Some(b'b') => {
                let (_, ino, parent, name) = backlink::parse(key)?;
                self.backlinks.remove(&(ino, parent, Bytes::copy_from_slice(name)));
            }
            Some(b'x') => {
                let (_, ino, name) = xattr::parse(key)?;
                self.attributes.remove(&(ino, Bytes::copy_from_slice(name)));
            }
            Some(b'l') => drop(self.symlinks.remove(&symlink::parse(key)?.1)),
            Some(b's') => {
                let (_, dir, rest) = side::parse(key)?;
                self.sides.remove(&(dir, Bytes::copy_from_slice(rest)));
            }
            Some(b'm') => drop(self.objects.remove(&object::parse(key)?.1)),
            Some(b'o') => drop(self.orphans.remove(&orphan::parse(key)?.1)),
            _ => return Err(RowError::Value("tombstone")),
        }
        Ok(())
    }

    fn settle(&mut self) {
        for ((parent, cursor), entry) in std::mem::take(&mut self.cursors) {
            let name = cursor.slice(..cursor.strip_suffix(b"/").unwrap_or(&cursor).len());
            if self.dentries.insert((parent, name.clone()), entry).is_some() {
                self.twice.push((parent, name));
            }
        }
        let foreign = std::mem::take(&mut self.foreign);
        self.parts.retain(|(upload, _), _| !foreign.contains(upload));
        if self.layers.head != HeadId::FIRST {
            // Of its source, at the time it was cloned: the next purge takes them away.
            let parts: BTreeSet<Ino> = self.parts.values().map(|part| part.ino).collect();
            let lost = self
                .orphans
                .iter_mut()
                .filter(|(ino, orphan)| orphan.why == Why::Part && !parts.contains(ino));
            lost.for_each(|(_, orphan)| orphan.why = Why::Staged);
        }
        for (ino, _) in std::mem::take(&mut self.attributes) {
            *self.xattrs.entry(ino).or_default() += 1;
        }
    }

    /// How a file is reached: the path of its first name, from the root on. `None` for what has no name.
    fn path(&self, ino: Ino, names: &BTreeMap<Ino, (Ino, &Bytes)>) -> Option<String> {
        let (mut at, mut parts) = (ino, Vec::new());
        while at != Ino::ROOT {
            let (parent, name) = names.get(&at)?;
            parts.push(name.escape_ascii().to_string());
            // A knot of directories has no path.
            if parts.len() > self.inodes.len() {
                return None;
            }
            at = *parent;
        }
        parts.reverse();
        Some(format!("/{}", parts.join("/")))
    }

    fn names(&self) -> BTreeMap<Ino, (Ino, &Bytes)> {
        self.dentries.iter().map(|((parent, name), entry)| (entry.ino, (*parent, name))).collect()
    }
}

impl Volume {
    /// Checks every row against the others, and places against packs' reverse maps.
    pub async fn check(&self) -> Result<Report> {
        self.check_with(&CheckOptions::default(), &Progress::default()).await
    }

    /// Checks the volume as `options` say. Others may work with it meanwhile.
    pub async fn check_with(&self, options: &CheckOptions, progress: &Progress) -> Result<Report> {
        self.alive()?;
        let mut report = Report { kind: Kind::Rows, ..Report::default() };
        let view = self.rows().meta().view().await?;
        let all = All::read(&*view, self.head_id(), &mut report).await?;
        layers::heads(&*view, &all, &mut report).await?;
        layers::snapshots(&*view, &all, &mut report).await?;
        drop(view);
        report.kind = Kind::Rows;
        report.inodes = all.inodes.len() as u64;
        report.orphans = all.orphans.len() as u64;
        report.extents = all.extents.len() as u64;
        report.kind = Kind::Namespace;
        tree::check(&all, &mut report);
        data::check(&all, &mut report);
        packs::check(self, &all, options, progress, &mut report).await?;
        report.name_files(&all);
        Ok(report)
    }
}
