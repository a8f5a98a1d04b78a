//! The packs of one volume.

use super::cache::ExtentCache;
use super::copies::{Copies, Handles};
use super::error::PackError;
use super::extent::{Entry, ExtentIn, ExtentRef, MAX_EXTENT_BYTES, PackId};
use super::fetch::Handle;
use super::format::Head;
use super::medium::PackFile;
use super::open::OpenPack;
use super::pin::{Pins, Placed};
use super::ready::Ready;
use super::recover::{self, Sealed};
use super::spool::Spool;
use super::sync::Syncs;
use crate::backend::{Place, Shortage, SpaceGuard};
use crate::failpoints::{Point, pass};
use crate::seal::{Hash, HashKey, VolumeKeys};
use bytes::Bytes;
use mooring_policy::rng::Random;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A pack is full at this size.
pub const PACK_BYTES: u32 = 16 << 20;

/// Room that appends leave free (at most a third of a small filesystem): more than the metadata's reserve, so that
/// a disk full of data still takes the rows that delete it.
const SPACE_RESERVE: u64 = 96 << 20;

/// Room that moving extents leaves free: less, for it is what gives room back.
const MOVE_RESERVE: u64 = 80 << 20;

/// Appends and hashes of up to this many bytes are done on the caller's thread.
const INLINE_BYTES: usize = 32 << 10;

/// Files of complete packs kept open for reading.
const OPEN_FILES: u64 = 256;

/// Where packs are and what they need.
#[derive(Clone)]
pub struct PackOptions {
    /// The directory; it must exist, and the volume's lock be held.
    pub dir: PathBuf,
    /// Keys of the volume.
    pub keys: VolumeKeys,
    /// The writer's epoch, [`crate::meta::SlateMeta::epoch`]: packs of two writers never have one name. 0 until the
    /// writer knows, see [`PackStore::set_epoch`].
    pub epoch: u64,
    /// Pack ids come from here.
    pub random: Arc<dyn Random>,
    /// Decoded extents in memory, shared by all volumes of the process.
    pub cache: ExtentCache,
    /// [`PACK_BYTES`] but for tests.
    pub pack_bytes: u32,
}

/// One pack, as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: PackId,
    /// Epoch of its writer.
    pub epoch: u64,
    /// Complete: it has its footer and may be deleted.
    pub sealed: bool,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// An operation has stored bytes in it that no row names yet. A complete pack without a pin never gets one again.
    pub pinned: bool,
}

/// The packs of one volume. See the module documentation.
pub struct PackStore {
    pub(super) options: PackOptions,
    handles: Handles,
    pub(super) hash_key: HashKey,
    space: SpaceGuard,
    move_space: SpaceGuard,
    pub(super) pins: Pins,
    pub(super) state: Mutex<State>,
    epoch: AtomicU64,
    /// One makes the next pack at a time.
    turning: Mutex<()>,
    /// Appends that have ended.
    pub(super) appended: AtomicU64,
    pub(super) syncs: Syncs,
    /// A pack was made since the directory was last synced.
    pub(super) entered: AtomicBool,
    /// On the way to an object store; `None` when the directory is the store.
    pub(super) spool: Option<Arc<Spool>>,
}

#[derive(Default)]
pub(super) struct State {
    current: Option<Arc<OpenPack>>,
    /// Written to and not yet complete, the current one included.
    pub(super) open: HashMap<PackId, Arc<OpenPack>>,
    pub(super) sealed: HashMap<PackId, Sealed>,
    pub(super) stopped: Option<PackError>,
}

impl PackStore {
    /// Opens the directory: finishes the packs an earlier process left open, lists the rest.
    pub async fn open(options: PackOptions) -> Result<Arc<Self>, PackError> {
        Self::open_over(options, None).await
    }

    /// Like [`Self::open`]; complete packs go to `place` from there, and are read from there when they are not here.
    pub async fn open_over(
        options: PackOptions,
        place: Option<(Place, Arc<Copies>)>,
    ) -> Result<Arc<Self>, PackError> {
        let (dir, volume) = (options.dir.clone(), options.keys.volume().get());
        let recovered = tokio::task::spawn_blocking(move || recover::recover(&dir, volume)).await;
        let mut sealed: HashMap<PackId, Sealed> =
            recovered.map_err(|error| joined(&options, error))??.into_iter().collect();
        let handles = moka::sync::Cache::new(OPEN_FILES);
        let spool = match place {
            Some(place) => Some(Spool::join(&options, place, &handles, &mut sealed).await?),
            None => None,
        };
        Ok(Arc::new(Self {
            handles,
            spool,
            hash_key: options.keys.hash_key(),
            space: SpaceGuard::at_most_a_third(options.dir.clone(), SPACE_RESERVE)?,
            move_space: SpaceGuard::at_most_a_third(options.dir.clone(), MOVE_RESERVE)?,
            pins: Pins::default(),
            state: Mutex::new(State { sealed, ..State::default() }),
            turning: Mutex::new(()),
            appended: AtomicU64::new(0),
            epoch: AtomicU64::new(options.epoch),
            syncs: Syncs::default(),
            entered: AtomicBool::new(false),
            options,
        }))
    }

    /// Tells the writer's epoch, which the metadata knows only after packs are open: what its journal names is looked
    /// up in them. Before the first append.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The tenant's hash of `data`, on this thread: for small extents.
    #[must_use]
    pub fn hash(&self, data: &[u8]) -> Hash {
        self.hash_key.hash(data)
    }

    /// The hashes of `extents`, off the caller's thread when there is much to do.
    pub async fn hash_all(&self, extents: &[Bytes]) -> Result<Vec<Hash>, PackError> {
        if extents.iter().map(Bytes::len).sum::<usize>() <= INLINE_BYTES {
            return Ok(extents.iter().map(|data| self.hash(data)).collect());
        }
        let (extents, key) = (extents.to_vec(), self.hash_key.clone());
        let hash = move || extents.iter().map(|data| key.hash(data)).collect();
        tokio::task::spawn_blocking(hash).await.map_err(|error| joined(&self.options, error))
    }

    /// Writes extents and says where they are, in the same order. On return they are in the file: they survive
    /// kill -9 of this process, and loss of power after [`Self::sync`].
    ///
    /// # Errors
    /// On any error nothing of this call may be referred to, and the store stays usable.
    pub async fn append(self: &Arc<Self>, extents: Vec<ExtentIn>) -> Result<Vec<ExtentRef>, PackError> {
        let placed = self.append_pinned(extents).await?;
        Ok(placed.into_iter().map(|placed| placed.extent).collect())
    }

    /// [`Self::append`], with pins that keep the packs from being deleted until rows name the extents.
    pub async fn append_pinned(self: &Arc<Self>, extents: Vec<ExtentIn>) -> Result<Vec<Placed>, PackError> {
        let limit = MAX_EXTENT_BYTES;
        let sizes = || extents.iter().map(|extent| extent.data.len());
        if let Some(bytes) = sizes().find(|bytes| *bytes == 0 || *bytes > limit) {
            return Err(PackError::Size { bytes, limit });
        }
        self.check()?;
        if let Some(spool) = &self.spool {
            spool.room().await?;
        }
        if sizes().sum::<usize>() <= INLINE_BYTES {
            return self.append_now(extents);
        }
        let store = Arc::clone(self);
        let append = move || store.append_now(extents);
        tokio::task::spawn_blocking(append).await.map_err(|error| joined(&self.options, error))?
    }

    fn append_now(self: &Arc<Self>, extents: Vec<ExtentIn>) -> Result<Vec<Placed>, PackError> {
        let ready: Vec<_> = extents.into_iter().map(Ready::new).collect();
        self.write(&ready, false)
    }

    /// Writes what is ready; `moves` when it takes the place of extents that go.
    pub(super) fn write(self: &Arc<Self>, ready: &[Ready], moves: bool) -> Result<Vec<Placed>, PackError> {
        let sizes: Vec<u32> = ready.iter().map(|extent| extent.bytes() as u32).collect();
        let mut placed = Vec::with_capacity(ready.len());
        let space = if moves { &self.move_space } else { &self.space };
        if let Some(short) = space.take(sizes.iter().copied().map(u64::from).sum())?
            && !self.make_room(space, &short)?
        {
            return Err(PackError::NoSpace { path: self.options.dir.clone() });
        }
        while placed.len() < ready.len() {
            let done = placed.len();
            let pack = self.current()?;
            if pack.id.generation() != self.options.keys.generation() {
                self.turn(&pack);
                continue;
            }
            let pin = self.pins.pin(pack.id);
            let Some((from, count)) = pack.take(&sizes[done..], self.options.pack_bytes) else {
                self.turn(&pack);
                continue;
            };
            let built = self.build(&pack, from, &ready[done..done + count]);
            let (bytes, entries) = built.inspect_err(|_| pack.give_up())?;
            let extents = entries.iter().map(|(entry, _)| entry.extent);
            placed.extend(extents.map(|extent| Placed { extent, pin: pin.clone() }));
            pack.write(from, &bytes, entries)?;
            if let Some(spool) = &self.spool {
                spool.wrote(pack.id, from, bytes.len());
            }
        }
        self.appended.fetch_add(1, Ordering::AcqRel);
        Ok(placed)
    }

    /// The bytes of some extents for one write at `from`.
    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn build(
        &self,
        pack: &OpenPack,
        from: u32,
        ready: &[Ready],
    ) -> Result<(Vec<u8>, Vec<(Entry, u32)>), PackError> {
        let volume = self.options.keys.volume().get();
        let total = ready.iter().map(Ready::bytes).sum();
        let (mut bytes, mut entries) = (Vec::with_capacity(total), Vec::with_capacity(ready.len()));
        for extent in ready {
            let entry = extent.entry(pack.id, from + bytes.len() as u32);
            let crc = extent.seal_into(&mut bytes, &entry, volume, &pack.cipher)?;
            entries.push((entry, crc));
        }
        Ok((bytes, entries))
    }

    /// The open pack, made if there is none.
    fn current(&self) -> Result<Arc<OpenPack>, PackError> {
        if let Some(pack) = &self.state.lock().current {
            return Ok(Arc::clone(pack));
        }
        // Whoever comes here needs the new pack and waits for it; nobody else does.
        let _one = self.turning.lock();
        if let Some(pack) = &self.state.lock().current {
            return Ok(Arc::clone(pack));
        }
        let id = PackId::random(self.options.keys.generation(), self.options.random.as_ref());
        let head = Head { volume: self.options.keys.volume().get(), epoch: self.epoch(), id };
        let pack = Arc::new(OpenPack::create(&self.options.dir, head, self.options.keys.pack(id.0)?)?);
        self.entered.store(true, Ordering::Release);
        if let Some(spool) = &self.spool {
            spool.began(&pack, head.epoch);
        }
        let mut state = self.state.lock();
        state.open.insert(id, Arc::clone(&pack));
        state.current = Some(Arc::clone(&pack));
        Ok(pack)
    }

    /// Takes a pack out of use (it is full, or its key was replaced) and finishes it in the background.
    fn turn(self: &Arc<Self>, full: &Arc<OpenPack>) {
        let Some(pack) = self.take_current(full.id) else { return };
        let store = Arc::clone(self);
        let finish = move || {
            if let Err(error) = store.finish(&pack) {
                // It stays readable; the collector or the next open finishes it.
                tracing::warn!(pack = %pack.id, %error, "cannot finish a full pack yet");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(finish)),
            Err(_) => finish(),
        }
    }

    /// Takes the open pack out of use if it is `pack`.
    pub(super) fn take_current(&self, pack: PackId) -> Option<Arc<OpenPack>> {
        let mut state = self.state.lock();
        state.current.take_if(|current| current.id == pack)
    }

    pub(super) fn finish(&self, pack: &Arc<OpenPack>) -> Result<(), PackError> {
        let _one = pack.finishing.lock();
        if !self.state.lock().open.contains_key(&pack.id) {
            // Somebody finished it meanwhile.
            return Ok(());
        }
        let done = pack.close(&self.options.dir)?;
        let mut state = self.state.lock();
        state.open.remove(&pack.id);
        let path = match done {
            Some((path, bytes)) => {
                state.sealed.insert(pack.id, Sealed { epoch: self.epoch(), path: path.clone(), bytes });
                Some(path)
            }
            None => {
                self.pins.forget(pack.id);
                None
            }
        };
        drop(state);
        if let Some(spool) = &self.spool {
            spool.finished(pack.id, path);
        }
        Ok(())
    }

    /// Takes a pack that is open out of use; it is still to be finished.
    pub(super) fn take_out(&self, pack: PackId) -> Option<Arc<OpenPack>> {
        let mut state = self.state.lock();
        state.current.take_if(|current| current.id == pack);
        state.open.get(&pack).cloned()
    }

    /// Finishes the open pack, whatever its size, and everything that is being finished. Called when the volume
    /// closes.
    pub async fn seal_current(self: &Arc<Self>) -> Result<(), PackError> {
        let store = Arc::clone(self);
        let finish_all = move || {
            let open: Vec<_> = {
                let mut state = store.state.lock();
                state.current = None;
                state.open.values().cloned().collect()
            };
            open.iter().try_for_each(|pack| store.finish(pack))
        };
        tokio::task::spawn_blocking(finish_all).await.map_err(|error| joined(&self.options, error))?
    }

    /// The volume that the packs belong to.
    #[must_use]
    pub fn volume(&self) -> u64 {
        self.options.keys.volume().get()
    }

    /// Size at which a pack is full.
    #[must_use]
    pub fn pack_bytes(&self) -> u64 {
        u64::from(self.options.pack_bytes)
    }

    /// Appends so far.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), PackError> {
        match &self.state.lock().stopped {
            None => Ok(()),
            Some(error) => {
                Err(PackError::Stopped { path: self.options.dir.clone(), reason: error.to_string() })
            }
        }
    }

    /// All packs, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<PackInfo> {
        let state = self.state.lock();
        let info = |id: &PackId, epoch, sealed, bytes| PackInfo {
            id: *id,
            epoch,
            sealed,
            bytes,
            pinned: self.pins.is_pinned(*id),
        };
        let sealed = state.sealed.iter().map(|(id, pack)| info(id, pack.epoch, true, pack.bytes));
        let open = state.open.iter().map(|(id, pack)| info(id, self.epoch(), false, pack.bytes()));
        sealed.chain(open).collect()
    }

    /// The reverse map of a pack: every extent in it, in order of place once it is complete.
    pub async fn entries(&self, pack: PackId) -> Result<Vec<Entry>, PackError> {
        let path = {
            let state = self.state.lock();
            if let Some(open) = state.open.get(&pack) {
                return Ok(open.entries());
            }
            state.sealed.get(&pack).map(|sealed| sealed.path.clone()).ok_or(PackError::Missing { pack })?
        };
        let file = PackFile::open(&path, pack, self.spool.as_ref().map(|spool| &spool.place))?;
        let _turn = file.turn().await;
        let read = tokio::task::spawn_blocking(move || recover::read_entries(&file, &path, pack)).await;
        read.map_err(|error| joined(&self.options, error))?
    }

    /// Deletes a complete pack. The caller knows that no row and no frozen map names it, nor any record of the journal
    /// that recovery may look at: see "How" in the journal's `cut`.
    pub async fn delete(&self, pack: PackId) -> Result<(), PackError> {
        let sealed = {
            let mut state = self.state.lock();
            if state.open.contains_key(&pack) {
                return Err(PackError::Busy { pack });
            }
            state.sealed.remove(&pack).ok_or(PackError::Missing { pack })?
        };
        let path = sealed.path.clone();
        let removed = tokio::task::spawn_blocking(move || {
            pass(Point::PackBeforeDelete)?;
            std::fs::remove_file(path)
        });
        let removed = removed.await;
        // A reader may have opened the file before it went; one that reads goes on, nobody keeps it.
        self.handles.invalidate(&pack);
        let removed = removed.map_err(|error| joined(&self.options, error))?;
        if let Some(spool) = &self.spool {
            spool.forget(pack, sealed.epoch);
            self.pins.forget(pack);
            return Ok(());
        }
        removed.map_err(|error| {
            let error = PackError::io("delete", &sealed.path, error);
            self.state.lock().sealed.insert(pack, sealed);
            error
        })?;
        self.pins.forget(pack);
        Ok(())
    }

    /// Whether there is room for `bytes` that need not be here.
    pub(super) fn has_room(&self, bytes: u64) -> Result<bool, PackError> {
        Ok(self.space.take(bytes)?.is_none())
    }

    /// Copies of what the store has make room for what it has not. Whether that was enough.
    fn make_room(&self, space: &SpaceGuard, short: &Shortage) -> Result<bool, PackError> {
        let Some(spool) = &self.spool else { return Ok(false) };
        Ok(spool.copies.give(short.need.saturating_sub(short.free)) && space.take(0)?.is_none())
    }

    /// A file to read `pack` from.
    pub(super) fn handle(&self, pack: PackId) -> Result<Arc<Handle>, PackError> {
        let cached = self.handles.try_get_with(pack, || {
            let (open, sealed) = {
                let state = self.state.lock();
                (state.open.get(&pack).cloned(), state.sealed.get(&pack).cloned())
            };
            let (cipher, volume) = (self.options.keys.pack(pack.0)?, self.volume());
            if let Some(open) = open {
                // The descriptor outlives the change of name.
                return Ok(Arc::new(Handle {
                    file: PackFile::Local(Arc::clone(&open.file)),
                    cipher,
                    path: open.path.clone(),
                    volume,
                }));
            }
            let path = sealed.ok_or(PackError::Missing { pack })?.path;
            let file = PackFile::open(&path, pack, self.spool.as_ref().map(|spool| &spool.place))?;
            Ok(Arc::new(Handle { file, cipher, path, volume }))
        });
        cached.map_err(|error: Arc<PackError>| (*error).clone())
    }
}

pub(super) fn joined(options: &PackOptions, error: tokio::task::JoinError) -> PackError {
    PackError::io("work on", &options.dir, std::io::Error::other(error))
}
