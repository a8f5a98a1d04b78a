//! A volume whose metadata is lost, put together again.
//!
//! # From what
//! 1. **The newest checkpoint that opens** ([`crate::checkpoint`]): all rows of some moment.
//! 2. **The journal**, when it reaches back to that moment: then nothing at all is missing, and this is where it ends.
//! 3. **The packs.** Each keeps of every extent the map and offset it was written for, its domain and its hash. What lies
//!    behind the place where the checkpoint saw a pack end came later.
//!
//! # How
//! The metadata there is, whole or not, and the journal are put aside into `rebuilding/`, and kept afterwards under
//! `lost-<moment>/`: nothing is destroyed. A new engine gets the rows. A row whose extent is not where it says gets the
//! place of one with the same hash, if a pack has it. Totals are counted again.
//!
//! Then come the extents that are newer. Those of a map that a file of the checkpoint has are put into that file, where
//! it is certain which of two is the later: extents of one pack stand in the order they were written, those of two
//! writers in the order of their epochs. Where two packs of one writer hold the same range, the file stays as the
//! checkpoint has it, and what is newer goes beside it. What belongs to no file that is known becomes a file of its own:
//! `lost+found/map-<number>`. Names, sizes, small files that were kept in rows, and extents that were shared with older
//! ones instead of being stored again are not in packs: of what came after the checkpoint they are lost.
//!
//! A stop in between leaves `rebuilding/`, with which a volume does not open; the next rebuild begins from it again.

mod remote;
mod stored;

pub(super) use remote::refuse_marked;

use stored::{Late, Stored, stored};

use super::check::{CheckOptions, Progress};
use super::gc::GcConfig;
use super::map::Piece;
use super::scrub::id_of;
use super::{LocalOptions, StoreOptions, Volume};
use crate::api::{Authority, Caller, Result, Tree};
use crate::backend::{BackendError, VolumeDir};
use crate::checkpoint::{self, Head};
use crate::error::StoreError;
use crate::journal::JournalOptions;
use crate::keys::counter::{self, Counter};
use crate::keys::extent::{self, Extent};
use crate::keys::inode::{self, Inode};
use crate::keys::map::{BLOCK, Row, Source};
use crate::keys::{HeadId, TOMBSTONE, frozen};
use crate::meta::{Batch, Meta, Op, Seq, SlateMeta};
use crate::pack::PackStore;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{FileKind, Ino, Name, NewNode, Time};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Rows of one commit, bytes.
const STEP_BYTES: usize = 1 << 20;

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// When the checkpoint was taken that it began with, milliseconds since 1970; `None`: there was none that opens.
    pub checkpoint: Option<u64>,
    /// Checkpoints that do not open, and why.
    pub unreadable: Vec<String>,
    /// The journal reached back to it: nothing is missing.
    pub journal: bool,
    /// Why the journal was of no use, where that is an error.
    pub journal_error: Option<String>,
    /// Rows there were to begin with.
    pub rows: u64,
    /// Extents that were found at another place than their rows said.
    pub moved: u64,
    /// Extents that rows name and no pack has: what their files cannot read.
    pub lost: u64,
    /// Files that got newer bytes.
    pub extended: u64,
    /// Files that were put into `lost+found/`.
    pub found: u64,
    /// What the check says at the end.
    pub findings: u64,
    /// Where the metadata of before is kept.
    pub aside: PathBuf,
}

/// A volume that must not be opened as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RebuildNeeded {
    /// Packs without metadata: opened, it would be an empty bucket, and its bytes garbage.
    #[error(
        "the metadata of {path} is gone, and there are packs; put it back, or run `mooring-gateway bucket rebuild`"
    )]
    Lost {
        /// The volume's directory.
        path: PathBuf,
    },
    /// A rebuild in an object store is under way, or did not come to its end.
    #[error(
        "{place} is being rebuilt, or that was stopped; run `mooring-gateway bucket rebuild` again when it was"
    )]
    StoppedInStore {
        /// The volume's part of the store.
        place: String,
    },
    /// A rebuild did not come to its end.
    #[error("a rebuild of {path} was stopped; run `mooring-gateway bucket rebuild` again")]
    Stopped {
        /// The volume's directory.
        path: PathBuf,
    },
}

/// Refuses a volume that has bytes and no rows.
pub(super) fn refuse_without_rows(dir: &VolumeDir) -> Result<()> {
    let refuse = |error: RebuildNeeded| Err(StoreError::Store(Box::new(error)));
    let path = dir.path().to_path_buf();
    if dir.rebuilding().exists() {
        return refuse(RebuildNeeded::Stopped { path });
    }
    if !has_manifest(dir)? && (has_entries(&dir.packs())? || has_entries(&dir.checkpoints())?) {
        return refuse(RebuildNeeded::Lost { path });
    }
    Ok(())
}

fn has_manifest(dir: &VolumeDir) -> Result<bool> {
    has_entries(&dir.meta().join("db/manifest"))
}

fn has_entries(path: &std::path::Path) -> Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BackendError::io("list", path, error).into()),
    }
}

/// The operator, who may do everything.
struct Operator;

impl Authority for Operator {
    fn check(&self, _: Action, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }
}

impl Volume {
    /// Puts a volume together again; see the module documentation. Nobody has it open.
    pub async fn rebuild(options: LocalOptions) -> Result<Rebuilt> {
        let dir = options.dir.clone();
        let mut report = Rebuilt::default();
        dir.prepare()?;
        // Until the engine opens the directory in its turn.
        let lock = dir.lock()?;
        put_aside(&dir)?;
        drop(lock);
        work(&Ground::Directory, &options, &mut report).await?;
        report.aside = finish(&dir, options.clock.now().as_millis())?;
        Ok(report)
    }
}

/// Where tables and packs are.
enum Ground {
    Directory,
    Store(Box<StoreOptions>),
}

impl Ground {
    async fn parts(&self, options: &LocalOptions) -> Result<(Arc<SlateMeta>, Arc<PackStore>)> {
        match self {
            Ground::Directory => Volume::open_parts(options).await,
            Ground::Store(store) => remote::parts(store).await,
        }
    }
}

/// Everything between putting aside and the end.
async fn work(ground: &Ground, options: &LocalOptions, report: &mut Rebuilt) -> Result<()> {
    let gc = GcConfig { interval: std::time::Duration::ZERO, ..options.config.gc };
    let config = super::Config { gc, ..options.config.clone() };
    let options = &LocalOptions { config, ..options.clone() };
    let base = newest(options, report).await?;
    let (newer, head) = fill(ground, options, base, report).await?;
    let config = super::Config { head, ..options.config.clone() };
    let options = &LocalOptions { config, ..options.clone() };
    // Opened anew, for the committer knows by heart what was mended.
    let (meta, packs) = ground.parts(options).await?;
    let volume = Volume::open_with(options, meta, packs).await?;
    let added = add(&volume, &newer, report).await;
    let checked = match added {
        Ok(()) => volume.repair(&CheckOptions::default(), &Progress::default()).await,
        Err(error) => Err(error),
    };
    // Epochs begin anew with the tables: what is written from here on is told from the rest by being behind this.
    let checked = match checked {
        Ok(checked) => volume.checkpoint().await.map(|_| checked),
        Err(error) => Err(error),
    };
    volume.close().await?;
    report.findings = checked?.1.total;
    Ok(())
}

/// Moves metadata and journal out of the way, durably. After a stop, what the stopped rebuild made goes instead.
fn put_aside(dir: &VolumeDir) -> Result<()> {
    let to = dir.rebuilding();
    let io = |op, path: &std::path::Path, error| StoreError::from(BackendError::io(op, path, error));
    if !to.exists() {
        std::fs::create_dir(&to).map_err(|error| io("create", &to, error))?;
    }
    for from in [dir.meta(), dir.journal()] {
        let Some(name) = from.file_name() else { continue };
        let kept = to.join(name);
        if kept.exists() {
            std::fs::remove_dir_all(&from).map_err(|error| io("remove", &from, error))?;
        } else {
            std::fs::rename(&from, &kept).map_err(|error| io("put aside", &from, error))?;
        }
    }
    crate::backend::sync_dir(&to)?;
    crate::backend::sync_dir(dir.path())?;
    Ok(dir.prepare()?)
}

fn finish(dir: &VolumeDir, now: u64) -> Result<PathBuf> {
    let aside = dir.path().join(format!("lost-{now}"));
    let from = dir.rebuilding();
    std::fs::rename(&from, &aside).map_err(|error| BackendError::io("rename", &from, error))?;
    crate::backend::sync_dir(dir.path())?;
    Ok(aside)
}

/// The rows to begin with, and what the checkpoint says of itself.
struct Base {
    rows: BTreeMap<Bytes, Bytes>,
    head: Head,
}

async fn newest(options: &LocalOptions, report: &mut Rebuilt) -> Result<Base> {
    let (dir, keys, random) = (options.dir.clone(), options.keys.clone(), options.random.clone());
    let mut said = std::mem::take(report);
    let work = move || -> Result<(Base, Rebuilt)> {
        let mut base = Base { rows: BTreeMap::new(), head: Head::default() };
        for path in checkpoint::list(&dir).map_err(|error| StoreError::Store(Box::new(error)))? {
            match checkpoint::read(&path, &keys) {
                Ok(found) => {
                    said.checkpoint = Some(found.head.taken);
                    base = Base { rows: found.rows.into_iter().collect(), head: found.head };
                    break;
                }
                Err(error) => said.unreadable.push(error.to_string()),
            }
        }
        let journal = JournalOptions::new(dir.rebuilding().join("journal"), keys, random);
        match crate::meta::salvage(journal, Seq(base.head.seq)) {
            Ok(Some((ops, _))) => {
                said.journal = true;
                for op in ops {
                    match op {
                        Op::Put(key, value) => base.rows.insert(key, value),
                        Op::Delete(key) => base.rows.remove(&key),
                    };
                }
            }
            Ok(None) => {}
            Err(error) => said.journal_error = Some(error.to_string()),
        }
        said.rows = base.rows.len() as u64;
        Ok((base, said))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (base, said) = done.map_err(|error| StoreError::Store(Box::new(error)))??;
    *report = said;
    Ok(base)
}

/// Extents that came after the checkpoint, by the map they were written for, in the order they were written.
struct Newer {
    maps: BTreeMap<u64, Vec<Late>>,
    /// Files that have a map, as the checkpoint knows them.
    files: HashMap<u64, Ino>,
}

/// Fills a new engine with the rows, at places where their extents are, and counts totals again. Returns what is newer, and
/// a head to open the volume with: the one that was asked for, if it is there.
async fn fill(
    ground: &Ground,
    options: &LocalOptions,
    base: Base,
    report: &mut Rebuilt,
) -> Result<(Newer, HeadId)> {
    let (meta, packs) = ground.parts(options).await?;
    let stored = stored(&packs).await?;
    let Base { mut rows, head } = base;
    for (key, value) in rows.range_mut(extent_range()) {
        let id = extent::parse(key)?;
        let row = extent::decode(id, value)?;
        if stored.places.contains(&(row.place.pack, row.place.offset)) {
            continue;
        }
        match stored.by_id.get(&id) {
            Some(place) => {
                *value = extent::encode(&Extent { place: *place, ..row });
                report.moved += 1;
            }
            None => report.lost += 1,
        }
    }
    // With the journal nothing is newer: what no row names is garbage.
    let newer = if report.journal { Vec::new() } else { late(&stored, &rows, &head)? };
    let highest = stored.all.iter().map(|late| late.entry.owner.0).max().unwrap_or(0);
    let newer = by_map(newer, &rows)?;
    if rows.is_empty() {
        super::heads::format(&*meta, &*options.clock).await?;
    }
    write(&*meta, rows).await?;
    let key = counter::key(Counter::NextId);
    let next = meta.get(&key).await?.map(|value| counter::decode(&value)).transpose()?.unwrap_or(0);
    let mut batch = Batch::new();
    batch.put(key, counter::encode(next.max(highest + 1)));
    meta.commit(batch).await?;
    let heads = super::heads::heads(&*meta).await?;
    let wanted = heads.iter().find(|head| **head == options.config.head);
    let head = wanted.or(heads.first()).copied().unwrap_or_default();
    let config = super::Config { head, ..options.config.clone() };
    let options = LocalOptions { config, ..options.clone() };
    let volume = Volume::open_with(&options, meta, packs).await?;
    let repaired = volume.repair(&CheckOptions::default(), &Progress::default()).await;
    volume.close().await?;
    repaired?;
    Ok((newer, head))
}

fn extent_range() -> std::ops::Range<Bytes> {
    let prefix = extent::prefix();
    Bytes::from(prefix.clone())..Bytes::from(crate::meta::prefix_end(&prefix))
}

async fn write(meta: &dyn Meta, rows: BTreeMap<Bytes, Bytes>) -> Result<()> {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(key, value);
        if batch.bytes() >= STEP_BYTES {
            meta.commit(std::mem::take(&mut batch)).await?;
        }
    }
    meta.commit(batch).await?;
    meta.sync().await?;
    Ok(())
}

fn late(stored: &Stored, rows: &BTreeMap<Bytes, Bytes>, head: &Head) -> Result<Vec<Late>> {
    let ends: HashMap<u128, u64> = head.packs.iter().copied().collect();
    let is_late = |late: &Late| {
        let extent = &late.entry.extent;
        let came_later = ends.get(&extent.pack.0).is_none_or(|end| u64::from(extent.offset) >= *end);
        // Of a repack, or of an operation that found it stored: a row names it, here or elsewhere.
        let known = rows.contains_key(&extent::key(id_of(&late.entry))[..]);
        came_later && !known && late.entry.owner.0 != 0 && late.start().is_multiple_of(BLOCK)
    };
    Ok(stored.all.iter().filter(|late| is_late(late)).copied().collect())
}

fn by_map(late: Vec<Late>, rows: &BTreeMap<Bytes, Bytes>) -> Result<Newer> {
    let mut newer = Newer { maps: BTreeMap::new(), files: HashMap::new() };
    for entry in late {
        newer.maps.entry(entry.entry.owner.0).or_default().push(entry);
    }
    for entries in newer.maps.values_mut() {
        entries.sort_unstable_by_key(|late| (late.epoch, late.entry.extent.pack, late.entry.extent.offset));
    }
    for (key, value) in rows.range(Bytes::from_static(b"i")..Bytes::from_static(b"j")) {
        if value == TOMBSTONE {
            continue;
        }
        let ((_, ino), inode) = (inode::parse(key)?, inode::decode(value)?);
        // A map that others show too must not change.
        let shared = rows.contains_key(&frozen::key(inode.map)[..]);
        if inode.kind == FileKind::File && inode.nlink > 0 && !shared {
            newer.files.insert(inode.map, ino);
        }
    }
    Ok(newer)
}

/// Whether it is certain which of two extents of the same range is the later.
fn is_certain(entries: &[Late]) -> bool {
    let mut sorted: Vec<&Late> = entries.iter().collect();
    sorted.sort_unstable_by_key(|late| late.start());
    let mut open: Vec<&Late> = Vec::new();
    sorted.into_iter().all(|late| {
        open.retain(|earlier| earlier.end() > late.start());
        open.push(late);
        let same =
            |other: &&Late| other.epoch != late.epoch || other.entry.extent.pack == late.entry.extent.pack;
        open.iter().all(same)
    })
}

/// Puts newer extents into their files, or into files of their own.
async fn add(volume: &Arc<Volume>, newer: &Newer, report: &mut Rebuilt) -> Result<()> {
    let now = Time::from_millis(volume.clock.now().as_millis());
    let cx = Caller { authority: Arc::new(Operator), root: Ino::ROOT, confined: false, now, trace: 0 };
    let mut heads = vec![volume.clone()];
    for head in volume.heads().await?.into_iter().filter(|head| *head != volume.head_id()) {
        heads.push(volume.open_head(super::Config { head, ..volume.config.clone() }).await?);
    }
    for (map, entries) in &newer.maps {
        let known = newer.files.get(map).copied().filter(|_| is_certain(entries));
        // Of a snapshot alone, it is not there to be written.
        let mut there = None;
        for head in &heads {
            let Some(ino) = known.filter(|_| there.is_none()) else { break };
            let own = head.peek_inode(ino).await?.filter(|inode| inode.map == *map);
            there = own.map(|_| (head, ino));
        }
        match there {
            Some((head, ino)) => {
                head.refer(&cx, ino, entries).await?;
                report.extended += 1;
            }
            None => {
                let ino = lost_and_found(volume, &cx, *map).await?;
                volume.refer(&cx, ino, entries).await?;
                report.found += 1;
            }
        }
    }
    for head in heads.iter().skip(1) {
        head.close().await?;
    }
    Ok(())
}

/// A new file for what was written into a map.
async fn lost_and_found(volume: &Volume, cx: &Caller, map: u64) -> Result<Ino> {
    let named = |text: String| Name::new(text.as_bytes()).map_err(|_| StoreError::NameTooLong);
    let called = named("lost+found".to_owned())?;
    let dir = match volume.lookup(cx, Ino::ROOT, &called).await {
        Ok(found) => found.ino,
        Err(StoreError::NotFound) => {
            volume.create(cx, Ino::ROOT, &called, 0o700, (0, 0), &NewNode::Dir).await?.ino
        }
        Err(error) => return Err(error),
    };
    let file = NewNode::File { open: None };
    let mut text = format!("map-{map}");
    loop {
        match volume.create(cx, dir, &named(text.clone())?, 0o600, (0, 0), &file).await {
            Ok(made) => return Ok(made.ino),
            Err(StoreError::Exists) => text.push('+'),
            Err(error) => return Err(error),
        }
    }
}

impl Volume {
    /// Makes a file refer to stored extents at the offsets they were written for, in this order.
    async fn refer(&self, cx: &Caller, ino: Ino, entries: &[Late]) -> Result<()> {
        for late in entries {
            let held = self.lock(cx, &[ino], &[]).await?;
            let mut old = self.file(ino).await?;
            if old.has(inode::TRIM) {
                old = self.finish_trim(&held, ino, old).await?;
            }
            let (start, len) = (late.start(), u64::from(late.entry.extent.raw_len));
            let blocks = len.div_ceil(BLOCK).max(1);
            let source = Source::Extent { id: id_of(&late.entry), skip: 0 };
            let stored = Some(super::change::Stored::At(self.packs.found(late.entry.extent)));
            let piece = Piece { start, row: Row { blocks, len, source }, stored };
            let mut tx = self.tx(&held);
            let range = (start, start + blocks * BLOCK);
            let grown = self.replace_range(&mut tx, old.map, range, std::slice::from_ref(&piece)).await?;
            let mut new = Inode::clone(&old);
            new.size = new.size.max(start + len);
            new.blocks = new.blocks.saturating_add_signed(grown);
            new.modify(cx.now, None);
            tx.set_inode(ino, &old, new);
            self.commit(tx.done()).await?;
        }
        Ok(())
    }
}
