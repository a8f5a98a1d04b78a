//! Dropping records whose bytes did not survive.
//!
//! # Why
//!
//! Records name bytes in other files: a map's row names an extent in a pack. While the machine runs the order is
//! right, as bytes are written before the record that names them. Loss of power keeps no order: of what was written
//! since the last fdatasync the kernel may have put any page of any file on the medium, so a record can be there and
//! its bytes not. Such a row would turn a file that was synced, and changed since, into one that cannot be read: its
//! earlier bytes are gone from the map, its new ones are nowhere.
//!
//! # How
//!
//! The promise is: *a record that survives never names bytes that did not.* Two halves keep it.
//!
//! 1. **Up to the last sync** nothing need be checked. A round of the syncer notes the last record, makes durable all
//!    bytes that records name ([`super::Data`]), then the journal, and only then counts as synced up to what it noted.
//!    A record appended meanwhile may reach the medium with this round, but does not count. Every later record carries
//!    that count, and so does the engine: it moves rows to its tables, where nobody could cut them off again, only up
//!    to it.
//! 2. **Behind it** recovery looks. It takes the records that nobody knows to be synced, asks for each whether what it
//!    names is there, whole, and cuts the sequence at the first whose bytes are not ([`Recovery::cut`]). What remains
//!    is a prefix, like after any torn tail: a state that was.
//!
//! The order of the two fdatasyncs alone does not do: records are appended between them, and the kernel writes when it
//! likes. Nor does dropping all that is behind the last sync, which would be simpler: after kill -9 those records are
//! whole, and they are acknowledged. Nor does a mark of the machine's start to tell the two kinds of stop apart: a copy
//! of a running disk has the same mark. The look costs what was written in the last moments (the syncer runs every
//! [`super::BACKGROUND_SYNC`] when nobody asks), and compares with the lists that packs keep of what is in them, without
//! reading the bytes again.
//!
//! Bytes that a record names must outlive every record that recovery may still look at. Who deletes a pack does so only
//! when the record that took its last reference away is synced, *and* one more record has been synced since, which
//! carries this knowledge.
//!
//! # The cut itself
//!
//! The dropped records are whole, so unlike a torn tail they have to go before the sequence can go on with other
//! records of the same numbers: later files are removed, the file is cut short. A stop in between leaves a
//! state that the next recovery cuts at the same place, because the bytes are still missing.

use super::format::{self, Found, HEAD_BYTES};
use super::recover::{Recovery, finish, read_up_to, remove_dropped};
use super::{JournalError, io_error};
use crate::failpoints::{Point, pass};
use std::path::Path;

impl Recovery {
    /// Drops record `id` and all behind it, durably. Returns how many records went. Blocking.
    pub fn cut(&mut self, id: u64) -> Result<u64, JournalError> {
        let dropped = self.next_id.saturating_sub(id);
        let keep = self.kept.iter().take_while(|kept| kept.head.first_id < id).count();
        let later: Vec<_> = self.kept.split_off(keep).into_iter().map(|kept| kept.path).collect();
        remove_dropped(&self.options.dir, &later)?;
        pass(Point::JournalMidCut).map_err(|error| io_error("cut", &self.options.dir, error))?;
        if let Some(last) = self.kept.last_mut().filter(|last| last.last_id >= id) {
            last.end = begin_of(&last.path, id, self.options.file_bytes)? as u64;
            finish(&last.path, last.end).map_err(|error| io_error("cut", &last.path, error))?;
            last.last_id = id - 1;
        }
        self.next_id = id;
        Ok(dropped)
    }
}

/// Where record `id` begins in a file.
fn begin_of(path: &Path, id: u64, file_bytes: u64) -> Result<usize, JournalError> {
    let bytes = read_up_to(path, file_bytes as usize)?;
    let mut at = HEAD_BYTES;
    loop {
        match format::read_record(&bytes, at) {
            Found::Record(record) if record.id < id => at += record.bytes,
            Found::Record(record) if record.id == id => return Ok(at),
            _ => return Err(format::corrupt(path, at, "the file changed while it was read")),
        }
    }
}
