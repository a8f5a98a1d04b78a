//! Bytes: read, write, fsync, holes, copies.

use bytes::Bytes;
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, Time};
use mooring_store::api::WriteAt;

use super::{Outcome, refuse};
use crate::core::coherent::Wish;
use crate::core::session::request::{Ask, Done};

pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    match request {
        Request::Read { ino, handle, offset, size, want_lease } => {
            read(ask, ino, handle, (offset, size), want_lease).await
        }
        Request::Write { ino, handle, offset, append, stamp, clear_suid_sgid } => {
            let at = if append { WriteAt::End } else { WriteAt::Offset(offset) };
            write(ask, ino, handle, at, stamp, clear_suid_sgid).await
        }
        Request::Fsync { ino } => {
            ask.store().fsync(&ask.caller(), ino).await.map_err(refuse)?;
            Ok(Done::plain(Reply::Done))
        }
        Request::SyncFs => {
            ask.store().sync().await.map_err(refuse)?;
            Ok(Done::plain(Reply::Done))
        }
        Request::Allocate { ino, handle, offset, length, how } => {
            check_write_handle(ask, handle, ino)?;
            check_range(offset, length)?;
            if ask.again {
                return super::attrs::getattr(ask, ino).await;
            }
            let pass = ask.change(&[ino]).await?;
            let attr = ask.store().allocate(&ask.caller(), ino, offset, length, how).await.map_err(refuse)?;
            Ok(Done::new(Reply::Attr { attr }, pass, Vec::new()))
        }
        Request::Seek { ino, offset, what } => {
            let pass = ask.look(ino).await?;
            let offset = ask.store().seek(&ask.caller(), ino, offset, what).await.map_err(refuse)?;
            Ok(Done::new(Reply::Offset { offset }, pass, Vec::new()))
        }
        Request::CopyRange { source, source_offset, target, target_offset, length } => {
            copy(ask, (source, source_offset), (target, target_offset), length).await
        }
        _ => Err(Status::Malformed),
    }
}

async fn read(
    ask: &Ask<'_>,
    ino: Ino,
    handle: Handle,
    (offset, size): (u64, u32),
    want_lease: bool,
) -> Outcome {
    if size as usize > caps::MAX_PAYLOAD {
        return Err(Status::Invalid);
    }
    if !ask.handles().get(ask.door, handle, ino)?.read {
        return Err(Status::BadHandle);
    }
    let pass = if want_lease {
        ask.look(ino).await?
    } else {
        let pass = ask.volume().barrier(ask.actor(), Some(ino), &ask.patience).await?;
        ask.still_allowed()?;
        pass
    };
    let (payload, version) = ask.store().read(&ask.caller(), ino, offset, size).await.map_err(refuse)?;
    let got: usize = payload.iter().map(Bytes::len).sum();
    let reply = Reply::Data { eof: got < size as usize, version };
    let wishes = if want_lease { vec![Wish::read(ino)] } else { Vec::new() };
    Ok(Done { payload, ..Done::new(reply, pass, wishes) })
}

async fn write(
    ask: &Ask<'_>,
    ino: Ino,
    handle: Handle,
    at: WriteAt,
    stamp: Option<Time>,
    clear_suid_sgid: bool,
) -> Outcome {
    let count = ask.payload.len() as u64;
    let append = check_write_handle(ask, handle, ino)?;
    let at = if append { WriteAt::End } else { at };
    if let WriteAt::Offset(offset) = at {
        check_range(offset, count)?;
    }
    if ask.again {
        // The bytes are in; of an append, the file's end now is the nearest to where it ended.
        let pass = ask.look(ino).await?;
        let attr = ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
        return Ok(Done::new(Reply::Written { count, attr }, pass, Vec::new()));
    }
    let pass = ask.change(&[ino]).await?;
    let cx = ask.caller();
    // The guest's clock decides nothing: what it says lies at most in the present.
    let stamp = stamp.map(|t| t.min(cx.now)).filter(|t| t.nanos < 1_000_000_000);
    let data = ask.payload.clone();
    let (_, attr) = ask.store().write(&cx, ino, at, data, stamp, clear_suid_sgid).await.map_err(refuse)?;
    Ok(Done::new(Reply::Written { count, attr }, pass, Vec::new()))
}

/// Whether the handle writes; true when every write of it goes to the end.
fn check_write_handle(ask: &Ask<'_>, handle: Handle, ino: Ino) -> Outcome<bool> {
    let mode = ask.handles().get(ask.door, handle, ino)?;
    if mode.write { Ok(mode.append) } else { Err(Status::BadHandle) }
}

fn check_range(offset: u64, length: u64) -> Result<(), Status> {
    match offset.checked_add(length) {
        Some(end) if end <= caps::MAX_FILE_SIZE => Ok(()),
        _ => Err(Status::FileTooLarge),
    }
}

async fn copy(ask: &Ask<'_>, from: (Ino, u64), to: (Ino, u64), length: u64) -> Outcome {
    if from.1.checked_add(length).is_none() {
        return Err(Status::Invalid);
    }
    let length = length.min(caps::MAX_COPY);
    if ask.again {
        let pass = ask.look(to.0).await?;
        let attr = ask.store().getattr(&ask.caller(), to.0).await.map_err(refuse)?;
        let count = attr.size.saturating_sub(to.1).min(length);
        return Ok(Done::new(Reply::Written { count, attr }, pass, Vec::new()));
    }
    if from.0 != to.0 {
        // Whatever others changed of the source locally is handed over; it may change again while it is copied, as it
        // may while it is read.
        drop(ask.look(from.0).await?);
    }
    let pass = ask.change(&[to.0]).await?;
    let (count, attr) = ask.store().copy_range(&ask.caller(), from, to, length).await.map_err(refuse)?;
    Ok(Done::new(Reply::Written { count, attr }, pass, Vec::new()))
}
