//! What a journal directory holds after a stop of any kind.
//!
//! The files are one sequence of records with ids that rise by one. Recovery walks it from the first record
//! the engine still needs, verifies every checksum, and finds the end. What lies behind a torn record is dropped,
//! files included, unless a later record proves that the lost one had been synced.

use super::fault::write_again;
use super::format::{self, Found, HEAD_BYTES, Head};
use super::{JournalError, JournalOptions, io_error};
use crate::failpoints::{self, Point, pass};
use crate::seal::Cipher;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of the sequence, verified.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub path: PathBuf,
    pub head: Head,
    /// Last record in it; `head.first_id - 1` when it has none.
    pub last_id: u64,
    /// Where its last record ends.
    pub end: u64,
}

/// A verified journal, ready to be replayed and continued.
pub struct Recovery {
    pub(super) options: JournalOptions,
    pub(super) kept: Vec<Kept>,
    pub(super) next_id: u64,
    pub(super) next_number: u64,
    pub(super) synced: u64,
    /// Files that hold nothing the engine still needs, with their first records, in order.
    pub(super) old: Vec<(PathBuf, u64)>,
    pub(super) work: RecoveryWork,
    /// Bytes dropped as torn: for the log.
    pub torn_bytes: u64,
}

/// What a recovery had to do: bounded however often the process was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryWork {
    /// Files there were.
    pub files: usize,
    /// Files that were read to their ends.
    pub read_files: usize,
    /// Bytes read from them.
    pub read_bytes: u64,
    /// Records found behind what the engine has.
    pub records: u64,
}

/// Verifies the journal in `options.dir`. The engine holds everything up to record `after` in its own tables.
///
/// Blocking: reads every file that is still needed.
pub fn recover(options: JournalOptions, after: u64) -> Result<Recovery, JournalError> {
    let mut files = list(&options.dir)?;
    let last_number = files.last().map_or(0, |(number, _)| *number);
    let mut work = RecoveryWork { files: files.len(), ..RecoveryWork::default() };
    let (old, mut dropped) = skip_old(&mut files, &options, after)?;
    work.read_files = files.len();
    let mut state = Walk { next_id: after + 1, synced: after, ..Walk::default() };
    for (number, path) in files {
        if state.file(&options, number, &path, after)? == Keep::No {
            dropped.push(path);
        }
    }
    remove_dropped(&options.dir, &dropped)?;
    let Walk { kept, next_id, torn_bytes, synced, read_bytes, .. } = state;
    // Records that the engine has in its tables already may be torn here; new ones go behind them.
    let next_id = next_id.max(after + 1);
    (work.read_bytes, work.records) = (read_bytes, next_id - 1 - after);
    // The engine waits for a sync before it relies on records, and a stopped process may have left them in the
    // page cache only: what is replayed counts as synced from here on.
    for Kept { path, end, last_id, .. } in &kept {
        if *last_id > synced {
            // The process of before may have met a failing fdatasync, whose pages the kernel counts as written.
            let repaired = File::options().read(true).write(true).open(path);
            let repaired = repaired.map_err(|error| io_error("open", path, error))?;
            write_again(&repaired, path, *end)?;
        }
        finish(path, *end).map_err(|error| io_error("sync", path, error))?;
    }
    let next_number = last_number + 1;
    Ok(Recovery { options, kept, next_id, next_number, synced, old, work, torn_bytes })
}

/// Cuts a file at the end of its records, durably: nobody appends to it any more, and what follows (room that was
/// allocated, or a torn record) would be read at every open and take up the disk.
pub(super) fn finish(path: &Path, end: u64) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    if file.metadata()?.len() > end {
        file.set_len(end)?;
    }
    failpoints::sync(path, || file.sync_data())
}

/// The first record that the journal may still have; `None` when it has no file that was begun. Blocking.
pub fn first_record(options: &JournalOptions) -> Result<Option<u64>, JournalError> {
    for (_, path) in list(&options.dir)? {
        if let Some(head) = Head::decode(&read_up_to(&path, HEAD_BYTES)?, &path)? {
            return Ok(Some(head.first_id));
        }
    }
    Ok(None)
}

/// Journal files by number.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let entries = std::fs::read_dir(dir).map_err(|error| io_error("list", dir, error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io_error("list", dir, error))?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".journal"));
        if let Some(number) = name.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Leaves out the files whose records are all in the engine's tables: those before one that begins at or before
/// `after + 1`. They may be damaged or have gaps, being removed one by one. Returns them with their first records, and
/// those that have none.
#[allow(clippy::type_complexity, reason = "used once, right above")]
fn skip_old(
    files: &mut Vec<(u64, PathBuf)>,
    options: &JournalOptions,
    after: u64,
) -> Result<(Vec<(PathBuf, u64)>, Vec<PathBuf>), JournalError> {
    let mut begin = 0;
    let mut firsts = Vec::with_capacity(files.len());
    for (index, (_, path)) in files.iter().enumerate() {
        let head = Head::decode(&read_up_to(path, HEAD_BYTES)?, path);
        firsts.push(head.as_ref().ok().and_then(|head| head.as_ref().map(|head| head.first_id)));
        match head {
            Ok(Some(head)) if head.volume != options.keys.volume().get() => {
                let detail = format!("{} belongs to volume {:016x}", path.display(), head.volume);
                return Err(JournalError::Gap { path: options.dir.clone(), detail });
            }
            Ok(Some(head)) if head.first_id <= after + 1 => begin = index,
            // A head that does not check matters only if the file is needed; the walk finds out.
            Ok(_) | Err(JournalError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let (mut old, mut void) = (Vec::new(), Vec::new());
    for ((_, path), first) in files.drain(..begin).zip(firsts) {
        match first {
            Some(first) => old.push((path, first)),
            None => void.push(path),
        }
    }
    Ok((old, void))
}

#[derive(PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

#[derive(Default)]
struct Walk {
    kept: Vec<Kept>,
    next_id: u64,
    /// The last record that a later one, or the engine, knows to be on the medium.
    synced: u64,
    /// Where the sequence ended: the file and offset of the torn record.
    cut: Option<(PathBuf, usize)>,
    torn_bytes: u64,
    read_bytes: u64,
}

impl Walk {
    fn file(
        &mut self,
        options: &JournalOptions,
        number: u64,
        path: &Path,
        after: u64,
    ) -> Result<Keep, JournalError> {
        let bytes = read_up_to(path, options.file_bytes as usize)?;
        self.read_bytes += bytes.len() as u64;
        let Some(head) = Head::decode(&bytes, path)? else {
            // Never begun (a prepared spare), or its head was lost with the power.
            self.lost(&bytes, 0, path)?;
            return Ok(Keep::No);
        };
        if let Some((cut_path, at)) = &self.cut {
            // A file begun after the tear by a later opener goes on where the sequence was cut.
            if head.first_id > self.next_id {
                let (cut_path, at) = (cut_path.clone(), *at);
                self.refuse_if_synced(head.synced.max(highest(&bytes)), &cut_path, at)?;
                self.torn_bytes += bytes.len() as u64;
                return Ok(Keep::No);
            }
            self.cut = None;
        }
        if self.kept.is_empty() && head.first_id <= after + 1 {
            self.next_id = head.first_id;
        }
        if head.first_id != self.next_id || head.number != number {
            let detail = format!(
                "{} begins with record {}, wanted is {}",
                path.display(),
                head.first_id,
                self.next_id
            );
            return Err(JournalError::Gap { path: options.dir.clone(), detail });
        }
        self.synced = self.synced.max(head.synced);
        let end = self.records(&bytes, path)? as u64;
        self.kept.push(Kept { path: path.to_path_buf(), head, last_id: self.next_id - 1, end });
        Ok(Keep::Yes)
    }

    /// Walks over the records of a file. Returns where they end.
    fn records(&mut self, file: &[u8], path: &Path) -> Result<usize, JournalError> {
        let mut at = HEAD_BYTES;
        loop {
            match format::read_record(file, at) {
                Found::Record(record) if record.id == self.next_id => {
                    self.next_id += 1;
                    self.synced = self.synced.max(record.synced);
                    at += record.bytes;
                }
                Found::Record(record) => {
                    let detail = format!("record {} where {} belongs", record.id, self.next_id);
                    return Err(format::corrupt(path, at, detail));
                }
                Found::End | Found::Torn => {
                    self.lost(file, at, path)?;
                    return Ok(at);
                }
                Found::Damaged(detail) => return Err(format::corrupt(path, at, detail)),
            }
        }
    }

    /// Notes that this file holds nothing from `file[at..]` on, where record `next_id` would stand: the next file
    /// begins with it, or it is lost.
    fn lost(&mut self, file: &[u8], at: usize, path: &Path) -> Result<(), JournalError> {
        self.cut = Some((path.to_path_buf(), at));
        if format::is_zero(&file[at.min(file.len())..]) {
            return Ok(());
        }
        self.torn_bytes += (file.len() - at) as u64;
        self.refuse_if_synced(format::highest_synced(file, at).unwrap_or(0), path, at)
    }

    fn refuse_if_synced(&self, synced: u64, path: &Path, at: usize) -> Result<(), JournalError> {
        if synced < self.next_id {
            return Ok(());
        }
        let detail = format!("record {} is lost, and later records say it was synced", self.next_id);
        Err(format::corrupt(path, at, detail))
    }
}

fn highest(file: &[u8]) -> u64 {
    format::highest_synced(file, HEAD_BYTES).unwrap_or(0)
}

pub(super) fn remove_dropped(dir: &Path, dropped: &[PathBuf]) -> Result<(), JournalError> {
    pass(Point::JournalMidRecover).map_err(|error| io_error("recover", dir, error))?;
    for path in dropped {
        pass(Point::JournalMidRecover).map_err(|error| io_error("recover", path, error))?;
        std::fs::remove_file(path).map_err(|error| io_error("remove", path, error))?;
    }
    if dropped.is_empty() {
        return Ok(());
    }
    // Durable before a new file begins where the dropped ones did.
    failpoints::sync(dir, || File::open(dir)?.sync_all()).map_err(|error| io_error("sync", dir, error))
}

pub(super) fn read_up_to(path: &Path, limit: usize) -> Result<Vec<u8>, JournalError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
    read.map_err(|error| io_error("read", path, error))?;
    Ok(bytes)
}

impl Recovery {
    /// The id that the next record gets.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The error for data that could not be looked at.
    #[must_use]
    pub fn data_failed(&self, source: super::DataError) -> JournalError {
        JournalError::Data { path: self.options.dir.clone(), source }
    }

    /// What it took.
    #[must_use]
    pub fn work(&self) -> RecoveryWork {
        self.work
    }

    /// The last record known to have been synced, with what it names, before the stop.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// The records, in order, from those files that hold any behind `after`.
    #[must_use]
    pub fn replay(&self, after: u64) -> Replay {
        let options = self.options.clone();
        let files: Vec<_> = self.kept.iter().filter(|kept| kept.last_id > after).cloned().collect();
        Replay { files: files.into_iter(), current: None, options, after }
    }
}

/// Walks over verified records, one file in memory at a time. Blocking.
pub struct Replay {
    files: std::vec::IntoIter<Kept>,
    current: Option<Current>,
    options: JournalOptions,
    after: u64,
}

struct Current {
    kept: Kept,
    bytes: Vec<u8>,
    cipher: Arc<Cipher>,
    at: usize,
    next_id: u64,
}

impl Replay {
    /// The next record's id and opened body.
    pub fn next_record(&mut self) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(kept) = self.files.next() else {
                    return Ok(None);
                };
                let bytes = read_up_to(&kept.path, self.options.file_bytes as usize)?;
                let cipher = Arc::new(self.options.keys.journal(kept.head.generation, &kept.head.salt)?);
                let next_id = kept.head.first_id;
                self.current = Some(Current { kept, bytes, cipher, at: HEAD_BYTES, next_id });
                continue;
            };
            if current.next_id > current.kept.last_id {
                self.current = None;
                continue;
            }
            if let Some(found) = current.step(self.after)? {
                return Ok(Some(found));
            }
        }
    }
}

impl Replay {
    /// The error for a record whose body the owner cannot read.
    #[must_use]
    pub fn not_understood(&self, id: u64) -> JournalError {
        let path = self.current.as_ref().map_or(&self.options.dir, |current| &current.kept.path);
        let at = self.current.as_ref().map_or(0, |current| current.at);
        format::corrupt(path, at, format!("record {id} is sealed well and has an unknown form"))
    }
}

impl Current {
    /// The next record, opened if it is behind `after`.
    fn step(&mut self, after: u64) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        let path = &self.kept.path;
        let Found::Record(record) = format::read_record(&self.bytes, self.at) else {
            return Err(format::corrupt(path, self.at, "the file changed while it was read"));
        };
        self.next_id += 1;
        if record.id <= after {
            self.at += record.bytes;
            return Ok(None);
        }
        let mut body = record.body.to_vec();
        let place = super::place(&self.kept.head);
        let plain = self
            .cipher
            .open(record.id, &place, &mut body)
            .map_err(|error| format::corrupt(path, self.at, format!("record {}: {error}", record.id)))?;
        let len = plain.len();
        body.truncate(len);
        self.at += record.bytes;
        Ok(Some((record.id, body)))
    }
}
