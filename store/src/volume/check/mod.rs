//! The checker: reads every row of a volume and holds each against the rows it must agree with.
//!
//! It keeps what it reads in memory and wants the volume at rest, so it is for tests, and for a volume that is suspected of
//! damage. It checks volumes of one layer.

use super::Volume;
use super::rows::scan;
use crate::api::Result;
use crate::keys::dentry::Dentry;
use crate::keys::extent::Extent;
use crate::keys::inode::Inode;
use crate::keys::map::{ExtentId, Row};
use crate::keys::orphan::Orphan;
use crate::keys::part::Part;
use crate::keys::side::Side;
use crate::keys::upload::Upload;
use crate::keys::{
    RowError, backlink, counter, dentry, extent, inode, map, object, orphan, pack, part, side, symlink,
    upload, xattr,
};
use crate::meta::after;
use bytes::Bytes;
use mooring_protocol::types::Ino;
use std::collections::{BTreeMap, BTreeSet};

mod data;
mod tree;

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(String);

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What does not agree; empty for a sound volume.
    pub findings: Vec<Finding>,
    /// Inodes there are.
    pub inodes: u64,
    /// Inodes without a name.
    pub orphans: u64,
    /// Names that no object key can hold: not UTF-8 (nor is anything below such a directory).
    pub invisible: u64,
}

impl Report {
    fn say(&mut self, finding: String) {
        self.findings.push(Finding(finding));
    }
}

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
    counters: Vec<(counter::Counter, u64)>,
    /// Entries found twice under one name, as a file and as a directory.
    twice: Vec<(Ino, Bytes)>,
}

impl All {
    fn add(&mut self, key: &Bytes, value: &Bytes) -> Result<(), RowError> {
        match key.first() {
            Some(b'i') => {
                let (_, ino) = inode::parse(key)?;
                self.inodes.insert(ino, inode::decode(value)?);
            }
            Some(b'd') => {
                let (_, parent, cursor) = dentry::parse(key)?;
                let name = Bytes::copy_from_slice(cursor.strip_suffix(b"/").unwrap_or(cursor));
                if self.dentries.insert((parent, name.clone()), dentry::decode(value)?).is_some() {
                    self.twice.push((parent, name));
                }
            }
            Some(b'b') => {
                let (_, ino, parent, name) = backlink::parse(key)?;
                backlink::decode(value)?;
                self.backlinks.insert((ino, parent, Bytes::copy_from_slice(name)));
            }
            Some(b'x') => *self.xattrs.entry(xattr::parse(key)?.1).or_default() += 1,
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
                let (_, _, id) = upload::parse(key)?;
                let id = crate::objects::id_bytes(id).map_err(|_| RowError::Value("upload"))?;
                self.uploads.insert(id, upload::decode(value)?);
            }
            Some(b'q') => {
                self.parts.insert(part::parse(key)?, part::decode(value)?);
            }
            Some(b'c') => self.counters.push((counter::parse(key)?, counter::decode(value)?)),
            Some(b'y') => {}
            _ => return Err(RowError::Key { family: "any", key: key.escape_ascii().to_string() }),
        }
        Ok(())
    }
}

impl Volume {
    /// Checks every row against the others. The volume must be at rest.
    pub async fn check(&self) -> Result<Report> {
        const PAGE: usize = 4096;
        let mut report = Report::default();
        let mut all = All::default();
        let mut from = Vec::new();
        loop {
            let page = scan(&**self.rows().meta(), &[], &from, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            from = after(last);
            for (key, value) in page {
                if let Err(error) = all.add(&key, &value) {
                    report.say(error.to_string());
                }
            }
        }
        report.inodes = all.inodes.len() as u64;
        report.orphans = all.orphans.len() as u64;
        tree::check(&all, &mut report);
        data::check(&all, &mut report);
        Ok(report)
    }
}
