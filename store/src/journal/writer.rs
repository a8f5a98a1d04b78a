//! Appends records. One writer per journal.

use super::fault::{self, Work};
use super::format::{self, HEAD_BYTES, Head, RECORD_HEAD};
use super::sync::LiveFile;
use super::{Journal, JournalError, Recovery, io_error, place, record_bytes};
use crate::failpoints::{Point, due, pass};
use crate::seal::{Cipher, KeyGeneration};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The one that appends. Dropping it stops the journal, as nothing can be appended any more.
pub struct JournalWriter {
    journal: Arc<Journal>,
    epoch: u64,
    next_id: u64,
    current: Option<Current>,
    /// Kept between appends: a record is built here, so an append allocates nothing.
    record: Vec<u8>,
}

struct Current {
    file: Arc<File>,
    path: PathBuf,
    place: [u8; 25],
    generation: KeyGeneration,
    cipher: Cipher,
    at: u64,
}

/// Buffers larger than this are given back after use.
const KEPT_BUFFER: usize = 1 << 20;

impl JournalWriter {
    /// Goes on behind what was recovered, in a file of its own, as writer `epoch`.
    #[must_use]
    pub fn start(recovery: Recovery, epoch: u64) -> Self {
        let next_id = recovery.next_id;
        Self { journal: Journal::start(recovery), epoch, next_id, current: None, record: Vec::new() }
    }

    /// The shared side.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Appends one record whose body `encode` writes, and returns its id. `seq` is passed on to who listens for
    /// syncs. On return the record is in the file.
    ///
    /// The caller holds a [`super::Reservation`] that covers the body. Any failure stops the journal.
    pub fn append(&mut self, seq: u64, encode: impl FnOnce(&mut Vec<u8>)) -> Result<u64, JournalError> {
        self.journal.check()?;
        let done = self.try_append(encode);
        match &done {
            Ok((id, end)) => self.journal.appended(*id, seq, *end),
            Err(error) => self.journal.stop(error.clone()),
        }
        done.map(|(id, _)| id)
    }

    /// Like [`Self::append`], and waits for a disk that fails. `encode` is called for every attempt and writes the same
    /// each time: see [`super::fault`]. A caller that stops waiting has to drop the writer.
    pub async fn append_patiently(
        &mut self,
        seq: u64,
        encode: impl Fn(&mut Vec<u8>),
    ) -> Result<u64, JournalError> {
        let mut pause = fault::FIRST_PAUSE;
        loop {
            self.journal.check()?;
            match self.try_append(&encode) {
                Ok((id, end)) => {
                    self.journal.appended(id, seq, end);
                    self.journal.is_well(Work::Write);
                    return Ok(id);
                }
                Err(error) if error.may_pass() => self.journal.ails(Work::Write, error),
                Err(error) => {
                    self.journal.stop(error.clone());
                    return Err(error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = fault::longer(pause);
        }
    }

    /// The record's id, and where it ends.
    fn try_append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(u64, u64), JournalError> {
        let id = self.next_id;
        self.record.clear();
        self.record.resize(RECORD_HEAD, 0);
        encode(&mut self.record);
        let bytes = record_bytes(self.record.len() - RECORD_HEAD) as u64;
        let free = self.current.as_ref().map_or(0, |current| self.journal.options.file_bytes - current.at);
        if bytes > free || self.key_was_replaced() {
            self.rotate()?;
        }
        let dir = &self.journal.options.dir;
        let current = self.current.as_mut().ok_or_else(|| JournalError::NoSpace { path: dir.clone() })?;
        current.cipher.seal_tail(id, &current.place, &mut self.record, RECORD_HEAD)?;
        format::finish_record(&mut self.record, id, self.journal.synced());
        current.write(&self.record).map_err(|error| io_error("write", &current.path, error))?;
        current.at += self.record.len() as u64;
        self.journal.space.used(self.record.len() as u64);
        self.next_id += 1;
        let end = current.at;
        if self.record.capacity() > KEPT_BUFFER {
            self.record = Vec::new();
        }
        Ok((id, end))
    }

    /// Whether the current file should end before it is full: it was begun with an earlier key, and the next file is
    /// ready. All that is reserved fits a whole file, so changing over is safe at any time.
    fn key_was_replaced(&self) -> bool {
        let now = self.journal.options.keys.generation();
        let outdated = self.current.as_ref().is_some_and(|current| current.generation != now);
        outdated && self.journal.space.has_spare()
    }

    /// Makes the prepared spare the current file.
    fn rotate(&mut self) -> Result<(), JournalError> {
        let options = &self.journal.options;
        // Taken when it has its head, so that a failure leaves it where it is.
        let spare = self.journal.space.spare();
        let spare = spare.ok_or_else(|| JournalError::NoSpace { path: options.dir.clone() })?;
        let mut salt = [0; 32];
        options.random.fill(&mut salt);
        let generation = options.keys.generation();
        let cipher = options.keys.journal(generation, &salt)?;
        let head = Head {
            volume: options.keys.volume().get(),
            epoch: self.epoch,
            number: spare.number,
            first_id: self.next_id,
            synced: self.journal.synced(),
            generation,
            salt,
        };
        let wrote = pass(Point::JournalRotateBeforeHeader)
            .and_then(|()| spare.file.write_all_at(&head.encode(), 0))
            .and_then(|()| pass(Point::JournalRotateAfterHeader));
        wrote.map_err(|error| io_error("begin", &spare.path, error))?;
        self.journal.space.take_spare(generation);
        let (path, file, end) = (spare.path.clone(), Some(Arc::clone(&spare.file)), HEAD_BYTES as u64);
        self.journal.began(LiveFile { path, first_id: self.next_id, file, end });
        let place = place(&head);
        let (path, at) = (spare.path, HEAD_BYTES as u64);
        self.current = Some(Current { file: spare.file, path, place, generation, cipher, at });
        Ok(())
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.journal.abandon();
    }
}

impl Current {
    fn write(&self, record: &[u8]) -> std::io::Result<()> {
        pass(Point::JournalBeforeWrite)?;
        if due(Point::JournalMidWrite) {
            self.file.write_all_at(&record[..record.len() / 2], self.at)?;
        }
        pass(Point::JournalMidWrite)?;
        self.file.write_all_at(record, self.at)?;
        pass(Point::JournalAfterWrite)
    }
}
