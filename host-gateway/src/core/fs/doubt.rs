//! Requests that were begun when the process died: was it done?
//!
//! The store keeps no ids of requests, so the answer is read from what is there and from what was noted when the request
//! began: its moment, which no other request has, and what it saw. Every change leaves a moment at its inode that is not
//! before its own, so what was not changed since was not changed by it. Then
//!
//! | request | was done when |
//! |---|---|
//! | create | the name leads to something born at just that moment: nobody else's lock file passes for one's own |
//! | unlink, rmdir | the name no longer leads to what it led to; what somebody put there since stays |
//! | rename | the old name no longer leads to it, and it was changed since or is at the new name |
//! | link | the name leads to the file, which was changed since |
//! | append | what was written past the end that was seen has the bytes in it |
//! | attributes to be made or removed | it is as asked for, and the file was changed since |
//!
//! Everything else comes to the same when it is done again. What remains: two guests that append the very same bytes, or
//! make the very same link, at the moment of the kill; and who changes a name between a request's beginning and its
//! turn. That ends when the store writes the request's id in the commit of its change.
//!
//! What is found out must not overwrite what was noted: a gateway that dies again while it looks begins anew from the
//! first note.

use memchr::memmem;
use mooring_protocol::message::Request;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, Ino, Name, RenameMode, XattrMode};
use mooring_store::error::StoreError;

use super::{Outcome, refuse};
use crate::core::session::record::Begun;
use crate::core::session::request::Ask;

/// Seen: nothing has the name.
const NOTHING: u64 = 0;

/// Seen: could not be looked at. No inode and no size is that large.
const UNKNOWN: u64 = u64::MAX;

/// Bytes past the end that was seen in which an append is looked for.
const SEARCHED: u64 = 16 << 20;

/// Bytes read at once for that.
const PIECE: u32 = 1 << 20;

/// Whether carrying it out a second time would fail or change something more.
pub(in crate::core) fn differs_twice(request: &Request) -> bool {
    match request {
        Request::Create { .. }
        | Request::Unlink { .. }
        | Request::RmDir { .. }
        | Request::Rename { .. }
        | Request::Link { .. }
        | Request::RemoveXattr { .. }
        | Request::Write { append: true, .. } => true,
        Request::SetXattr { mode, .. } => *mode == XattrMode::Create,
        _ => false,
    }
}

/// Whether it is told by the moment of birth that it leaves.
pub(in crate::core) fn leaves_its_moment(request: &Request) -> bool {
    matches!(request, Request::Create { .. })
}

/// What is to be noted of a request before it changes anything.
pub(in crate::core) async fn see(ask: &Ask<'_>, request: &Request) -> u64 {
    match request {
        Request::Unlink { parent, name }
        | Request::RmDir { parent, name }
        | Request::Rename { parent, name, .. } => {
            match ask.store().lookup(&ask.caller(), *parent, name).await {
                Ok(attr) => attr.ino.get(),
                Err(StoreError::NotFound) => NOTHING,
                Err(_) => UNKNOWN,
            }
        }
        Request::Write { ino, append: true, .. } => {
            ask.store().getattr(&ask.caller(), *ino).await.map_or(UNKNOWN, |attr| attr.size)
        }
        _ => NOTHING,
    }
}

/// Whether a request that was begun was carried out. Where that cannot be seen it is tried again, which says why.
pub(in crate::core) async fn is_done(ask: &Ask<'_>, request: &Request, begun: Begun) -> Outcome<bool> {
    match look(ask, request, begun).await {
        Err(Status::NotFound | Status::AccessDenied | Status::Stale) => Ok(false),
        result => result,
    }
}

async fn look(ask: &Ask<'_>, request: &Request, Begun { at, seen }: Begun) -> Outcome<bool> {
    match request {
        Request::Create { parent, name, .. } => {
            Ok(there(ask, *parent, name).await?.is_some_and(|attr| attr.btime == at))
        }
        Request::Link { ino, parent, name } => {
            Ok(there(ask, *parent, name).await?.is_some_and(|attr| attr.ino == *ino && attr.ctime >= at))
        }
        Request::Unlink { parent, name } | Request::RmDir { parent, name } => {
            let now = there(ask, *parent, name).await?;
            Ok(match now {
                Some(attr) => is_inode(seen) && attr.ino.get() != seen,
                None => seen != NOTHING,
            })
        }
        Request::Rename { parent, name, new_parent, new_name, mode } => {
            let old = there(ask, *parent, name).await?;
            if seen == NOTHING || old.as_ref().is_some_and(|attr| attr.ino.get() == seen) {
                return Ok(false);
            }
            let new = there(ask, *new_parent, new_name).await?;
            match Ino::new(seen) {
                Some(moved) if new.as_ref().is_none_or(|attr| attr.ino != moved) => {
                    // Moved on since, or removed, or never here: then it was changed since all the same.
                    Ok(getattr(ask, moved).await?.is_none_or(|attr| attr.ctime >= at))
                }
                Some(_) => Ok(true),
                None => {
                    let gone = old.is_none() || *mode == RenameMode::Exchange;
                    Ok(gone && new.is_some_and(|attr| attr.ctime >= at))
                }
            }
        }
        Request::SetXattr { ino, name, value, .. } => {
            let found = xattr(ask, *ino, name).await?;
            let changed = getattr(ask, *ino).await?.is_some_and(|attr| attr.ctime >= at);
            Ok(changed && found.is_some_and(|found| found == value[..]))
        }
        Request::RemoveXattr { ino, name } => {
            let found = xattr(ask, *ino, name).await?;
            Ok(found.is_none() && getattr(ask, *ino).await?.is_some_and(|attr| attr.ctime >= at))
        }
        Request::Write { ino, append: true, .. } => {
            drop(ask.look(*ino).await?);
            match getattr(ask, *ino).await? {
                Some(attr) if attr.ctime >= at && seen != UNKNOWN => {
                    appended(ask, *ino, seen..attr.size).await
                }
                _ => Ok(false),
            }
        }
        _ => Ok(false),
    }
}

fn is_inode(seen: u64) -> bool {
    seen != NOTHING && seen != UNKNOWN
}

async fn there(ask: &Ask<'_>, parent: Ino, name: &Name) -> Outcome<Option<Attr>> {
    // Whatever others hold of the directory is settled as for any look.
    drop(ask.look(parent).await?);
    match ask.store().lookup(&ask.caller(), parent, name).await {
        Ok(attr) => Ok(Some(attr)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(refuse(error)),
    }
}

async fn getattr(ask: &Ask<'_>, ino: Ino) -> Outcome<Option<Attr>> {
    match ask.store().getattr(&ask.caller(), ino).await {
        Ok(attr) => Ok(Some(attr)),
        Err(StoreError::NotFound | StoreError::Stale(_)) => Ok(None),
        Err(error) => Err(refuse(error)),
    }
}

async fn xattr(ask: &Ask<'_>, ino: Ino, name: &[u8]) -> Outcome<Option<bytes::Bytes>> {
    match ask.store().getxattr(&ask.caller(), ino, name).await {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NoAttribute) => Ok(None),
        Err(error) => Err(refuse(error)),
    }
}

/// Whether what was written past the end that was seen has the request's bytes in it: others may have appended too.
async fn appended(ask: &Ask<'_>, ino: Ino, past: std::ops::Range<u64>) -> Outcome<bool> {
    let finder = memmem::Finder::new(&ask.payload);
    let end = past.end.min(past.start.saturating_add(SEARCHED));
    let mut at = past.start;
    let mut window = Vec::new();
    while at < end {
        let size = u32::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
        let (found, _) = ask.store().read(&ask.caller(), ino, at, size).await.map_err(refuse)?;
        // The end of the last piece stays: the bytes may lie across both.
        let kept = window.len().min(ask.payload.len().saturating_sub(1));
        window.drain(..window.len() - kept);
        found.iter().for_each(|part| window.extend_from_slice(part));
        if finder.find(&window).is_some() {
            return Ok(true);
        }
        at += u64::from(size);
    }
    Ok(false)
}
