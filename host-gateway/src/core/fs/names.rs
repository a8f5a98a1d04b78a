//! Names: lookup, create, unlink, rename, link, listing.

use futures::future::join_all;
use mooring_protocol::caps;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, DirEntry, Ino, Name, NewNode, OpenMode, RenameMode};
use mooring_store::error::StoreError;

use super::open::open_made;
use super::{MAX_LOOKS, Outcome, refuse};
use crate::core::coherent::Wish;
use crate::core::session::request::{Ask, Done};

/// Entries in one page of a listing, at most.
const MAX_ENTRIES: usize = 1024;

/// Encoded bytes of an entry with attributes and a lease, without its name: every number at its longest.
const ENTRY_BYTES: usize = 184;

/// Encoded bytes of a page, leaving room for the rest of the answer.
const PAGE_BYTES: usize = caps::MAX_BODY - 1024;

/// Children under somebody else's write lease that are asked for at once.
const RECALLS_AT_ONCE: usize = 64;

pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    match request {
        Request::Lookup { parent, name } => {
            let (attr, pass) = ask.find(&ask.caller(), parent, &name).await?;
            let wishes = vec![Wish::read(parent), Wish::read(attr.ino)];
            Ok(Done::new(Reply::Entry { attr }, pass, wishes))
        }
        Request::Create { parent, name, mode, uid, gid, node, exclusive } => {
            create(ask, parent, &name, mode, (uid, gid), &node, exclusive).await
        }
        Request::Unlink { parent, name } => remove(ask, parent, &name, false).await,
        Request::RmDir { parent, name } => remove(ask, parent, &name, true).await,
        Request::Rename { parent, name, new_parent, new_name, mode } => {
            rename(ask, (parent, &name), (new_parent, &new_name), mode).await
        }
        Request::Link { ino, parent, name } => link(ask, ino, parent, &name).await,
        Request::ReadDir { ino, after, limit, plus } => readdir(ask, ino, &after, limit as usize, plus).await,
        _ => Err(Status::Malformed),
    }
}

async fn create(
    ask: &Ask<'_>,
    parent: Ino,
    name: &Name,
    mode: u16,
    owner: (u32, u32),
    node: &NewNode,
    exclusive: bool,
) -> Outcome {
    check_node(node)?;
    let open = match node {
        NewNode::File { open } => *open,
        _ => None,
    };
    if ask.again {
        // It was made before the gateway restarted, and only the answer was lost.
        let (attr, pass) = ask.find(&ask.caller(), parent, name).await?;
        return match open {
            Some(mode) => open_made(ask, parent, attr, mode, true, pass).await,
            None => Ok(Done::new(Reply::Entry { attr }, pass, Vec::new())),
        };
    }
    for _ in 0..MAX_LOOKS {
        let pass = ask.change(&[parent]).await?;
        match ask.store().create(&ask.caller(), parent, name, mode & 0o7777, owner, node).await {
            Ok(attr) => {
                let Some(mode) = open else {
                    let wishes = vec![Wish::read(parent), Wish::read(attr.ino)];
                    let also = ask.left(&[parent]).await;
                    return Ok(Done { also, ..Done::new(Reply::Entry { attr }, pass, wishes) });
                };
                return open_made(ask, parent, attr, mode, true, pass).await;
            }
            Err(StoreError::Exists) if !exclusive && open.is_some() => drop(pass),
            Err(error) => return Err(refuse(error)),
        }
        // Somebody was first: then it is an open, unless the name is gone again by now.
        match open_existing(ask, parent, name, open).await {
            Err(Status::NotFound) => {}
            result => return result,
        }
    }
    Err(Status::Busy)
}

async fn open_existing(ask: &Ask<'_>, parent: Ino, name: &Name, mode: Option<OpenMode>) -> Outcome {
    let (attr, pass) = ask.find(&ask.caller(), parent, name).await?;
    drop(pass);
    super::open::open(ask, attr.ino, mode.ok_or(Status::Exists)?).await
}

fn check_node(node: &NewNode) -> Result<(), Status> {
    match node {
        NewNode::Symlink { target } if target.len() > caps::MAX_SYMLINK => Err(Status::NameTooLong),
        NewNode::Symlink { target } if target.is_empty() || target.contains(&0) => Err(Status::Invalid),
        _ => Ok(()),
    }
}

async fn remove(ask: &Ask<'_>, parent: Ino, name: &Name, dir: bool) -> Outcome {
    if ask.again {
        return Ok(Done::plain(Reply::Done));
    }
    let cx = ask.caller();
    let mut inos = vec![parent];
    inos.extend(ino_of(ask, parent, name).await?);
    let mut pass = ask.change(&inos).await?;
    let removed = match dir {
        true => ask.store().rmdir(&cx, parent, name).await,
        false => ask.store().unlink(&cx, parent, name).await,
    };
    let gone = removed.map_err(refuse)?;
    ask.also_changed(&mut pass, &[gone.ino]).await?;
    let also = ask.left(&[parent]).await;
    Ok(Done { also, ..Done::new(Reply::Done, pass, vec![Wish::read(parent)]) })
}

/// The inode a name has now, so that its leases can be settled before it changes. That the name may be there at all is
/// for the operation itself to say: who may remove but not look is not refused here.
async fn ino_of(ask: &Ask<'_>, parent: Ino, name: &Name) -> Outcome<Option<Ino>> {
    match ask.store().lookup(&ask.caller(), parent, name).await {
        Ok(attr) => Ok(Some(attr.ino)),
        Err(StoreError::NotFound | StoreError::AccessDenied(_)) => Ok(None),
        Err(error) => Err(refuse(error)),
    }
}

async fn rename(ask: &Ask<'_>, from: (Ino, &Name), to: (Ino, &Name), mode: RenameMode) -> Outcome {
    if ask.again {
        return Ok(Done::plain(Reply::Done));
    }
    let mut inos = vec![from.0, to.0];
    inos.extend(ino_of(ask, from.0, from.1).await?);
    inos.extend(ino_of(ask, to.0, to.1).await?);
    let mut pass = ask.change(&inos).await?;
    let renamed =
        ask.store().rename(&ask.caller(), from.0, from.1, to.0, to.1, mode).await.map_err(refuse)?;
    let touched: Vec<Ino> = std::iter::once(renamed.moved.ino).chain(renamed.other.map(|o| o.ino)).collect();
    ask.also_changed(&mut pass, &touched).await?;
    let also = ask.left(&[from.0, to.0]).await;
    Ok(Done { also, ..Done::new(Reply::Done, pass, vec![Wish::read(from.0), Wish::read(to.0)]) })
}

async fn link(ask: &Ask<'_>, ino: Ino, parent: Ino, name: &Name) -> Outcome {
    if ask.again {
        let (attr, pass) = ask.find(&ask.caller(), parent, name).await?;
        return Ok(Done::new(Reply::Entry { attr }, pass, Vec::new()));
    }
    let pass = ask.change(&[ino, parent]).await?;
    let attr = ask.store().link(&ask.caller(), ino, parent, name).await.map_err(refuse)?;
    let also = ask.left(&[parent]).await;
    Ok(Done { also, ..Done::new(Reply::Entry { attr }, pass, vec![Wish::read(parent), Wish::read(ino)]) })
}

async fn readdir(ask: &Ask<'_>, ino: Ino, after: &[u8], limit: usize, plus: bool) -> Outcome {
    if after.len() > Name::MAX + 1 {
        return Err(Status::Invalid);
    }
    let cx = ask.caller();
    let limit = limit.clamp(1, MAX_ENTRIES);
    let mut pass = ask.look(ino).await?;
    let (mut entries, mut end) = ask.store().readdir(&cx, ino, after, limit, plus).await.map_err(refuse)?;
    fit_page(&mut entries, &mut end);
    if plus {
        let written: Vec<Ino> = entries
            .iter()
            .map(|e| e.ino)
            .filter(|i| ask.volume().written_elsewhere(ask.actor(), *i))
            .collect();
        if !written.is_empty() {
            drop(pass);
            for some in written.chunks(RECALLS_AT_ONCE) {
                // Each lets go at once: a file with two names here would wait for itself.
                let looks = some.iter().map(async |ino| ask.look(*ino).await.map(drop));
                join_all(looks).await.into_iter().collect::<Result<(), _>>()?;
            }
            pass = ask.look(ino).await?;
            (entries, end) = ask.store().readdir(&cx, ino, after, limit, plus).await.map_err(refuse)?;
            fit_page(&mut entries, &mut end);
        }
    }
    let mut wishes = vec![Wish::read(ino)];
    if plus {
        wishes.extend(entries.iter().filter(|e| e.attr.is_some()).map(|e| Wish::read(e.ino)));
    }
    Ok(Done::new(Reply::Entries { entries, end }, pass, wishes))
}

/// Cuts a page to what fits in a frame's body.
fn fit_page(entries: &mut Vec<DirEntry>, end: &mut bool) {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|e| {
        bytes += e.name.as_bytes().len() + ENTRY_BYTES;
        bytes <= PAGE_BYTES
    });
    let fits = fits.count();
    if fits < entries.len() {
        entries.truncate(fits);
        *end = false;
    }
}

/// What a listing's child looks like is [`Attr`]; kept here so that its size and [`ENTRY_BYTES`] are read together.
const _: () = assert!(size_of::<Attr>() <= ENTRY_BYTES);
