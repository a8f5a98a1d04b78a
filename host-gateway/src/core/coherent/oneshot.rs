//! A volume for those who keep nothing: S3 and the operator's commands.
//!
//! Reads do not take leases away: whoever changed something locally hands it over and goes on (a barrier), once per
//! inode and request. A request that looks at many names sends one barrier per session and volume. Changes recall the
//! leases of the inodes and directories they touch, like any session's.
//!
//! One value serves one request, so it may remember which inodes were handed over already: what is written after that is
//! written while the request runs, and either order of the two is right.

use std::collections::HashSet;
use std::sync::Arc;

use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, Name};
use mooring_store::api::{Caller, Objects, Result};
use mooring_store::error::StoreError;
use parking_lot::Mutex;

use super::{Coherent, Pass, Patience};

/// Inodes remembered as handed over; beyond it they are asked for again.
const REMEMBERED: usize = 1024;

/// A volume as one request without a session sees it.
pub struct OneShot {
    pub(super) volume: Arc<Coherent>,
    seen: Mutex<HashSet<Option<Ino>>>,
}

/// Waiting for others failed.
#[derive(Debug, thiserror::Error)]
#[error("the volume is busy: {0}")]
struct Busy(Status);

pub(super) fn busy(status: Status) -> StoreError {
    StoreError::Store(Box::new(Busy(status)))
}

impl OneShot {
    /// For one request.
    pub fn new(volume: Arc<Coherent>) -> Arc<OneShot> {
        Arc::new(OneShot { volume, seen: Mutex::new(HashSet::new()) })
    }

    pub(super) fn store(&self) -> &Arc<dyn Objects> {
        self.volume.store()
    }

    /// Whatever sessions changed of `ino` (or of anything) locally is in the store after this.
    pub(super) async fn look(&self, ino: Option<Ino>) -> Result<()> {
        {
            let seen = self.seen.lock();
            if seen.contains(&None) || seen.contains(&ino) {
                return Ok(());
            }
        }
        let pass = self.volume.barrier(None, ino, &Patience::longest()).await.map_err(busy)?;
        drop(pass);
        let mut seen = self.seen.lock();
        if seen.len() < REMEMBERED {
            seen.insert(ino);
        }
        Ok(())
    }

    /// Nobody keeps anything of these after this, until the pass is dropped.
    pub(super) async fn change(&self, inos: &[Ino]) -> Result<Pass> {
        loop {
            match self.volume.change(None, inos, &Patience::longest()).await {
                // Somebody else goes first; without a kernel that asks again, we do.
                Err(Status::Stale) => tokio::task::yield_now().await,
                result => return result.map_err(busy),
            }
        }
    }

    pub(super) async fn also_changed(&self, pass: &mut Pass, inos: &[Ino]) -> Result<()> {
        self.volume.also_changed(None, pass, inos, &Patience::longest()).await.map_err(busy)
    }

    /// The inodes a change of `key` touches as far as they are there: the deepest directory on its way, and what has
    /// the key. What cannot be looked at is left to the change itself, which is settled after it as well.
    pub(super) async fn on_the_way(&self, cx: &Caller, key: &[u8]) -> Vec<Ino> {
        let mut at = cx.root;
        for part in key.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let Ok(name) = Name::new(part) else { break };
            match self.store().lookup(cx, at, &name).await {
                Ok(attr) if attr.kind == mooring_protocol::types::FileKind::Dir => at = attr.ino,
                Ok(attr) => return vec![at, attr.ino],
                Err(_) => break,
            }
        }
        vec![at]
    }
}
