//! Which epochs of the log this host claimed.

use crate::backend::{BackendError, VolumeDir, write_durably};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Written before an epoch is claimed and after it was: whatever stops in between, the log's last epoch is one of these
/// two exactly when nobody else was there since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lineage {
    /// The epoch whose records the journal here ends with.
    pub confirmed: u64,
    /// The epoch that is being claimed.
    pub claiming: u64,
}

fn path(dir: &VolumeDir) -> PathBuf {
    dir.path().join("lineage")
}

impl Lineage {
    /// What is noted here; `None` when this host has not had the volume.
    pub fn read(dir: &VolumeDir) -> Result<Option<Self>, BackendError> {
        let path = path(dir);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| BackendError::io("read", &path, error))?,
        };
        let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| BackendError::io("parse", &path, invalid(error)))
    }

    /// Notes it durably.
    pub fn write(&self, dir: &VolumeDir) -> Result<(), BackendError> {
        let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        let text = serde_json::to_vec(self);
        let text = text.map_err(|error| BackendError::io("encode", &path(dir), invalid(error)))?;
        write_durably(&path(dir), &text)
    }

    /// Whether `epoch`, the log's last, is this host's.
    pub fn covers(&self, epoch: u64) -> bool {
        epoch == self.confirmed || epoch == self.claiming
    }

    /// The highest epoch this host knows of.
    pub fn highest(&self) -> u64 {
        self.confirmed.max(self.claiming)
    }
}
