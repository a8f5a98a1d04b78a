//! Session records on disk, so that sessions survive the death of this process.
//!
//! Two files per session in one directory:
//!
//! | file | content |
//! |---|---|
//! | `<id>` | the record: who may resume it, its epoch, the doors it has open. Replaced by rename. |
//! | `<id>.applied` | what became of requests, appended: three words of 8 bytes, little-endian: id, moment, what was seen |
//!
//! An entry says that a request is *done*; it is appended before the reply is queued. Where doing it twice would differ
//! from once, an entry before says that it was *begun* (the id's top bit). A request that was begun and not done when
//! the process died may or may not have been carried out; who sends it again is answered by what is found then. For
//! that a beginning notes its moment (nanoseconds since 1970) and what it saw ([`Begun`]); an end notes neither.
//!
//! Nothing here is synced: the page cache outlives this process, and a host that goes down takes its VMs with it. A torn
//! last id is dropped. A record that cannot be read is removed and its session is lost, which the log says.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mooring_policy::ids::VolumeId;
use mooring_policy::principal::Principal;
use mooring_protocol::session::{Applied, SessionId, SessionRecord};
use mooring_protocol::types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::moments::{from_nanos, to_nanos};

/// Entries in the appended file before it is written anew.
const MAX_APPENDED: usize = 16 * Applied::WINDOW;

/// Entries kept when it is: a request has at most two.
const WINDOW: usize = 2 * Applied::WINDOW;

/// Bytes of an entry.
const ENTRY_LEN: usize = 3 * size_of::<u64>();

/// Marks the id of a request that was begun. Ids are counted up from one, so none reaches it.
const BEGUN: u64 = 1 << 63;

/// An id, marked or not; when; and what was seen.
type Entry = [u64; 3];

/// What is known of a request that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its moment, which no other request has.
    pub at: Time,
    /// What its operation found before it changed anything, in its own terms.
    pub seen: u64,
}

/// What is kept of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The protocol's part.
    pub session: SessionRecord,
    /// Whose it is.
    pub principal: Principal,
    /// The boot of the guest it belongs to.
    pub boot: [u8; 16],
    /// Doors it has open, and the volumes behind them.
    pub doors: Vec<(u64, VolumeId)>,
    /// Requests that were begun, and are not known to be done. Kept in the other file.
    #[serde(skip)]
    pub doubtful: HashMap<u64, Begun>,
}

/// The appended file of one session. Its own lock covers one small write into the page cache.
pub struct AppliedLog {
    path: PathBuf,
    open: Mutex<Option<Appended>>,
}

struct Appended {
    file: File,
    count: usize,
    window: VecDeque<Entry>,
}

impl AppliedLog {
    /// Notes that a request is about to be carried out.
    pub fn begun(&self, request: u64, begun: Begun) -> io::Result<()> {
        if request & BEGUN == 0 {
            self.push([request | BEGUN, to_nanos(begun.at), begun.seen])
        } else {
            Ok(())
        }
    }

    /// Notes that a request is done. To be called before its reply is queued.
    pub fn done(&self, request: u64) -> io::Result<()> {
        if request & BEGUN == 0 { self.push([request, 0, 0]) } else { Ok(()) }
    }

    fn push(&self, entry: Entry) -> io::Result<()> {
        let mut open = self.open.lock();
        let appended = match &mut *open {
            Some(appended) => appended,
            none => none.insert(Appended::open(&self.path)?),
        };
        if appended.window.len() == WINDOW {
            appended.window.pop_front();
        }
        appended.window.push_back(entry);
        if appended.count < MAX_APPENDED {
            appended.count += 1;
            return appended.file.write_all(&encode(entry));
        }
        let entries: Vec<u8> = appended.window.iter().flat_map(|e| encode(*e)).collect();
        replace(&self.path, &entries)?;
        appended.file = OpenOptions::new().append(true).open(&self.path)?;
        appended.count = appended.window.len();
        Ok(())
    }
}

impl Appended {
    fn open(path: &Path) -> io::Result<Appended> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let entries = read_entries(path)?;
        // A torn last entry would shift all that follow it.
        let whole = (entries.len() * ENTRY_LEN) as u64;
        if file.metadata()?.len() != whole {
            file.set_len(whole)?;
        }
        let count = entries.len();
        Ok(Appended { file, count, window: entries.into_iter().skip(count.saturating_sub(WINDOW)).collect() })
    }
}

fn encode(entry: Entry) -> [u8; ENTRY_LEN] {
    let mut raw = [0; ENTRY_LEN];
    for (place, word) in raw.as_chunks_mut::<8>().0.iter_mut().zip(entry) {
        *place = word.to_le_bytes();
    }
    raw
}

fn read_entries(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let (words, _) = bytes.as_chunks::<8>();
    let (entries, _) = words.as_chunks::<3>();
    Ok(entries.iter().map(|entry| entry.map(u64::from_le_bytes)).collect())
}

/// The directory of records.
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the directory, making it when it is not there, and reads what it has.
    pub fn open(dir: &Path) -> io::Result<(Records, Vec<Record>)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let records = Records { dir: dir.to_owned() };
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.extension().is_some() {
                // Half written, or of a session that ended while its last request was under way.
                if name.ends_with(".new") || !path.with_extension("").exists() {
                    fs::remove_file(&path)?;
                }
                continue;
            }
            match records.read(&path) {
                Ok(record) => found.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a session record cannot be read: its session is lost");
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok((records, found))
    }

    fn read(&self, path: &Path) -> io::Result<Record> {
        let bytes = fs::read(path)?;
        let mut record: Record =
            postcard::from_bytes(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        for [id, at, seen] in read_entries(&self.applied_path(record.session.id))? {
            if id & BEGUN != 0 {
                record.doubtful.insert(id ^ BEGUN, Begun { at: from_nanos(at), seen });
            } else {
                record.doubtful.remove(&id);
                record.session.applied.insert(id);
            }
        }
        Ok(record)
    }

    /// Writes a record.
    pub fn put(&self, record: &Record) -> io::Result<()> {
        let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
        replace(&self.path(record.session.id), &bytes)
    }

    /// Where a session notes what it has done.
    pub fn log(&self, session: SessionId) -> AppliedLog {
        AppliedLog { path: self.applied_path(session), open: Mutex::new(None) }
    }

    /// Forgets a session: it can never be resumed. Before anything it held is given to others.
    pub fn remove(&self, session: SessionId) -> io::Result<()> {
        for path in [self.path(session), self.applied_path(session)] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, session: SessionId) -> PathBuf {
        self.dir.join(session.to_string())
    }

    fn applied_path(&self, session: SessionId) -> PathBuf {
        self.dir.join(format!("{session}.applied"))
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn record(id: u64) -> Record {
        Record {
            session: mooring_protocol::session::Session::new(SessionId(id), b"tenant/acme/vm/one".to_vec())
                .record(),
            principal: Principal::Admin,
            boot: [1; 16],
            doors: vec![(7, VolumeId(7))],
            doubtful: HashMap::new(),
        }
    }

    #[test]
    fn what_was_begun_and_not_done_is_doubtful_and_a_torn_entry_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (records, found) = Records::open(dir.path()).unwrap();
        assert!(found.is_empty());
        records.put(&record(5)).unwrap();
        let log = records.log(SessionId(5));
        let begun = Begun { at: Time { secs: 1, nanos: 7 }, seen: 42 };
        log.begun(1, begun).unwrap();
        log.done(1).unwrap();
        log.begun(2, begun).unwrap();
        log.done(3).unwrap();
        let path = dir.path().join(format!("{}.applied", SessionId(5)));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1, 2, 3]).unwrap();

        let (records, found) = Records::open(dir.path()).unwrap();
        let applied = &found[0].session.applied;
        assert!(applied.contains(1) && !applied.contains(2) && applied.contains(3));
        assert_eq!(found[0].doubtful, HashMap::from([(2, begun)]));
        records.log(SessionId(5)).done(2).unwrap();
        let (_, found) = Records::open(dir.path()).unwrap();
        assert!(found[0].session.applied.contains(2) && found[0].doubtful.is_empty());
    }

    #[test]
    fn the_file_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(dir.path()).unwrap();
        records.put(&record(5)).unwrap();
        let log = records.log(SessionId(5));
        let last = 3 * MAX_APPENDED as u64;
        for id in 1..=last {
            log.done(id).unwrap();
        }
        let path = dir.path().join(format!("{}.applied", SessionId(5)));
        assert!(fs::metadata(path).unwrap().len() <= (MAX_APPENDED * ENTRY_LEN) as u64);
        let (_, found) = Records::open(dir.path()).unwrap();
        assert!(found[0].session.applied.contains(last) && found[0].session.applied.contains(last - 100));
    }

    #[test]
    fn a_record_that_is_none_costs_one_session_and_not_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (records, _) = Records::open(dir.path()).unwrap();
        records.put(&record(5)).unwrap();
        fs::write(dir.path().join("0000000000000006"), b"\xff\xff\xff\xff").unwrap();
        fs::write(dir.path().join("0000000000000007.applied"), b"left over").unwrap();
        let (records, found) = Records::open(dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        records.remove(SessionId(5)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
