//! Room for records, promised before they are written.
//!
//! The writer must not meet a full disk: the engine above would stop with it. So whoever is about to append
//! reserves first. There are two files at most, the current and a spare, and a reservation is granted when all
//! that is reserved fits the free part of the current file or, whole, the spare: then any order of the appends
//! fits, whatever the change of file wastes.

use super::format::HEAD_BYTES;
use super::recover::finish;
use super::{Journal, JournalError, io_error, record_bytes};
use crate::failpoints::{self, Point, pass};
use crate::seal::KeyGeneration;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;

/// An allocated file that holds only zeros.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub file: Arc<File>,
    pub path: PathBuf,
    pub number: u64,
}

#[derive(Debug)]
pub(super) struct Space {
    state: Mutex<State>,
    /// Room came free, or a spare is ready.
    changed: Notify,
    /// One prepares at a time.
    preparing: tokio::sync::Mutex<()>,
    file_bytes: u64,
}

#[derive(Debug)]
struct State {
    current_free: u64,
    reserved: u64,
    spare: Option<Spare>,
    next_number: u64,
    ahead: bool,
    /// The data key that seals the current file.
    generation: Option<KeyGeneration>,
}

/// Room for one record; given back when dropped, which must be after the append.
#[derive(Debug)]
pub struct Reservation {
    journal: Arc<Journal>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.journal.space.state.lock().reserved -= self.bytes;
        self.journal.space.changed.notify_waiters();
    }
}

impl Space {
    /// No current file yet: the first append takes the spare.
    pub fn new(file_bytes: u64, next_number: u64) -> Self {
        let state =
            State { current_free: 0, reserved: 0, spare: None, next_number, ahead: false, generation: None };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            preparing: tokio::sync::Mutex::new(()),
            file_bytes,
        }
    }

    /// The writer used `bytes` of the current file.
    pub fn used(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.current_free = state.current_free.saturating_sub(bytes);
    }

    /// The spare, which stays one.
    pub fn spare(&self) -> Option<Spare> {
        self.state.lock().spare.clone()
    }

    /// Whether the next file is ready.
    pub fn has_spare(&self) -> bool {
        self.state.lock().spare.is_some()
    }

    /// Makes the spare the current file, which this key seals.
    pub fn take_spare(&self, generation: KeyGeneration) {
        let mut state = self.state.lock();
        state.spare = None;
        state.generation = Some(generation);
        state.current_free = self.file_bytes - HEAD_BYTES as u64;
    }

    /// Lets everybody who waits for room look again.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    fn capacity(&self) -> u64 {
        self.file_bytes - HEAD_BYTES as u64
    }
}

enum Grant {
    Granted { prepare_ahead: bool },
    NeedSpare,
    Wait,
}

impl Journal {
    /// Takes room for a record with `body` bytes. Waits while others hold what there is; prepares a file when
    /// none is ready.
    ///
    /// # Errors
    /// [`JournalError::NoSpace`] when the disk is full: nothing happened, and freeing space helps.
    /// [`JournalError::Fault`] while the disk fails: nothing happened, and it works again when the disk does.
    /// [`JournalError::TooLarge`] when no file would take it.
    pub async fn reserve(self: &Arc<Self>, body: usize) -> Result<Reservation, JournalError> {
        let limit = self.options.max_body();
        if body > limit {
            return Err(JournalError::TooLarge { bytes: body, limit });
        }
        let bytes = record_bytes(body) as u64;
        loop {
            self.check()?;
            let changed = self.space.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(fault) = self.fault() {
                return Err(fault);
            }
            match self.try_reserve(bytes) {
                Grant::Granted { prepare_ahead } => {
                    if prepare_ahead {
                        let journal = Arc::clone(self);
                        tokio::spawn(async move { journal.prepare_ahead().await });
                    }
                    return Ok(Reservation { journal: Arc::clone(self), bytes });
                }
                Grant::NeedSpare => self.prepare_spare().await?,
                Grant::Wait => changed.await,
            }
        }
    }

    fn try_reserve(&self, bytes: u64) -> Grant {
        let mut state = self.space.state.lock();
        let wanted = state.reserved + bytes;
        let fits = wanted <= state.current_free || (state.spare.is_some() && wanted <= self.space.capacity());
        if !fits {
            return if state.spare.is_none() { Grant::NeedSpare } else { Grant::Wait };
        }
        state.reserved = wanted;
        let outdated =
            state.generation.is_some_and(|generation| generation != self.options.keys.generation());
        let soon = outdated || state.current_free < self.space.capacity() / 2;
        let low = state.spare.is_none() && !state.ahead && soon;
        state.ahead |= low;
        Grant::Granted { prepare_ahead: low }
    }

    /// Gives back room that was taken ahead, when nothing is appended any more: a bucket at rest takes what it has, and a
    /// host has thousands of them. What cannot be given back is at the next open.
    pub async fn give_back(self: &Arc<Self>) {
        // A file that is being prepared is waited for.
        let _one = self.space.preparing.lock().await;
        let spare = self.space.state.lock().spare.take();
        let last = self.last_file();
        let give_back = move || -> std::io::Result<()> {
            if let Some(spare) = spare {
                std::fs::remove_file(&spare.path)?;
            }
            last.map_or(Ok(()), |(path, end)| finish(&path, end))
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(give_back).await {
            tracing::debug!(dir = %self.options.dir.display(), %error, "a closed journal keeps its room");
        }
    }

    /// Prepares the next file while the current one still has room. A failure shows when the file is needed.
    async fn prepare_ahead(self: Arc<Self>) {
        if let Err(error) = self.prepare_spare().await {
            tracing::warn!(%error, "cannot prepare the next journal file yet");
        }
        self.space.state.lock().ahead = false;
    }

    async fn prepare_spare(self: &Arc<Self>) -> Result<(), JournalError> {
        let _one = self.space.preparing.lock().await;
        loop {
            self.check()?;
            let number = {
                let mut state = self.space.state.lock();
                if state.spare.is_some() {
                    return Ok(());
                }
                state.next_number += 1;
                state.next_number - 1
            };
            let (dir, bytes) = (self.options.dir.clone(), self.options.file_bytes);
            let made = tokio::task::spawn_blocking(move || create(&dir, number, bytes)).await;
            let made =
                made.map_err(|error| io_error("prepare", &self.options.dir, std::io::Error::other(error)))?;
            if let Some(spare) = made? {
                self.space.state.lock().spare = Some(spare);
                break;
            }
        }
        self.space.changed.notify_waiters();
        Ok(())
    }
}

/// Makes a file of zeros, durably entered into `dir`. `None` when the name is taken: a journal that was abandoned
/// in this process may still have been preparing when the directory was listed.
fn create(dir: &Path, number: u64, bytes: u64) -> Result<Option<Spare>, JournalError> {
    let path = dir.join(format!("{number:016x}.journal"));
    let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(io_error("create", &path, error)),
    };
    let made = allocate(&file, bytes).and_then(|()| failpoints::sync(&path, || file.sync_all()));
    let made = made.and_then(|()| pass(Point::JournalSpareBeforeEntry));
    let made = made.and_then(|()| failpoints::sync(dir, || File::open(dir)?.sync_all()));
    if let Err(error) = made {
        // Half a file takes the room that somebody is about to free.
        let _ = std::fs::remove_file(&path);
        return Err(io_error("allocate", &path, error));
    }
    Ok(Some(Spare { file: Arc::new(file), path, number }))
}

fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let len = zeros.len().min((bytes - at) as usize);
                file.write_all_at(&zeros[..len], at)?;
                at += len as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
