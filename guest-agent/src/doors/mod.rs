//! What the agent offers in the guest besides mounts: S3, credentials, and the control socket.

pub mod control;
pub mod credentials;
mod http;
pub mod pipe;

use std::path::Path;

use thiserror::Error;

/// A door could not be opened.
#[derive(Debug, Error)]
#[error("cannot offer {what} at {place}; is another agent running?")]
pub struct DoorError {
    what: &'static str,
    place: String,
    #[source]
    source: std::io::Error,
}

impl DoorError {
    fn new(what: &'static str, place: impl ToString, source: std::io::Error) -> DoorError {
        DoorError { what, place: place.to_string(), source }
    }
}

/// Writes a file that only its owner can read, in one step: it is never there half written or with other rights.
fn write_private(path: &Path, mode: u32, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    // The mode above is only for a file that was not there, and less the umask.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
