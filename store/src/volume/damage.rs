//! Bytes that do not check, remembered until they do again, or nobody wants them any more.
//!
//! A read that meets damage fails for exactly the range that was damaged. The first time it is written to the log, with
//! pack, place and file; after that the extent is in this list, which `status` and `bucket show` print, and which a later
//! read of the same bytes takes it off again. An extent that no file uses any more leaves the list when it is asked for.
//!
//! The list is in memory and bounded. Scrubbing fills it again after a restart.

use super::Volume;
use crate::api::Result;
use crate::keys::backlink;
use crate::keys::map::ExtentId;
use crate::pack::{ExtentRef, PackError, PackId};
use mooring_policy::time::Timestamp;
use mooring_protocol::types::Ino;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Damaged extents that are kept with their words; more are only counted.
const MAX_KNOWN: usize = 10_000;
/// Files named for one extent.
const MAX_PATHS: usize = 10;
/// Directories on a path; deeper ones are shown from there on.
const MAX_DEPTH: usize = 128;

/// An extent whose bytes do not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The pack.
    pub pack: PackId,
    /// Where the extent begins in it.
    pub offset: u32,
    /// Bytes of files that are lost with it.
    pub bytes: u32,
    /// What does not check.
    pub detail: String,
    /// Files that use it, as far as they were met; at most ten.
    pub paths: Vec<String>,
    /// When it was first met.
    pub since: Timestamp,
    id: Option<ExtentId>,
}

/// The damage that is known of a volume.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    known: Mutex<BTreeMap<(u128, u32), Damage>>,
    /// How many are known, so that a good read asks no lock.
    count: AtomicUsize,
    met: AtomicU64,
}

impl Damages {
    /// The extent checks, all of it.
    pub(crate) fn heal(&self, place: &ExtentRef) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.forget(place.pack, place.offset);
        }
    }

    fn knows(&self, place: &ExtentRef) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.known.lock().contains_key(&(place.pack.0, place.offset))
    }

    fn forget(&self, pack: PackId, offset: u32) {
        let mut known = self.known.lock();
        if known.remove(&(pack.0, offset)).is_some() {
            tracing::info!(%pack, offset, "damage is over: the bytes check again, or nobody uses them");
        }
        self.count.store(known.len(), Ordering::Relaxed);
    }

    /// Notes what was met; whether it is new.
    fn note(&self, damage: Damage) -> bool {
        let mut known = self.known.lock();
        let key = (damage.pack.0, damage.offset);
        if let Some(earlier) = known.get_mut(&key) {
            for path in damage.paths {
                if earlier.paths.len() < MAX_PATHS && !earlier.paths.contains(&path) {
                    earlier.paths.push(path);
                }
            }
            return false;
        }
        self.met.fetch_add(1, Ordering::Relaxed);
        if known.len() < MAX_KNOWN {
            known.insert(key, damage);
        }
        self.count.store(known.len(), Ordering::Relaxed);
        true
    }
}

impl Volume {
    /// Damaged extents that files use, as far as they were met.
    pub async fn damages(&self) -> Result<Vec<Damage>> {
        let known: Vec<Damage> = self.family.damages.known.lock().values().cloned().collect();
        let mut still = Vec::with_capacity(known.len());
        for damage in known {
            let used = match damage.id {
                Some(id) => self
                    .stored_place(id)
                    .await?
                    .is_some_and(|place| (place.pack, place.offset) == (damage.pack, damage.offset)),
                None => self.packs.list().iter().any(|pack| pack.id == damage.pack),
            };
            if used {
                still.push(damage);
            } else {
                self.family.damages.forget(damage.pack, damage.offset);
            }
        }
        Ok(still)
    }

    /// Some of the extent was read well. If it is known as damaged, the rest is looked at.
    pub(crate) async fn heal(&self, place: &ExtentRef) {
        if self.family.damages.knows(place) && self.packs.verify(place).await.is_ok() {
            self.family.damages.heal(place);
        }
    }

    /// How many damaged extents were met since the volume was opened, and how many are known now.
    #[must_use]
    pub fn damage_counts(&self) -> (u64, u64) {
        let damages = &self.family.damages;
        (damages.met.load(Ordering::Relaxed), damages.count.load(Ordering::Relaxed) as u64)
    }

    /// Remembers that `inos` cannot read an extent.
    pub(crate) async fn note_damage(&self, id: ExtentId, place: &ExtentRef, inos: &[Ino], error: &PackError) {
        let mut paths = Vec::new();
        for ino in inos.iter().take(MAX_PATHS) {
            paths.push(self.path_in_any(*ino).await);
        }
        let damage = Damage {
            pack: place.pack,
            offset: place.offset,
            bytes: place.raw_len,
            detail: error.to_string(),
            paths: paths.clone(),
            since: self.clock.now(),
            id: Some(id),
        };
        if self.family.damages.note(damage) {
            let (bucket, paths) = (self.label(), paths.join(", "));
            tracing::error!(
                bucket, paths, pack = %place.pack, offset = place.offset, bytes = place.raw_len, %error,
                "stored bytes are damaged; reading them fails"
            );
        }
    }

    /// Remembers that the reverse map of a pack cannot be read.
    pub(crate) fn note_damaged_map(&self, pack: PackId, error: &PackError) {
        self.note_pack(pack, error, "the reverse map of a pack is damaged; its extents are not");
    }

    pub(crate) fn note_gone_pack(&self, pack: PackId, error: &PackError) {
        self.note_pack(pack, error, "a pack is gone; `bucket check` names the files that need it");
    }

    fn note_pack(&self, pack: PackId, error: &PackError, what: &str) {
        let (since, detail) = (self.clock.now(), error.to_string());
        let damage = Damage { pack, offset: u32::MAX, bytes: 0, detail, paths: Vec::new(), since, id: None };
        if self.family.damages.note(damage) {
            tracing::error!(bucket = self.label(), %pack, %error, "{what}");
        }
    }

    pub(crate) fn label(&self) -> &str {
        self.config.label.as_deref().unwrap_or("unnamed")
    }

    /// How a file is reached, for people: through its first name.
    pub(crate) async fn path_of(&self, ino: Ino) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && parts.len() < MAX_DEPTH {
            match self.first_name(at).await {
                Ok(Some((parent, name))) => {
                    parts.push(name);
                    at = parent;
                }
                Ok(None) if parts.is_empty() => return format!("inode {ino}, without a name"),
                Ok(None) | Err(_) => {
                    parts.push("...".to_owned());
                    break;
                }
            }
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }

    /// The same, through the first head that is open and has a name for it.
    async fn path_in_any(&self, ino: Ino) -> String {
        for head in self.family.open() {
            if head.head_id() != self.head_id() && !matches!(self.first_name(ino).await, Ok(None)) {
                break;
            }
            if matches!(head.first_name(ino).await, Ok(Some(_))) {
                return head.path_of(ino).await;
            }
        }
        self.path_of(ino).await
    }

    async fn first_name(&self, ino: Ino) -> Result<Option<(Ino, String)>> {
        let page = self.rows().page(|layer| backlink::prefix(layer, ino), &[], 1).await?;
        let Some((rest, _)) = page.first() else { return Ok(None) };
        let key = [&backlink::prefix(self.rows().head(), ino)[..], rest].concat();
        let (_, _, parent, name) = backlink::parse(&key)?;
        Ok(Some((parent, name.escape_ascii().to_string())))
    }
}
