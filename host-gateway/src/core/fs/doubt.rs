//! Requests that were begun when the process died: was it done?
//!
//! The store keeps no ids of requests, so the answer is read from what is there: a name that was to be made is there and
//! was made since the request was begun, as it was asked for; a name that was to go is gone; the bytes that were to be
//! appended are the file's last ones and it was written since. Who guesses wrong here would do it twice, or not at all;
//! the moment and the details make a mistake need a second agent that does the very same in the very same moment.

use bytes::Bytes;
use mooring_policy::time::Timestamp;
use mooring_protocol::message::Request;
use mooring_protocol::types::{Attr, FileKind, Ino, Name, NewNode, RenameMode, Time, XattrMode};
use mooring_store::error::StoreError;

use super::{Outcome, refuse};
use crate::core::session::request::Ask;

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

/// Whether a request that was begun at `begun` was carried out.
pub(super) async fn is_done(ask: &Ask<'_>, request: &Request, begun: Timestamp) -> Outcome<bool> {
    let begun = Time::from_millis(begun.as_millis());
    match request {
        Request::Create { parent, name, mode, uid, node, .. } => {
            let made = |attr: &Attr| {
                attr.btime >= begun
                    && attr.uid == *uid
                    && (attr.kind == FileKind::Symlink || (attr.mode ^ *mode) & 0o777 == 0)
                    && attr.kind == kind_of(node)
            };
            Ok(there(ask, *parent, name).await?.is_some_and(|attr| made(&attr)))
        }
        Request::Link { ino, parent, name } => {
            Ok(there(ask, *parent, name).await?.is_some_and(|attr| attr.ino == *ino && attr.ctime >= begun))
        }
        Request::Unlink { parent, name } | Request::RmDir { parent, name } => {
            Ok(there(ask, *parent, name).await?.is_none())
        }
        Request::Rename { parent, name, new_parent, new_name, mode } => match mode {
            // Both names are there before and after: only the moment tells.
            RenameMode::Exchange => {
                Ok(there(ask, *new_parent, new_name).await?.is_some_and(|attr| attr.ctime >= begun))
            }
            RenameMode::Replace | RenameMode::NoReplace => Ok(there(ask, *parent, name).await?.is_none()
                && there(ask, *new_parent, new_name).await?.is_some_and(|attr| attr.ctime >= begun)),
        },
        Request::SetXattr { ino, name, value, .. } => {
            match ask.store().getxattr(&ask.caller(), *ino, name).await {
                Ok(found) => Ok(found == value[..]),
                Err(StoreError::NoAttribute) => Ok(false),
                Err(error) => Err(refuse(error)),
            }
        }
        Request::RemoveXattr { ino, name } => match ask.store().getxattr(&ask.caller(), *ino, name).await {
            Ok(_) => Ok(false),
            Err(StoreError::NoAttribute) => Ok(true),
            Err(error) => Err(refuse(error)),
        },
        Request::Write { ino, append: true, .. } => ends_with(ask, *ino, &ask.payload, begun).await,
        _ => Ok(false),
    }
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

async fn ends_with(ask: &Ask<'_>, ino: Ino, data: &Bytes, begun: Time) -> Outcome<bool> {
    drop(ask.look(ino).await?);
    let cx = ask.caller();
    let attr = ask.store().getattr(&cx, ino).await.map_err(refuse)?;
    let Some(start) = attr.size.checked_sub(data.len() as u64).filter(|_| attr.ctime >= begun) else {
        return Ok(false);
    };
    // A payload is at most 1 MiB.
    let (found, _) = ask.store().read(&cx, ino, start, data.len() as u32).await.map_err(refuse)?;
    Ok(found.iter().flatten().eq(data.iter()))
}

fn kind_of(node: &NewNode) -> FileKind {
    match node {
        NewNode::File { .. } => FileKind::File,
        NewNode::Dir => FileKind::Dir,
        NewNode::Symlink { .. } => FileKind::Symlink,
        NewNode::Special { kind, .. } => *kind,
    }
}
