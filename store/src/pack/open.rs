//! A pack that is being written.

use super::error::PackError;
use super::extent::{Entry, PackId};
use super::format::{self, EXTENT_HEAD, HEAD_BYTES, Head};
use crate::failpoints::{self, Point, due, pass};
use crate::seal::Cipher;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One open pack. Room is given out under a short lock; writes go side by side.
pub(super) struct OpenPack {
    pub id: PackId,
    pub file: Arc<File>,
    pub path: PathBuf,
    pub cipher: Cipher,
    state: Mutex<State>,
    /// The last writer left.
    idle: Condvar,
    /// Held while the file is synced. Set when that failed: the kernel then counts pages as written that are not.
    suspect: Mutex<bool>,
    /// Held by who finishes the pack: one at a time.
    pub finishing: Mutex<()>,
}

struct State {
    /// Where the next extent goes.
    next: u32,
    writers: usize,
    /// No more room is given out.
    full: bool,
    written: Vec<(Entry, u32)>,
}

/// The name of a pack file without its ending.
pub(super) fn stem(epoch: u64, id: PackId) -> String {
    format!("{epoch:016x}-{}", uuid::Uuid::from_u128(id.0))
}

impl OpenPack {
    /// Makes the file. Its directory entry is synced by the caller's next sync.
    pub fn create(dir: &Path, head: Head, cipher: Cipher) -> Result<Self, PackError> {
        let path = dir.join(format!("{}.open", stem(head.epoch, head.id)));
        let io = |error: std::io::Error| PackError::io("create", &path, error);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
        if let Err(error) = pass(Point::PackBeforeHead).and_then(|()| file.write_all_at(&head.encode(), 0)) {
            // Nothing is in it yet, and it takes room.
            let _ = std::fs::remove_file(&path);
            return Err(io(error));
        }
        let state = State { next: HEAD_BYTES as u32, writers: 0, full: false, written: Vec::new() };
        let (file, state, idle) = (Arc::new(file), Mutex::new(state), Condvar::new());
        Ok(Self {
            id: head.id,
            file,
            path,
            cipher,
            state,
            idle,
            suspect: Mutex::new(false),
            finishing: Mutex::new(()),
        })
    }

    /// Takes room for as many of `sizes` as fit below `limit` (one at least in an empty pack), for one write. Returns
    /// where it begins and for how many it is; `None` when the pack is full.
    pub fn take(&self, sizes: &[u32], limit: u32) -> Option<(u32, usize)> {
        let mut state = self.state.lock();
        if state.full {
            return None;
        }
        let (from, mut count) = (state.next, 0);
        for size in sizes {
            let end = u64::from(state.next) + u64::from(*size);
            let empty = from == HEAD_BYTES as u32 && count == 0;
            if end > u64::from(limit) && !empty {
                break;
            }
            state.next = end as u32;
            count += 1;
        }
        if count == 0 {
            state.full = true;
            return None;
        }
        state.writers += 1;
        Some((from, count))
    }

    /// Writes what [`Self::take`] made room for, and ends that.
    pub fn write(&self, from: u32, bytes: &[u8], entries: Vec<(Entry, u32)>) -> Result<(), PackError> {
        let wrote = self.pwrite(from, bytes).map_err(|error| PackError::io("write", &self.path, error));
        self.finish(if wrote.is_ok() { entries } else { Vec::new() });
        wrote
    }

    /// Ends a [`Self::take`] whose write did not happen.
    pub fn give_up(&self) {
        self.finish(Vec::new());
    }

    fn finish(&self, entries: Vec<(Entry, u32)>) {
        let mut state = self.state.lock();
        state.written.extend(entries);
        state.writers -= 1;
        if state.writers == 0 {
            self.idle.notify_all();
        }
    }

    fn pwrite(&self, from: u32, bytes: &[u8]) -> std::io::Result<()> {
        pass(Point::PackBeforeWrite)?;
        if due(Point::PackMidWrite) {
            self.file.write_all_at(&bytes[..bytes.len() / 2], u64::from(from))?;
        }
        pass(Point::PackMidWrite)?;
        self.file.write_all_at(bytes, u64::from(from))?;
        pass(Point::PackAfterWrite)
    }

    /// Bytes given out so far.
    pub fn bytes(&self) -> u64 {
        u64::from(self.state.lock().next)
    }

    /// Makes what is written durable. After a failure everything is read back, checked and written once more before the
    /// next attempt: see the journal's `fault` for why asking again would not do. Blocking.
    ///
    /// # Errors
    /// [`PackError::Corrupt`] when something does not read back as it was written; anything else may pass.
    pub fn sync(&self) -> Result<(), PackError> {
        let mut suspect = self.suspect.lock();
        if *suspect {
            self.write_again()?;
        }
        let synced =
            pass(Point::PackBeforeSync).and_then(|()| failpoints::sync(&self.path, || self.file.sync_data()));
        *suspect = synced.is_err();
        synced.map_err(|error| PackError::io("sync", &self.path, error))
    }

    fn write_again(&self) -> Result<(), PackError> {
        let io = |error: std::io::Error| PackError::io("repair", &self.path, error);
        let lost = |offset| PackError::Corrupt {
            pack: self.id,
            offset,
            detail: "what was written does not read back after a failed sync".to_owned(),
        };
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, 0).map_err(io)?;
        if Head::decode(&head).is_none_or(|(head, _)| head.id != self.id) {
            return Err(lost(0));
        }
        self.file.write_all_at(&head, 0).map_err(io)?;
        // Room that a writer has taken and not filled yet is not touched.
        let written = self.state.lock().written.clone();
        let mut bytes = Vec::new();
        for (entry, crc) in &written {
            let at = u64::from(entry.extent.offset);
            bytes.resize(entry.extent.pack_bytes() as usize, 0);
            self.file.read_exact_at(&mut bytes, at).map_err(io)?;
            let (head, body) = bytes.split_at(EXTENT_HEAD);
            if *head != format::extent_head(entry, *crc) || crc32c::crc32c(body) != *crc {
                return Err(lost(at));
            }
            pass(Point::PackMidRepair).and_then(|()| self.file.write_all_at(&bytes, at)).map_err(io)?;
        }
        Ok(())
    }

    /// The reverse map so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.state.lock().written.iter().map(|(entry, _)| *entry).collect()
    }

    /// Ends the pack: footer, fdatasync, its final name, which is returned. An empty one is removed. Blocking; waits
    /// for writers.
    pub fn close(&self, dir: &Path) -> Result<Option<(PathBuf, u64)>, PackError> {
        let written = {
            let mut state = self.state.lock();
            state.full = true;
            while state.writers > 0 {
                self.idle.wait(&mut state);
            }
            state.written.sort_unstable_by_key(|(entry, _)| entry.extent.offset);
            state.written.clone()
        };
        let end = written.last().map(|(last, _)| u64::from(last.extent.offset) + last.extent.pack_bytes());
        let end = end.unwrap_or(HEAD_BYTES as u64);
        let done = finish_file(&self.file, &self.path, dir, (&written, end), || self.sync())?;
        let io = |error: std::io::Error| PackError::io("look at", &self.path, error);
        done.map(|path| Ok((path, self.file.metadata().map_err(io)?.len()))).transpose()
    }
}

/// Gives a pack file its footer and its final name. `written` is in order of offsets; `end` is where the footer goes. A
/// file with nothing in it is removed.
pub(super) fn finish_file(
    file: &File,
    path: &Path,
    dir: &Path,
    (written, end): (&[(Entry, u32)], u64),
    sync: impl FnOnce() -> Result<(), PackError>,
) -> Result<Option<PathBuf>, PackError> {
    let io = |error: std::io::Error| PackError::io("finish", path, error);
    if written.is_empty() && end <= HEAD_BYTES as u64 {
        std::fs::remove_file(path).map_err(io)?;
        return Ok(None);
    }
    let to = path.with_extension("pack");
    // An attempt before this one may have got as far as the name: then everything before it is durable.
    if path.exists() || !to.exists() {
        pass(Point::PackBeforeFooter).map_err(io)?;
        // What follows the last whole extent is torn, and would stand between it and the footer.
        file.set_len(end).map_err(io)?;
        file.write_all_at(&format::footer(written, end as u32), end).map_err(io)?;
        pass(Point::PackAfterFooter).map_err(io)?;
        sync()?;
        pass(Point::PackBeforeRename).map_err(io)?;
        std::fs::rename(path, &to).map_err(io)?;
    }
    pass(Point::PackAfterRename)
        .and_then(|()| failpoints::sync(dir, || File::open(dir)?.sync_all()))
        .map_err(io)?;
    Ok(Some(to))
}
