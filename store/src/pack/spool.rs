//! Packs on their way to an object store.
//!
//! A pack is written here, as on a local directory. Complete, it is put into the store whole, under the same name, and
//! its file becomes a copy that may go. Bytes of packs that are not there yet ride with the records that name them (see
//! [`crate::upstream`]); which bytes have done so is known here.
//!
//! What waits for the store is bounded: behind [`BACKLOG_BYTES`] appends wait. Copies are bounded for all volumes
//! together ([`super::copies`]).

use super::copies::{Copies, Handles};
use super::error::PackError;
use super::extent::PackId;
use super::medium;
use super::open::{OpenPack, stem};
use super::recover::Sealed;
use super::store::{PackOptions, PackStore};
use crate::backend::{Given, OPEN_LIMIT, Place};
use crate::upstream::{Piece, RIDE_BYTES};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{Error, ObjectStoreExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Bytes of one volume that may wait for the store.
const BACKLOG_BYTES: u64 = 256 << 20;

/// Bytes that ride with one shipment.
const RIDERS_BYTES: u64 = 4 << 20;

/// How long an append waits for room before it fails.
const ROOM_LIMIT: Duration = Duration::from_secs(60);

/// See the module documentation.
pub(super) struct Spool {
    pub place: Place,
    handles: Handles,
    /// What is here of what the store has.
    pub copies: Arc<Copies>,
    /// Held while a pack is brought back.
    pub filling: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    /// A pack came to the store.
    changed: Notify,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Packs that the store does not have.
    waiting: HashMap<PackId, Waiting>,
    backlog: u64,
    /// Packs to be deleted from the store, by the names of their files.
    errands: Vec<String>,
    /// Told of errands: in a volume that is still, nothing else would have them run.
    runner: Option<Arc<Notify>>,
}

struct Waiting {
    epoch: u64,
    file: Arc<File>,
    bytes: u64,
    /// Runs of bytes that have not ridden with records, as they were written.
    rest: Vec<(u32, u32)>,
    /// It is complete and on its way.
    complete: bool,
}

impl Waiting {
    fn rest_bytes(&self) -> u64 {
        self.rest.iter().map(|(_, len)| u64::from(*len)).sum()
    }
}

/// Bytes that go with records, and what to strike off when they have arrived.
#[derive(Debug, Default)]
pub(crate) struct Riders {
    pub pieces: Vec<Piece>,
    taken: Vec<(PackId, usize)>,
}

impl Spool {
    fn new(place: Place, handles: Handles, copies: Arc<Copies>) -> Arc<Self> {
        let (state, changed, stop) = (Mutex::default(), Notify::new(), watch::channel(false).0);
        Arc::new(Self { place, handles, copies, filling: Arc::default(), state, changed, stop })
    }

    /// Packs that are at hand to be read from.
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Joins the packs of the store with those found here, and sends on what it does not have.
    pub async fn join(
        options: &PackOptions,
        (place, copies): (Place, Arc<Copies>),
        handles: &Handles,
        sealed: &mut HashMap<PackId, Sealed>,
    ) -> Result<Arc<Self>, PackError> {
        let prefix = place.path("packs");
        let list = || place.store().list(Some(&prefix)).try_collect::<Vec<_>>();
        let listed = place.within(OPEN_LIMIT, list).await;
        let failed = |error| PackError::Remote(Arc::new(place.backing.error("list the packs in", error)));
        let mut stored: HashMap<PackId, Sealed> = HashMap::new();
        for object in listed.map_err(failed)? {
            let Some(name) = object.location.filename() else { continue };
            let Some((epoch, id)) = parse_object(name) else { continue };
            stored.insert(id, Sealed { epoch, path: options.dir.join(name), bytes: object.size });
        }
        let spool = Self::new(place, handles.clone(), copies);
        spool.copies.opened(&options.dir);
        for (id, here) in &*sealed {
            let found = spool.found(*id, here.epoch, here.path.clone(), stored.contains_key(id));
            found.map_err(|error| PackError::io("open", &here.path, error))?;
        }
        for (id, there) in stored {
            sealed.entry(id).or_insert(there);
        }
        Ok(spool)
    }

    /// A pack was made.
    pub fn began(&self, pack: &OpenPack, epoch: u64) {
        let file = Arc::clone(&pack.file);
        let waiting = Waiting { epoch, file, bytes: 0, rest: Vec::new(), complete: false };
        self.state.lock().waiting.insert(pack.id, waiting);
    }

    /// Bytes were written to a pack. They are in its file whole.
    pub fn wrote(&self, pack: PackId, from: u32, len: usize) {
        let mut state = self.state.lock();
        // A pack that is in the store already took them with it.
        let Some(waiting) = state.waiting.get_mut(&pack) else { return };
        waiting.rest.push((from, len as u32));
        waiting.bytes += len as u64;
        state.backlog += len as u64;
    }

    /// A pack is complete, or was empty and is gone. The first goes to the store from here on.
    pub fn finished(self: &Arc<Self>, pack: PackId, path: Option<PathBuf>) {
        let Some(path) = path else {
            self.state.lock().waiting.remove(&pack);
            return;
        };
        if let Some(waiting) = self.state.lock().waiting.get_mut(&pack) {
            waiting.complete = true;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(Arc::clone(self).upload(pack, path));
    }

    /// A complete pack that an earlier process left here.
    pub fn found(
        self: &Arc<Self>,
        pack: PackId,
        epoch: u64,
        path: PathBuf,
        stored: bool,
    ) -> std::io::Result<()> {
        let file = match File::open(&path) {
            Ok(file) => file,
            // A copy, for which another volume's took the room.
            Err(error) if stored && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        if stored {
            self.copies.add(pack, path, bytes, &self.handles);
            return Ok(());
        }
        let rest = vec![(0, u32::try_from(bytes).unwrap_or(u32::MAX))];
        let waiting = Waiting { epoch, file: Arc::new(file), bytes, rest, complete: true };
        {
            let mut state = self.state.lock();
            state.backlog += bytes;
            state.waiting.insert(pack, waiting);
        }
        self.finished(pack, Some(path));
        Ok(())
    }

    async fn upload(self: Arc<Self>, pack: PackId, path: PathBuf) {
        let Ok(_turn) = Arc::clone(&self.place.backing.uploads).acquire_owned().await else { return };
        let from = path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(from)).await;
        let bytes = match read {
            Ok(Ok(bytes)) => Bytes::from(bytes),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Ok(Err(error)) => {
                // It stays here and readable, or not; a sync that needs it waits, and says what for.
                tracing::error!(%pack, %error, "a pack cannot be read and does not go to the store");
                return;
            }
            Err(_) => return,
        };
        let Some(key) =
            path.file_name().and_then(|name| name.to_str()).map(|name| medium::key(&self.place, name))
        else {
            return;
        };
        // Whoever puts it puts the same bytes, or, taking over from the log, those that count: repeating is harmless.
        let put = || self.place.store().put(&key, bytes.clone().into());
        match self.place.patiently(&self.stop, put).await {
            Ok(_) => self.arrived(pack, path, bytes.len() as u64),
            Err(Given::Stopped) => {}
            Err(Given::Answer(error)) => tracing::error!(%pack, %error, "the store refuses a pack"),
        }
    }

    fn arrived(&self, pack: PackId, path: PathBuf, bytes: u64) {
        let wanted = {
            let mut state = self.state.lock();
            let waiting = state.waiting.remove(&pack);
            state.backlog = state.backlog.saturating_sub(waiting.as_ref().map_or(0, |waiting| waiting.bytes));
            waiting.is_some()
        };
        self.changed.notify_waiters();
        // One that was deleted on its way has no file any more.
        if wanted {
            self.copies.add(pack, path, bytes, &self.handles);
        }
    }

    /// Whether the store does not have a pack.
    pub fn is_only_here(&self, pack: PackId) -> bool {
        self.state.lock().waiting.contains_key(&pack)
    }

    /// Waits until little enough waits for the store.
    pub async fn room(&self) -> Result<(), PackError> {
        let room = async {
            loop {
                let changed = self.changed.notified();
                if self.state.lock().backlog < BACKLOG_BYTES || *self.stop.borrow() {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(ROOM_LIMIT, room).await;
        waited.map_err(|_| PackError::Backlog { store: self.place.name(), bytes: BACKLOG_BYTES })
    }

    /// A pack is not wanted any more: it goes from the store behind the records that let go of it.
    pub fn forget(&self, pack: PackId, epoch: u64) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.remove(&pack) {
            state.backlog = state.backlog.saturating_sub(waiting.bytes);
        }
        self.copies.forget(pack);
        state.errands.push(format!("{}.pack", stem(epoch, pack)));
        if let Some(runner) = &state.runner {
            runner.notify_one();
        }
    }

    /// Nothing more goes to the store.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        self.changed.notify_waiters();
    }
}

/// What goes to the store stops with the volume; the next open goes on.
impl Drop for PackStore {
    fn drop(&mut self) {
        if let Some(spool) = &self.spool {
            spool.stop();
        }
    }
}

impl PackStore {
    /// The bytes that are in no pack of the store, for records that are about to go there; packs with many go themselves
    /// first. `None` when stopped meanwhile.
    pub(crate) async fn ride(self: &Arc<Self>, stop: &watch::Sender<bool>) -> Option<Riders> {
        let Some(spool) = &self.spool else { return Some(Riders::default()) };
        // Records that are to go name only what is written by now.
        let (mut small, mut large, mut sum) = (Vec::new(), Vec::new(), 0);
        for (id, waiting) in &spool.state.lock().waiting {
            let bytes = waiting.rest_bytes();
            if bytes == 0 {
                continue;
            }
            if bytes > RIDE_BYTES || sum + bytes > RIDERS_BYTES {
                large.push((*id, waiting.complete));
            } else {
                sum += bytes;
                small.push((*id, waiting.epoch, Arc::clone(&waiting.file), waiting.rest.clone()));
            }
        }
        for (id, complete) in &large {
            if !complete {
                self.finish_pack(*id).await;
            }
        }
        let mut stopped = stop.subscribe();
        loop {
            let changed = spool.changed.notified();
            if large.iter().all(|(id, _)| !spool.is_only_here(*id)) {
                break;
            }
            tokio::select! {
                () = changed => {}
                _ = stopped.wait_for(|stop| *stop) => return None,
            }
        }
        let read = move || -> std::io::Result<Riders> {
            let mut riders = Riders::default();
            for (pack, epoch, file, rest) in small {
                riders.taken.push((pack, rest.len()));
                for (offset, len) in joined_runs(rest) {
                    let mut bytes = vec![0; len as usize];
                    file.read_exact_at(&mut bytes, u64::from(offset))?;
                    riders.pieces.push(Piece { epoch, pack, offset, bytes: bytes.into() });
                }
            }
            Ok(riders)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(riders)) => Some(riders),
            failed => {
                tracing::error!(?failed, "bytes of a pack that were written cannot be read back");
                None
            }
        }
    }

    /// Bytes have arrived with records.
    pub(crate) fn rode(&self, riders: Riders) {
        let Some(spool) = &self.spool else { return };
        let mut state = spool.state.lock();
        for (pack, runs) in riders.taken {
            if let Some(waiting) = state.waiting.get_mut(&pack) {
                waiting.rest.drain(..runs.min(waiting.rest.len()));
            }
        }
    }

    /// Whether the store does not have a pack.
    pub(crate) fn is_only_here(&self, pack: PackId) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.is_only_here(pack))
    }

    /// From now on `runner` is told when packs are to be deleted from the store.
    pub(crate) fn wake_for_errands(&self, runner: &Arc<Notify>) {
        if let Some(spool) = &self.spool {
            spool.state.lock().runner = Some(Arc::clone(runner));
        }
    }

    /// Whether packs are to be deleted from the store.
    pub(crate) fn has_errands(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.state.lock().errands.is_empty())
    }

    /// Packs to delete once the records of now are in the store.
    pub(crate) fn take_errands(&self) -> Vec<String> {
        self.spool.as_ref().map(|spool| std::mem::take(&mut spool.state.lock().errands)).unwrap_or_default()
    }

    /// Deletes packs from the store.
    pub(crate) async fn run_errands(&self, errands: Vec<String>, stop: &watch::Sender<bool>) {
        let Some(spool) = &self.spool else { return };
        for name in errands {
            let key = medium::key(&spool.place, &name);
            match spool.place.patiently(stop, || spool.place.store().delete(&key)).await {
                Ok(()) | Err(Given::Stopped | Given::Answer(Error::NotFound { .. })) => {}
                Err(Given::Answer(error)) => tracing::warn!(%name, %error, "a dead pack stays in the store"),
            }
        }
    }

    /// Finishes the pack that is open, so that it goes to the store.
    pub(crate) async fn finish_open(self: &Arc<Self>) {
        let open: Vec<PackId> = self.state.lock().open.keys().copied().collect();
        for pack in open {
            self.finish_pack(pack).await;
        }
    }

    async fn finish_pack(self: &Arc<Self>, pack: PackId) {
        let store = Arc::clone(self);
        let finish = move || match store.take_out(pack) {
            Some(open) => store.finish(&open),
            None => Ok(()),
        };
        match tokio::task::spawn_blocking(finish).await {
            Ok(Ok(())) => {}
            // The next open finishes it; a sync that needs it waits.
            failed => tracing::warn!(%pack, ?failed, "cannot finish a pack yet"),
        }
    }
}

/// Runs in order of place, neighbours joined.
fn joined_runs(mut runs: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    runs.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::with_capacity(runs.len());
    for (from, len) in runs {
        match out.last_mut() {
            Some((start, sum)) if *start + *sum == from => *sum += len,
            _ => out.push((from, len)),
        }
    }
    out
}

/// Writes bytes of packs that were open elsewhere into files here, durably; the next open of the packs finishes them.
/// Blocking.
pub(crate) fn put_pieces(dir: &Path, pieces: &[Piece]) -> std::io::Result<()> {
    let mut files: HashMap<PackId, File> = HashMap::new();
    for piece in pieces {
        let file = match files.entry(piece.pack) {
            std::collections::hash_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let path = dir.join(format!("{}.open", stem(piece.epoch, piece.pack)));
                let mut options = File::options();
                let file =
                    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
                place.insert(file)
            }
        };
        file.write_all_at(&piece.bytes, u64::from(piece.offset))?;
    }
    for file in files.values() {
        file.sync_data()?;
    }
    if files.is_empty() { Ok(()) } else { File::open(dir)?.sync_all() }
}

/// The epoch and id in the name of a pack's object.
pub(crate) fn parse_object(name: &str) -> Option<(u64, PackId)> {
    let (epoch, id) = name.strip_suffix(".pack")?.split_once('-')?;
    Some((u64::from_str_radix(epoch, 16).ok()?, PackId(uuid::Uuid::parse_str(id).ok()?.as_u128())))
}

#[cfg(test)]
mod tests {
    use super::joined_runs;

    #[test]
    fn neighbouring_runs_are_one_and_holes_stay() {
        assert_eq!(joined_runs(vec![(20, 5), (0, 10), (10, 10), (40, 1)]), [(0, 25), (40, 1)]);
        assert!(joined_runs(Vec::new()).is_empty());
    }
}
