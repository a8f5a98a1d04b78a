//! Scrubbing: every sealed pack is read once in a while, so that damage is found while there is still a copy elsewhere.
//!
//! Packs are taken in the order of their ids, which are random, so old and new ones alike. Of each pack the extents that
//! files use are read past every cache, opened and hashed; the rest is waste that goes with the pack. Where an object store
//! has the packs, it is asked, whatever this host has copies of. After each pack the place is noted in a small file beside
//! the packs, and a stop costs at most that pack again. The file is a hint: when it cannot be read, the next round begins
//! anew; in front of an object store there is none.
//!
//! What is found goes where a reader's find goes: the log, once, and the list of damage.

use super::Volume;
use super::check::Progress;
use crate::api::Result;
use crate::backend::VolumeDir;
use crate::keys::map::{ExtentId, Source};
use crate::keys::{inode, map};
use crate::meta::after;
use crate::pack::{Entry, PackError, PackId};
use mooring_policy::time::Timestamp;
use mooring_protocol::types::Ino;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How to scrub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Bytes read in a second, on average; `None` for as fast as it goes.
    pub rate: Option<u64>,
    /// Begin with the first pack, wherever the last round stopped.
    pub anew: bool,
}

/// What a round of scrubbing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Packs that were read.
    pub packs: u64,
    /// Extents that were read.
    pub extents: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged extents among them.
    pub damaged: u64,
}

/// Where scrubbing of a volume stands. Kept in a file, so that it can be asked without opening the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// When the round under way began, milliseconds since 1970.
    pub begun: Option<u64>,
    /// The last pack that it read.
    after: Option<u128>,
    /// When the last whole round ended, milliseconds since 1970.
    pub completed: Option<u64>,
}

const FORM: &str = "mooring scrub 1";

impl ScrubState {
    /// Of the volume in a directory; the beginning when nothing is noted.
    #[must_use]
    pub fn read(dir: &VolumeDir) -> ScrubState {
        read(&file(dir.path())).unwrap_or_default()
    }

    /// Whether a round is under way, or the last one is `period` ago.
    #[must_use]
    pub fn is_due(&self, now: Timestamp, period: Duration) -> bool {
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.begun.is_some() || self.completed.is_none_or(|end| end.saturating_add(period) <= now.as_millis())
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string(self).map_err(std::io::Error::other)?;
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, format!("{FORM} {:08x}\n{text}\n", crc32c::crc32c(text.as_bytes())))?;
        std::fs::rename(&temporary, path)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("scrub")
}

fn read(path: &Path) -> Option<ScrubState> {
    let whole = std::fs::read_to_string(path).ok()?;
    let (head, text) = whole.split_once('\n')?;
    let text = text.trim_end();
    let crc = u32::from_str_radix(head.strip_prefix(FORM)?.trim(), 16).ok()?;
    if crc != crc32c::crc32c(text.as_bytes()) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Keeps reading at a rate.
struct Pace {
    rate: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    async fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
            tokio::time::sleep_until(self.begun + due).await;
        }
    }
}

impl Volume {
    /// Reads every sealed pack, from where the last round stopped.
    pub async fn scrub(&self, options: &ScrubOptions, progress: &Progress) -> Result<ScrubReport> {
        let path = self.config.directory.as_deref().map(file);
        let mut state = path.as_deref().and_then(read).unwrap_or_default();
        if options.anew || state.begun.is_none() {
            state = ScrubState { begun: Some(self.clock.now().as_millis()), after: None, ..state };
        }
        let mut packs: Vec<_> = self.packs.list().into_iter().filter(|pack| pack.sealed).collect();
        packs.retain(|pack| state.after.is_none_or(|after| pack.id.0 > after));
        packs.sort_unstable_by_key(|pack| pack.id);
        progress.begin(packs.iter().map(|pack| pack.bytes).sum());
        let mut report = ScrubReport::default();
        let mut pace = Pace { rate: options.rate, begun: Instant::now(), bytes: 0 };
        for pack in packs {
            self.alive()?;
            self.scrub_pack(pack.id, &mut pace, &mut report).await?;
            progress.add(pack.bytes);
            state.after = Some(pack.id.0);
            note(path.as_deref(), &state);
        }
        state = ScrubState { begun: None, after: None, completed: Some(self.clock.now().as_millis()) };
        note(path.as_deref(), &state);
        Ok(report)
    }

    async fn scrub_pack(&self, pack: PackId, pace: &mut Pace, report: &mut ScrubReport) -> Result<()> {
        let kept = match self.packs.kept(pack).await {
            Ok(kept) => Arc::new(kept),
            // It was dropped since the round began.
            Err(PackError::Missing { .. }) if !self.is_listed(pack) => return Ok(()),
            Err(error @ PackError::Missing { .. }) => {
                report.damaged += 1;
                self.note_gone_pack(pack, &error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let (entries, unlisted) = self.packs.kept_entries(&kept).await?;
        if let Some(error) = unlisted {
            self.note_damaged_map(pack, &error);
            report.damaged += 1;
        }
        report.packs += 1;
        let mut bad = Vec::new();
        for entry in entries {
            let (id, place) = (id_of(&entry), entry.extent);
            if self.stored_place(id).await? != Some(place) {
                continue;
            }
            match self.packs.verify_kept(&kept, &place).await {
                Ok(()) => self.family.damages.heal(&place),
                Err(PackError::Missing { .. }) => return Ok(()),
                Err(error @ PackError::Corrupt { .. }) => bad.push((id, place, error)),
                Err(error) => return Err(error.into()),
            }
            report.extents += 1;
            report.bytes += place.pack_bytes();
            pace.took(place.pack_bytes()).await;
        }
        if bad.is_empty() {
            return Ok(());
        }
        report.damaged += bad.len() as u64;
        let files = self.files_using(&bad.iter().map(|(id, ..)| *id).collect()).await?;
        for (id, place, error) in bad {
            let inos: Vec<Ino> = files.get(&id).into_iter().flatten().copied().collect();
            self.note_damage(id, &place, &inos, &error).await;
        }
        Ok(())
    }

    fn is_listed(&self, pack: PackId) -> bool {
        self.packs.list().iter().any(|listed| listed.id == pack)
    }

    /// The files whose maps name some of these extents: a walk over all maps, done when there is damage.
    pub(crate) async fn files_using(
        &self,
        wanted: &BTreeSet<ExtentId>,
    ) -> Result<BTreeMap<ExtentId, BTreeSet<Ino>>> {
        const PAGE: usize = 4096;
        let view = self.rows().meta().view().await?;
        let mut maps: HashMap<u64, BTreeSet<ExtentId>> = HashMap::new();
        let (mut from, end) = (b"e".to_vec(), b"f");
        loop {
            let page = view.scan(&from, end, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            from = after(last);
            for (key, value) in &page {
                if let (Ok((map, _)), Ok(map::Row { source: Source::Extent { id, .. }, .. })) =
                    (map::parse(key), map::decode(value))
                    && wanted.contains(&id)
                {
                    maps.entry(map).or_default().insert(id);
                }
            }
        }
        let mut files: BTreeMap<ExtentId, BTreeSet<Ino>> = BTreeMap::new();
        let (mut from, end) = (b"i".to_vec(), b"j");
        loop {
            let page = view.scan(&from, end, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(files) };
            from = after(last);
            for (key, value) in &page {
                let (Ok((_, ino)), Ok(inode)) = (inode::parse(key), inode::decode(value)) else { continue };
                for id in maps.get(&inode.map).into_iter().flatten() {
                    files.entry(*id).or_default().insert(ino);
                }
            }
        }
    }
}

/// The name of an extent in the rows.
pub(crate) fn id_of(entry: &Entry) -> ExtentId {
    ExtentId { domain: entry.domain.0, hash: entry.extent.hash }
}

fn note(path: Option<&Path>, state: &ScrubState) {
    let Some(path) = path else { return };
    if let Err(error) = state.write(path) {
        tracing::warn!(path = %path.display(), %error, "cannot note how far scrubbing is; it begins anew after a stop");
    }
}
