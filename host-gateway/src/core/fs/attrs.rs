//! Attributes, symlink targets, extended attributes, space.

use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, Ino, SetAttr, SetTime};

use super::{Outcome, refuse};
use crate::core::coherent::Wish;
use crate::core::session::request::{Ask, Done};

pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    match request {
        Request::GetAttr { ino } => getattr(ask, ino).await,
        Request::SetAttr { ino, set, handle } => setattr(ask, ino, &set, handle).await,
        Request::ReadLink { ino } => {
            let pass = ask.look(ino).await?;
            let target = ask.store().readlink(&ask.caller(), ino).await.map_err(refuse)?;
            Ok(Done::new(Reply::Bytes { value: target.to_vec() }, pass, vec![Wish::read(ino)]))
        }
        Request::StatFs => {
            let stat = ask.store().statfs(&ask.caller()).await.map_err(refuse)?;
            Ok(Done::plain(Reply::Stat { stat }))
        }
        Request::GetXattr { ino, name } => {
            check_xattr_name(&name)?;
            let pass = ask.look(ino).await?;
            let value = ask.store().getxattr(&ask.caller(), ino, &name).await.map_err(refuse)?;
            Ok(Done::new(Reply::Bytes { value: value.to_vec() }, pass, Vec::new()))
        }
        Request::ListXattr { ino } => {
            let pass = ask.look(ino).await?;
            let names = ask.store().listxattr(&ask.caller(), ino).await.map_err(refuse)?;
            let value = names.iter().flat_map(|name| name.iter().copied().chain([0])).collect();
            Ok(Done::new(Reply::Bytes { value }, pass, Vec::new()))
        }
        Request::SetXattr { ino, name, value, mode } => {
            check_xattr_name(&name)?;
            if value.len() > caps::MAX_XATTR_VALUE {
                return Err(Status::ArgumentTooLarge);
            }
            if ask.again {
                return Ok(Done::plain(Reply::Done));
            }
            let pass = ask.change(&[ino]).await?;
            ask.store().setxattr(&ask.caller(), ino, &name, &value, mode).await.map_err(refuse)?;
            Ok(Done::new(Reply::Done, pass, Vec::new()))
        }
        Request::RemoveXattr { ino, name } => {
            check_xattr_name(&name)?;
            if ask.again {
                return Ok(Done::plain(Reply::Done));
            }
            let pass = ask.change(&[ino]).await?;
            ask.store().removexattr(&ask.caller(), ino, &name).await.map_err(refuse)?;
            Ok(Done::new(Reply::Done, pass, Vec::new()))
        }
        _ => Err(Status::Malformed),
    }
}

pub(super) async fn getattr(ask: &Ask<'_>, ino: Ino) -> Outcome {
    let pass = ask.look(ino).await?;
    let attr = ask.store().getattr(&ask.caller(), ino).await.map_err(refuse)?;
    Ok(Done::new(Reply::Attr { attr }, pass, vec![Wish::read(ino)]))
}

async fn setattr(ask: &Ask<'_>, ino: Ino, set: &SetAttr, handle: Option<Handle>) -> Outcome {
    if set.size.is_some_and(|size| size > caps::MAX_FILE_SIZE) {
        return Err(Status::FileTooLarge);
    }
    let bad_time = |t: Option<SetTime>| matches!(t, Some(SetTime::At(t)) if t.nanos >= 1_000_000_000);
    if bad_time(set.atime) || bad_time(set.mtime) || set.mode.is_some_and(|m| m > 0o7777) {
        return Err(Status::Invalid);
    }
    if let Some(handle) = handle
        && !ask.handles().get(ask.door, handle, ino)?.write
    {
        return Err(Status::BadHandle);
    }
    if ask.again {
        return getattr(ask, ino).await;
    }
    let pass = ask.change(&[ino]).await?;
    let attr = ask.store().setattr(&ask.caller(), ino, set).await.map_err(refuse)?;
    Ok(Done::new(Reply::Attr { attr }, pass, vec![Wish::read(ino)]))
}

fn check_xattr_name(name: &[u8]) -> Result<(), Status> {
    match name.len() {
        0 => Err(Status::Invalid),
        len if len > caps::MAX_XATTR_NAME => Err(Status::Range),
        _ if name.contains(&0) => Err(Status::Invalid),
        _ => Ok(()),
    }
}
