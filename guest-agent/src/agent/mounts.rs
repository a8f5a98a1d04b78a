//! Mounts that come and go with the tenant's buckets and shares.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mooring_protocol::message;
use mooring_protocol::status::Status;
use tokio::sync::watch;

use super::{Agent, Mounted};
use crate::fs::Door;
use crate::fuse::{Mount, MountError, MountOptions};

/// After this long a mount that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an agent that is told to end waits for a gateway that does not answer.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Brings the mounts in line with what the gateway says can be mounted, whenever that changes.
pub(super) async fn keep(agent: Weak<Agent>, mut wanted: watch::Receiver<Vec<message::Door>>) {
    loop {
        let mut whole = true;
        {
            let doors = wanted.borrow_and_update().clone();
            let Some(agent) = agent.upgrade() else { return };
            agent.remove_all_but(&doors).await;
            for door in doors {
                whole &= agent.add(door).await;
            }
            agent.changed.send_modify(|n| *n += 1);
        }
        let again = if whole { Duration::from_secs(3600) } else { AGAIN };
        if let Ok(Err(_)) = tokio::time::timeout(again, wanted.changed()).await {
            return;
        }
    }
}

impl Agent {
    async fn add(self: &Arc<Self>, what: message::Door) -> bool {
        if self.mounts.lock().contains_key(&what.id) {
            return true;
        }
        let path = self.path_of(&what.kind);
        let door = Door::new(&what, self.remote().clone(), self.runtime.clone(), self.door_options());
        // Before the mount: its first requests bring leases, and leases can be recalled at once.
        self.doors.write().insert(what.id, door.clone());
        match self.mount(&door, &what, &path).await {
            Ok(mount) => {
                tracing::info!(path = %path.display(), read_only = what.read_only, "mounted");
                let id = what.id;
                self.mounts.lock().insert(id, Mounted { door, what, path, mount: Some(mount) });
                true
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = %chain(&error), "cannot mount");
                self.doors.write().remove(&what.id);
                false
            }
        }
    }

    async fn mount(
        &self,
        door: &Arc<Door>,
        what: &message::Door,
        path: &std::path::Path,
    ) -> Result<Mount, MountError> {
        let options = MountOptions {
            read_only: what.read_only,
            source: format!("mooring:{}", path.file_name().unwrap_or_default().display()),
            ..self.options.mount.clone()
        };
        let (door, path) = (door.clone(), path.to_owned());
        let (runtime, waits) = (self.runtime.clone(), self.waits.clone());
        // The kernel's greeting is waited for on the spot.
        let made = tokio::task::spawn_blocking(move || {
            clear_wreck(&path);
            let prepared = std::fs::create_dir_all(&path);
            prepared.map_err(|source| MountError::Mount { path: path.clone(), source })?;
            Mount::new(door, &path, &options, &runtime, &waits)
        });
        made.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    async fn remove_all_but(self: &Arc<Self>, doors: &[message::Door]) {
        let gone: Vec<Mounted> = {
            let mut mounts = self.mounts.lock();
            let ids: Vec<u64> =
                mounts.keys().filter(|id| !doors.iter().any(|d| d.id == **id)).copied().collect();
            ids.iter().filter_map(|id| mounts.remove(id)).collect()
        };
        for mut mounted in gone {
            tracing::info!(path = %mounted.path.display(), "no longer offered; taking the mount away");
            // The right to it is gone, and so is everything behind it.
            mounted.door.drop_all(Status::Revoked).await;
            if let Some(mount) = mounted.mount.take() {
                take_away(mount).await;
            }
            self.doors.write().remove(&mounted.what.id);
            let _ = std::fs::remove_dir(&mounted.path);
        }
    }

    /// Hands everything over and unmounts.
    pub async fn unmount_all(&self) {
        let mounts: Vec<Mounted> = self.mounts.lock().drain().map(|(_, mounted)| mounted).collect();
        for mut mounted in mounts {
            if tokio::time::timeout(LAST_WAIT, mounted.door.hand_over_all()).await.is_err() {
                let (_, _, unsent) = mounted.door.figures();
                tracing::error!(path = %mounted.path.display(), unsent, "the gateway does not answer; ending without it");
            }
            if let Some(mount) = mounted.mount.take() {
                take_away(mount).await;
            }
            // What a shared mapping still held came with the unmounting.
            let _ = tokio::time::timeout(LAST_WAIT, mounted.door.hand_over_all()).await;
            self.doors.write().remove(&mounted.what.id);
        }
        self.changed.send_modify(|n| *n += 1);
    }
}

/// An agent that was killed leaves a mount behind that answers nothing any more.
fn clear_wreck(path: &std::path::Path) {
    if let Err(rustix::io::Errno::NOTCONN) = rustix::fs::stat(path) {
        tracing::warn!(path = %path.display(), "taking away what an earlier agent left mounted");
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Unmounts; what is in use is taken out of the tree and ends with its last open file.
async fn take_away(mount: Mount) {
    let done = tokio::task::spawn_blocking(move || mount.unmount());
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %chain(&error), "still in use; detached"),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn chain(error: &MountError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
