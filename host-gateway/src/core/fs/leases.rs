//! Leases asked for by name, and fcntl locks.

use mooring_protocol::lock::{Lock, Owner};
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseMode, LockKind};

use super::{Outcome, refuse};
use crate::core::session::request::{Ask, Done};

pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    match request {
        Request::Acquire { ino, mode } => acquire(ask, ino, mode).await,
        Request::Return { leases } => {
            ask.volume().give_back(ask.door.holder, &leases);
            Ok(Done::plain(Reply::Done))
        }
        Request::LockGet { ino, owner, range, kind } => {
            ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
            let wanted = Lock { owner: own(ask, owner), pid: 0, range, kind };
            let holder = ask.volume().locks().get(ino, &wanted).map(|l| (l.kind, l.range, l.pid));
            Ok(Done::plain(Reply::Lock { holder }))
        }
        Request::LockSet { ino, owner, pid, range, kind, wait } => {
            if kind != LockKind::Unlock {
                // A lock on what one may not know of would tell who else knows of it.
                ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
            }
            let lock = Lock { owner: own(ask, owner), pid, range, kind };
            ask.volume().locks().set(ino, lock, wait.then_some(&ask.patience)).await?;
            Ok(Done::plain(Reply::Done))
        }
        _ => Err(Status::Malformed),
    }
}

fn own(ask: &Ask<'_>, id: u64) -> Owner {
    Owner { session: ask.door.holder, id }
}

async fn acquire(ask: &Ask<'_>, ino: Ino, mode: LeaseMode) -> Outcome {
    if mode == LeaseMode::None {
        return Err(Status::Invalid);
    }
    // Only of what the caller may see: a lease tells when it changes.
    ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
    let pass = ask.volume().acquire(ask.door.holder, ino, mode, &ask.patience).await?;
    ask.still_allowed()?;
    let attr = ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
    Ok(Done::new(Reply::Attr { attr }, pass, Vec::new()))
}
