//! Open files of a session. The number is the guest's FUSE file handle.
//!
//! A number is never given twice in a session's life, however often the gateway starts meanwhile: a request that was
//! under way when it died comes again under the number it had, and must not mean a file that was opened since.

use std::collections::HashMap;
use std::sync::Arc;

use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, OpenMode};

use super::OpenDoor;
use super::allowance::Allowance;

/// One open file; it pins its inode in the store.
#[derive(Clone)]
pub struct OpenFile {
    /// The door it was opened through.
    pub door: Arc<OpenDoor>,
    /// The file.
    pub ino: Ino,
    /// How.
    pub mode: OpenMode,
}

/// Bits of a number that count; those above are the epoch in which the gateway took the session up.
const COUNT_BITS: u32 = 40;

/// All open files of a session.
pub struct Handles {
    allowance: Arc<Allowance>,
    files: HashMap<Handle, OpenFile>,
    last: u64,
}

impl Handles {
    /// None yet, of a guest that may have so many, in a session that has come to this epoch.
    pub fn new(allowance: Arc<Allowance>, epoch: u64) -> Handles {
        Handles { allowance, files: HashMap::new(), last: epoch << COUNT_BITS }
    }

    /// Takes a file in. When there are too many it comes back, to be unpinned.
    pub fn insert(&mut self, file: OpenFile) -> Result<Handle, OpenFile> {
        if !self.allowance.take_handle() {
            return Err(file);
        }
        let handle = loop {
            self.last = self.last.wrapping_add(1).max(1);
            let handle = Handle(self.last);
            if !self.files.contains_key(&handle) {
                break handle;
            }
        };
        self.files.insert(handle, file);
        Ok(handle)
    }

    /// Puts a file back under the number it had before a restart. It comes back when that cannot be.
    pub fn restore(&mut self, handle: Handle, file: OpenFile) -> Result<(), OpenFile> {
        if handle.0 == 0 || self.files.contains_key(&handle) || !self.allowance.take_handle() {
            return Err(file);
        }
        self.files.insert(handle, file);
        Ok(())
    }

    /// The file, if this handle is one of this inode behind this door.
    pub fn get(&self, door: &Arc<OpenDoor>, handle: Handle, ino: Ino) -> Result<OpenMode, Status> {
        match self.files.get(&handle) {
            Some(file) if file.ino == ino && Arc::ptr_eq(&file.door, door) => Ok(file.mode),
            _ => Err(Status::BadHandle),
        }
    }

    /// Takes a file out.
    pub fn remove(&mut self, door: &Arc<OpenDoor>, handle: Handle) -> Result<OpenFile, Status> {
        self.files.get(&handle).filter(|f| Arc::ptr_eq(&f.door, door)).ok_or(Status::BadHandle)?;
        self.allowance.return_handles(1);
        self.files.remove(&handle).ok_or(Status::BadHandle)
    }

    /// Takes out everything opened through this door.
    pub fn remove_door(&mut self, door: &Arc<OpenDoor>) -> Vec<OpenFile> {
        let out: Vec<OpenFile> =
            self.files.extract_if(|_, f| Arc::ptr_eq(&f.door, door)).map(|(_, f)| f).collect();
        self.allowance.return_handles(out.len());
        out
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<OpenFile> {
        let out: Vec<OpenFile> = self.files.drain().map(|(_, f)| f).collect();
        self.allowance.return_handles(out.len());
        out
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.files.len()
    }
}
