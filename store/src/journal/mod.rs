//! The journal: a redo log of small records in local files.
//!
//! # What it promises
//!
//! * [`JournalWriter::append`] returns when the record is in the file (write(2)): it survives kill -9 of this
//!   process. [`Journal::sync`] returns when it is on the medium (fdatasync). All who ask while one fdatasync runs
//!   share the next.
//! * Recovery ([`recover`]) gives back a prefix of what was appended, at least up to the last sync. A torn tail
//!   is dropped; damage is an error, told apart as [`format`] explains.
//! * Records may name bytes kept elsewhere ([`Data`]). Those are made durable first, and a record that outlived them is
//!   dropped with all behind it ([`cut`] says why this takes both).
//!
//! # How
//!
//! ```text
//!   Journal::reserve ──▶ room in the current file or a prepared spare, or NoSpace before anything is promised
//!   JournalWriter::append ──▶ pwrite at the end of the current file; full: the spare becomes current
//!   Journal::sync ──▶ wakes the syncer thread, waits for its watermark ──▶ listeners
//!   Journal::collect ──▶ removes files nobody needs for replay
//! ```
//!
//! Files have a fixed size and are allocated, and entered into their directory durably, before use. So an
//! append cannot meet a full disk, and a sync is one fdatasync of a file that does not grow.
//!
//! A disk that fails is waited for ([`fault`]): changes are refused with its error meanwhile, and nothing need be
//! opened anew afterwards.

mod cut;
mod error;
mod fault;
mod format;
mod recover;
mod space;
mod sync;
mod writer;

pub use error::JournalError;
pub use recover::{Recovery, RecoveryWork, Replay, first_record, recover};
pub use space::Reservation;
pub use sync::{Journal, Progress};
pub use writer::JournalWriter;

use crate::seal::VolumeKeys;
use format::Head;
use mooring_policy::rng::Random;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Size of a journal file. Replay reads whole files, so this is also the step of its memory.
pub const FILE_BYTES: u64 = 16 << 20;

/// Records wait at most this long for an fdatasync nobody asked for. Bounds what loss of power costs those who
/// never sync, and lets the engine move rows to its tables, for which it waits until they are synced here.
pub const BACKGROUND_SYNC: Duration = Duration::from_millis(200);

/// A failure of [`Data`].
pub type DataError = Arc<dyn std::error::Error + Send + Sync>;

/// Bytes that records name and that are kept elsewhere. They are stored there before a record that names them is
/// appended.
pub trait Data: Send + Sync + 'static {
    /// Makes durable all that was stored before the call. Blocking. A failure stops the journal.
    fn sync(&self) -> Result<(), DataError>;
}

/// Where a journal is and what it needs.
#[derive(Clone)]
pub struct JournalOptions {
    /// The directory; it must exist.
    pub dir: PathBuf,
    /// Keys of the volume.
    pub keys: VolumeKeys,
    /// Salts come from here.
    pub random: Arc<dyn Random>,
    /// What records name; `None` when they name nothing.
    pub data: Option<Arc<dyn Data>>,
    /// Size of a file, [`FILE_BYTES`] but for tests.
    pub file_bytes: u64,
    /// See [`BACKGROUND_SYNC`].
    pub background_sync: Duration,
}

impl JournalOptions {
    /// The options everybody uses.
    #[must_use]
    pub fn new(dir: PathBuf, keys: VolumeKeys, random: Arc<dyn Random>) -> Self {
        Self { dir, keys, random, data: None, file_bytes: FILE_BYTES, background_sync: BACKGROUND_SYNC }
    }

    /// Largest body of a record.
    #[must_use]
    pub fn max_body(&self) -> usize {
        (self.file_bytes as usize).saturating_sub(format::HEAD_BYTES + record_bytes(0))
    }
}

/// Bytes a record with `body` bytes takes in a file.
fn record_bytes(body: usize) -> usize {
    format::RECORD_HEAD + body + crate::seal::TAG_BYTES + format::RECORD_TAIL
}

/// What a record's seal binds besides its id, which is the nonce.
fn place(head: &Head) -> [u8; 25] {
    let mut place = [b'J'; 25];
    place[1..9].copy_from_slice(&head.volume.to_be_bytes());
    place[9..17].copy_from_slice(&head.epoch.to_be_bytes());
    place[17..].copy_from_slice(&head.number.to_be_bytes());
    place
}

fn io_error(op: &'static str, path: &Path, source: std::io::Error) -> JournalError {
    if source.kind() == std::io::ErrorKind::StorageFull || source.kind() == std::io::ErrorKind::QuotaExceeded
    {
        return JournalError::NoSpace { path: path.to_path_buf() };
    }
    JournalError::Io { op, path: path.to_path_buf(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests;
