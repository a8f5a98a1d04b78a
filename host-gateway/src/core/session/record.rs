//! Session records on disk, so that sessions survive the death of this process.
//!
//! Two files per session in one directory:
//!
//! | file | content |
//! |---|---|
//! | `<id>` | the record: who may resume it, its epoch, the doors it has open. Replaced by rename. |
//! | `<id>.applied` | ids of requests that are done, 8 bytes each, little-endian, appended before their reply is queued |
//!
//! Nothing here is synced: the page cache outlives this process, and a host that goes down takes its VMs with it. A torn
//! last id is dropped. A record that cannot be read is removed and its session is lost, which the log says.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mooring_policy::ids::VolumeId;
use mooring_policy::principal::Principal;
use mooring_protocol::session::{Applied, SessionId, SessionRecord};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Ids in the appended file before it is written anew.
const MAX_APPENDED: usize = 8 * Applied::WINDOW;

const ID_LEN: usize = size_of::<u64>();

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
}

/// The appended file of one session. Its own lock covers one write of 8 bytes into the page cache.
pub struct AppliedLog {
    path: PathBuf,
    open: Mutex<Option<Appended>>,
}

struct Appended {
    file: File,
    count: usize,
    window: VecDeque<u64>,
}

impl AppliedLog {
    /// Notes that a request is done. To be called before its reply is queued.
    pub fn push(&self, request: u64) -> io::Result<()> {
        let mut open = self.open.lock();
        let appended = match &mut *open {
            Some(appended) => appended,
            none => none.insert(Appended::open(&self.path)?),
        };
        if appended.window.len() == Applied::WINDOW {
            appended.window.pop_front();
        }
        appended.window.push_back(request);
        if appended.count < MAX_APPENDED {
            appended.count += 1;
            return appended.file.write_all(&request.to_le_bytes());
        }
        let ids: Vec<u8> = appended.window.iter().flat_map(|id| id.to_le_bytes()).collect();
        replace(&self.path, &ids)?;
        appended.file = OpenOptions::new().append(true).open(&self.path)?;
        appended.count = appended.window.len();
        Ok(())
    }
}

impl Appended {
    fn open(path: &Path) -> io::Result<Appended> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let window = VecDeque::from(read_ids(path)?);
        // A torn last id would shift all that follow it.
        let whole = window.len() * ID_LEN;
        if file.metadata()?.len() != whole as u64 {
            file.set_len(whole as u64)?;
        }
        let count = window.len();
        let window = window.into_iter().skip(count.saturating_sub(Applied::WINDOW)).collect();
        Ok(Appended { file, count, window })
    }
}

fn read_ids(path: &Path) -> io::Result<Vec<u64>> {
    match fs::read(path) {
        Ok(bytes) => {
            Ok(bytes.chunks_exact(ID_LEN).filter_map(|c| c.try_into().ok()).map(u64::from_le_bytes).collect())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
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
                if name.ends_with(".new") {
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
        for id in read_ids(&self.applied_path(record.session.id))? {
            record.session.applied.insert(id);
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
