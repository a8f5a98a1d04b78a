//! A disk that fails for a while.
//!
//! # What is done about it
//!
//! * **A write that fails** changed nothing that counts: the record's place is behind the last record. The same record
//!   is written to the same place until that works. Never another one: a record's number is the nonce of its seal.
//! * **An fdatasync that fails** leaves a question that asking again does not answer: the kernel counts the pages it could
//!   not write as written, and the next fdatasync succeeds without them. So everything that is not known to be on the
//!   medium is read back, checked record by record, and written once more; the kernel then has it to write again, and
//!   an fdatasync that succeeds after that means what it says. Where the bytes do not read back as they were written,
//!   they are lost, and the journal stops.
//!
//! While a fault lasts, new changes are refused ([`super::Journal::reserve`]) and who asks for a sync is told. Records
//! that were let in before wait. Everything else goes on, reads above all. When the disk is well again so is the
//! journal, by itself: the pause between two attempts stays under a second.

use super::format::{self, Found, HEAD_BYTES, Head};
use super::{Journal, JournalError, io_error};
use crate::failpoints::{Point, pass};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Between two attempts; short at first, because many faults are.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// The pause after this one.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LAST_PAUSE)
}

/// What fails, and how.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub(super) write: Option<JournalError>,
    pub(super) sync: Option<JournalError>,
}

/// The kinds of work that can fail apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Write,
    Sync,
}

impl JournalError {
    /// Whether the same may work later: the disk failed, nothing is known to be lost.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoSpace { .. } | Self::Data { .. } | Self::Fault { .. })
    }
}

impl Faults {
    fn any(&self) -> Option<&JournalError> {
        self.write.as_ref().or(self.sync.as_ref())
    }

    fn of(&mut self, work: Work) -> &mut Option<JournalError> {
        match work {
            Work::Write => &mut self.write,
            Work::Sync => &mut self.sync,
        }
    }
}

impl Journal {
    /// What is wrong with the disk now, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<JournalError> {
        self.faults.borrow().any().map(|error| self.fault_error(error))
    }

    /// Why a sync would fail now.
    pub(super) fn sync_fault(&self) -> Option<JournalError> {
        self.faults.borrow().sync.as_ref().map(|error| self.fault_error(error))
    }

    fn fault_error(&self, error: &JournalError) -> JournalError {
        JournalError::Fault { path: self.options.dir.clone(), reason: error.to_string() }
    }

    /// Waits until the disk fails.
    pub async fn faulty(&self) -> JournalError {
        let mut faults = self.faults.subscribe();
        loop {
            if let Some(error) = self.fault() {
                return error;
            }
            if faults.changed().await.is_err() {
                return self.closed();
            }
        }
    }

    /// Waits until no fault is left, or the journal has stopped.
    pub(super) async fn healthy(&self) {
        let (mut faults, mut progress) = (self.faults.subscribe(), self.progress.subscribe());
        tokio::select! {
            _ = faults.wait_for(|faults| faults.any().is_none()) => {}
            _ = progress.wait_for(|now| now.stopped.is_some()) => {}
        }
    }

    /// Notes a failure.
    pub(super) fn ails(&self, work: Work, error: JournalError) {
        let began = self.faults.send_if_modified(|faults| {
            let new = faults.of(work).is_none();
            *faults.of(work) = Some(error.clone());
            new
        });
        if began {
            tracing::error!(%error, "the journal's disk fails; changes are refused until it is well again");
            self.space.wake();
        }
    }

    /// Notes a success.
    pub(super) fn is_well(&self, work: Work) {
        let ended = self.faults.send_if_modified(|faults| faults.of(work).take().is_some());
        if ended {
            tracing::info!(dir = %self.options.dir.display(), "the journal's disk is well again");
        }
    }
}

/// Writes the first `end` bytes of a file once more, after making sure that they are what was written. Blocking.
pub(super) fn write_again(file: &File, path: &Path, end: u64) -> Result<(), JournalError> {
    let io = |error| io_error("repair", path, error);
    let mut bytes = vec![0; end as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let lost = |at: usize| format::corrupt(path, at, "what was written does not read back".to_owned());
    if Head::decode(&bytes, path)?.is_none() {
        return Err(lost(0));
    }
    let mut at = HEAD_BYTES;
    while at < bytes.len() {
        match format::read_record(&bytes, at) {
            Found::Record(record) => at += record.bytes,
            _ => return Err(lost(at)),
        }
    }
    let half = bytes.len() / 2;
    file.write_all_at(&bytes[..half], 0).map_err(io)?;
    pass(Point::JournalMidRepair).map_err(io)?;
    file.write_all_at(&bytes[half..], half as u64).map_err(io)
}
