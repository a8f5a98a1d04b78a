//! Copies of packs that an object store has, on the local disk, of all volumes of a process under one bound.
//!
//! A pack that has come to the store leaves its file behind, and one that is read again and again is brought back
//! ([`super::fill`]): such files only save requests. So they may go at any time, and the one that was read longest ago
//! goes first. A pack that the store does not have is never among them: a file becomes a copy when the store has
//! answered for it, in this life of the process.
//!
//! ```text
//!   written here ─▶ put into the store ─┐
//!                                       ├─▶ copy ─▶ read longest ago, and there is no room ─▶ file removed
//!   in the store ─▶ read several times ─┘
//! ```
//!
//! After a start nobody has asked the store yet what of a volume's files it has. Until the volume is opened they stay,
//! and their room is counted as taken.

use super::extent::PackId;
use super::fetch::Handle;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a process keeps where nobody says how much, bytes.
pub(crate) const USUAL: u64 = 256 << 20;

/// Packs to read from that a volume has at hand.
pub(super) type Handles = moka::sync::Cache<PackId, Arc<Handle>>;

/// See the module documentation.
pub struct Copies {
    bound: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    copies: HashMap<PackId, Copy>,
    /// By when each was read last.
    order: BTreeMap<u64, PackId>,
    clock: u64,
    bytes: u64,
    /// Bytes in directories of volumes that were not opened yet.
    unknown: HashMap<PathBuf, u64>,
}

struct Copy {
    path: PathBuf,
    bytes: u64,
    read: u64,
    handles: Handles,
}

impl State {
    fn take(&mut self, pack: PackId) -> Option<Copy> {
        let copy = self.copies.remove(&pack)?;
        self.order.remove(&copy.read);
        self.bytes -= copy.bytes;
        Some(copy)
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn all(&self) -> u64 {
        self.bytes + self.unknown.values().sum::<u64>()
    }

    /// Those that go so that no more than `bound` bytes are here.
    fn beyond(&mut self, bound: u64) -> Vec<(PackId, Copy)> {
        let mut going = Vec::new();
        while self.all() > bound {
            let Some(pack) = self.order.values().next().copied() else { break };
            let Some(copy) = self.take(pack) else { break };
            going.push((pack, copy));
        }
        going
    }
}

impl Copies {
    /// Copies of at most `bound` bytes.
    #[must_use]
    pub fn new(bound: u64) -> Arc<Self> {
        Arc::new(Self { bound, state: Mutex::default() })
    }

    /// The most that is kept, bytes.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Bytes kept now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.lock().all()
    }

    /// Counts what an earlier process left below a data directory. Before a volume is opened. Blocking.
    pub fn survey(&self, data: &Path) {
        let below = |dir: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        for volume in below(&data.join("tenants")).iter().flat_map(|tenant| below(tenant)) {
            let packs = volume.join("packs");
            let files =
                below(&packs).into_iter().filter(|path| path.extension().is_some_and(|e| e == "pack"));
            let bytes: u64 = files.filter_map(|path| Some(path.metadata().ok()?.len())).sum();
            if bytes > 0 {
                self.state.lock().unknown.insert(packs, bytes);
            }
        }
    }

    /// From now on what is in a volume's directory is told of one by one.
    pub(super) fn opened(&self, packs: &Path) {
        self.state.lock().unknown.remove(packs);
    }

    /// The store has this pack, and so has this file. It may be gone on return.
    pub(super) fn add(&self, pack: PackId, path: PathBuf, bytes: u64, handles: &Handles) {
        let going = {
            let mut state = self.state.lock();
            state.take(pack);
            let read = state.now();
            state.order.insert(read, pack);
            state.bytes += bytes;
            state.copies.insert(pack, Copy { path, bytes, read, handles: handles.clone() });
            state.beyond(self.bound)
        };
        remove(going);
    }

    /// A pack was read from.
    pub(super) fn read(&self, pack: PackId) {
        let mut state = self.state.lock();
        let read = state.now();
        let Some(copy) = state.copies.get_mut(&pack) else { return };
        let before = std::mem::replace(&mut copy.read, read);
        state.order.remove(&before);
        state.order.insert(read, pack);
    }

    /// The pack is not wanted any more; its file is its volume's business.
    pub(super) fn forget(&self, pack: PackId) {
        self.state.lock().take(pack);
    }

    /// Removes a copy that does not read. Whether there was one.
    pub(super) fn discard(&self, pack: PackId) -> bool {
        let Some(copy) = self.state.lock().take(pack) else { return false };
        remove(vec![(pack, copy)]);
        true
    }

    /// Somebody needs the room more: gives back `bytes`, if there is so much. Whether anything was given back.
    pub(super) fn give(&self, bytes: u64) -> bool {
        let going = {
            let mut state = self.state.lock();
            let keep = state.all().saturating_sub(bytes);
            state.beyond(keep)
        };
        let gave = !going.is_empty();
        remove(going);
        gave
    }
}

/// Outside of the lock: a disk may be slow.
fn remove(going: Vec<(PackId, Copy)>) {
    for (pack, copy) in going {
        if let Err(error) = std::fs::remove_file(&copy.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // It is found at the next open of its volume, and goes then.
            tracing::warn!(path = %copy.path.display(), %error, "a copy of a pack cannot be removed");
        }
        // Who reads it goes on; its room comes back when nobody does.
        copy.handles.invalidate(&pack);
    }
}

impl std::fmt::Debug for Copies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copies").field("bound", &self.bound).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const EACH: usize = 1000;

    fn pack(dir: &Path, number: u128) -> (PackId, PathBuf) {
        let path = dir.join(format!("{number}.pack"));
        std::fs::write(&path, vec![0; EACH]).unwrap();
        (PackId(number), path)
    }

    fn here(dir: &Path) -> Vec<u128> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let number = |path: PathBuf| path.file_stem()?.to_str()?.parse().ok();
        let mut numbers: Vec<u128> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_was_read_longest_ago_goes_first_and_the_bound_holds() {
        let (dir, handles) = (tempfile::tempdir().unwrap(), Handles::new(8));
        let copies = Copies::new(3 * EACH as u64);
        let add = |number| {
            let (id, path) = pack(dir.path(), number);
            copies.add(id, path, EACH as u64, &handles);
            assert!(copies.bytes() <= copies.bound());
        };
        (1..=3).for_each(add);
        copies.read(PackId(1));
        add(4);
        assert_eq!(here(dir.path()), [1, 3, 4]);
        // The same again is one.
        add(3);
        assert_eq!(here(dir.path()), [1, 3, 4]);
        copies.forget(PackId(1));
        add(5);
        assert_eq!(here(dir.path()), [1, 3, 4, 5], "what was let go of is somebody else's");
        assert!(copies.give(1));
        assert_eq!(here(dir.path()), [1, 3, 5]);
        assert!(copies.give(u64::MAX) && !copies.give(1));
        assert_eq!((here(dir.path()), copies.bytes()), (vec![1], 0));
    }

    #[test]
    fn what_nobody_has_asked_the_store_for_is_counted_and_stays() {
        let (data, handles) = (tempfile::tempdir().unwrap(), Handles::new(8));
        let packs = |volume: &str| {
            let packs = data.path().join("tenants/acme").join(volume).join("packs");
            std::fs::create_dir_all(&packs).unwrap();
            packs
        };
        let (one, two) = (packs("1"), packs("2"));
        for number in 1..=2 {
            pack(&one, number);
        }
        let copies = Copies::new(3 * EACH as u64);
        copies.survey(data.path());
        assert_eq!(copies.bytes(), 2 * EACH as u64);
        for number in 11..=13 {
            let (id, path) = pack(&two, number);
            copies.add(id, path, EACH as u64, &handles);
        }
        assert_eq!((here(&one), here(&two)), (vec![1, 2], vec![13]));
        copies.opened(&one);
        for number in 1..=2 {
            copies.add(PackId(number), one.join(format!("{number}.pack")), EACH as u64, &handles);
        }
        assert_eq!((here(&one), here(&two), copies.bytes()), (vec![1, 2], vec![13], 3 * EACH as u64));
    }
}
