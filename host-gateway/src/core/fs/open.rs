//! Handles: open, release, and what comes back after a restart.

use mooring_protocol::caps;
use mooring_protocol::lock::{Lock, Owner};
use mooring_protocol::message::{HeldHandle, HeldLock, Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, FileKind, Handle, Ino, LeaseGrant, LeaseMode, OpenMode, SetAttr};

use super::{Outcome, refuse};
use crate::core::coherent::{Pass, Wish};
use crate::core::session::handles::OpenFile;
use crate::core::session::request::{Ask, Done};

pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    match request {
        Request::Open { ino, mode } => open(ask, ino, mode).await,
        Request::Release { handle, lock_owner } => release(ask, handle, lock_owner).await,
        Request::Reclaim { handles, leases, locks, more: _ } => reclaim(ask, &handles, leases, &locks).await,
        _ => Err(Status::Malformed),
    }
}

/// Opens a file. For writing it waits for the write lease; where that cannot be had the file is open all the same, and
/// the agent works without caching it.
pub(super) async fn open(ask: &Ask<'_>, ino: Ino, mode: OpenMode) -> Outcome {
    if !mode.read && !mode.write {
        return Err(Status::Invalid);
    }
    let writes = mode.write || mode.append || mode.truncate;
    if writes && !mode.write {
        return Err(Status::Invalid);
    }
    if mode.truncate && !ask.again {
        // Before the lease is asked for: nothing is waited for with a promise in hand.
        let _pass = ask.change(&[ino]).await?;
        let set = SetAttr { size: Some(0), clear_suid_sgid: true, ..SetAttr::default() };
        ask.store().setattr(&ask.caller(), ino, &set).await.map_err(refuse)?;
    }
    let pass = if writes { ask.to_write(ino).await? } else { ask.look(ino).await? };
    let (handle, attr) = pin(ask, ino, mode).await?;
    if attr.kind == FileKind::Dir {
        ask.forget(handle).await;
        return Err(Status::IsDir);
    }
    let wish = if writes { Wish::write(ino) } else { Wish::read(ino) };
    Ok(Done::new(Reply::Opened { handle, attr, created: false }, pass, vec![wish]))
}

/// Opens what was just made under `parent`. Nobody else knows it yet, so its leases are free.
pub(super) async fn open_made(
    ask: &Ask<'_>,
    parent: Ino,
    made: Attr,
    mode: OpenMode,
    created: bool,
    pass: Pass,
) -> Outcome {
    let (handle, attr) = pin(ask, made.ino, mode).await?;
    let own = if mode.write { Wish::write(made.ino) } else { Wish::read(made.ino) };
    let also = ask.left(&[parent]).await;
    Ok(Done {
        also,
        ..Done::new(Reply::Opened { handle, attr, created }, pass, vec![Wish::read(parent), own])
    })
}

/// Keeps the inode alive and gives it a handle.
async fn pin(ask: &Ask<'_>, ino: Ino, mode: OpenMode) -> Outcome<(Handle, Attr)> {
    let attr = ask.store().pin(&ask.caller(), ino).await.map_err(refuse)?;
    let file = OpenFile { door: ask.door.clone(), ino, mode };
    let refused = match ask.keep(file) {
        Ok(handle) => return Ok((handle, attr)),
        Err(refused) => refused,
    };
    if let Err(error) = ask.store().unpin(ino).await {
        tracing::warn!(%ino, %error, "a file that was not opened could not be let go of");
    }
    Err(refused)
}

impl Ask<'_> {
    /// The write lease, if it can be had.
    async fn to_write(&self, ino: Ino) -> Outcome<Pass> {
        match self.volume().acquire(self.door.holder, ino, LeaseMode::Write, &self.patience).await {
            Ok(pass) => {
                self.still_allowed()?;
                Ok(pass)
            }
            Err(Status::Overloaded | Status::Stale) => self.look(ino).await,
            Err(status) => Err(status),
        }
    }

    /// Gives an open file a handle, unless the session ended meanwhile and would never give it back.
    fn keep(&self, file: OpenFile) -> Result<Handle, Status> {
        let mut handles = self.handles();
        self.still_allowed()?;
        handles.insert(file).map_err(|_| Status::TooManyHandles)
    }

    async fn forget(&self, handle: Handle) {
        let file = self.handles().remove(self.door, handle);
        if let Ok(file) = file {
            crate::core::session::unpin(&file).await;
        }
    }
}

async fn release(ask: &Ask<'_>, handle: Handle, lock_owner: Option<u64>) -> Outcome {
    let file = match ask.handles().remove(ask.door, handle) {
        Err(Status::BadHandle) if ask.again => return Ok(Done::plain(Reply::Done)),
        file => file?,
    };
    if let Some(id) = lock_owner {
        ask.volume().locks().close(file.ino, Owner { session: ask.door.holder, id });
    }
    crate::core::session::unpin(&file).await;
    Ok(Done::plain(Reply::Done))
}

/// Puts back what the agent held before this gateway started. Whatever is not in the answer is gone.
async fn reclaim(
    ask: &Ask<'_>,
    handles: &[HeldHandle],
    leases: Vec<LeaseGrant>,
    locks: &[HeldLock],
) -> Outcome {
    if !ask.session.may_reclaim() {
        return Ok(Done::plain(Reply::Reclaimed { handles: Vec::new(), leases: Vec::new() }));
    }
    let mut kept = Vec::new();
    for held in handles.iter().take(caps::MAX_HANDLES) {
        if held.mode.write && ask.door.passage.read_only {
            continue;
        }
        if ask.store().pin(&ask.caller(), held.ino).await.is_err() {
            continue;
        }
        let file = OpenFile { door: ask.door.clone(), ino: held.ino, mode: held.mode };
        let restored = ask.handles().restore(held.handle, file);
        match restored {
            Ok(()) => kept.push(held.handle),
            Err(file) => crate::core::session::unpin(&file).await,
        }
    }
    for held in locks.iter().take(caps::MAX_LOCKS) {
        let owner = Owner { session: ask.door.holder, id: held.owner };
        let lock = Lock { owner, pid: held.pid, range: held.range, kind: held.kind };
        if let Err(status) = ask.volume().locks().set(held.ino, lock, None).await {
            tracing::warn!(ino = %held.ino, %status, "a lock could not be put back");
        }
    }
    let reply = Reply::Reclaimed { handles: kept, leases: Vec::new() };
    Ok(Done { reclaim: Some(leases), ..Done::plain(reply) })
}
