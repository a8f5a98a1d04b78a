//! Object keys: what is allowed, and what they lead to.
//!
//! A key is looked for component by component from the caller's root. At each directory the keys that are no paths
//! and are kept there come first, so such a key is found wherever it was put, whatever a mount made beside it later.

use crate::api::Result;
use crate::error::StoreError;
use crate::keys::dentry::Dentry;
use crate::keys::inode::{self, Inode};
use crate::keys::side::{self, Side};
use crate::volume::Volume;
use bytes::Bytes;
use mooring_protocol::caps::MAX_KEY;
use mooring_protocol::types::{FileKind, Ino, Name};
use std::sync::Arc;

/// A directory on the way to a key: where it is and what it is called there.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) parent: Ino,
    pub(crate) name: Name,
    pub(crate) entry: Dentry,
}

/// What has a key.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A file with that path.
    File,
    /// A directory made by mkdir; the key ends with its slash.
    Marker,
    /// A file kept beside the tree.
    Side,
}

/// An object that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Directories walked through, from the root on.
    pub(crate) trail: Vec<Step>,
    /// The directory it is in.
    pub(crate) parent: Ino,
    /// Its name in the mount.
    pub(crate) name: Name,
    pub(crate) entry: Dentry,
    pub(crate) what: What,
}

/// Where a key that has no object yet goes.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    /// The deepest directory there is.
    pub(crate) base: Ino,
    /// Directories to make below it.
    pub(crate) make: Vec<Name>,
    /// The last step.
    pub(crate) last: Last,
}

/// How a new key ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// As a file.
    File(Name),
    /// As a directory of its own; `true` when it is there already, made by a PUT below it.
    Marker(Name, bool),
    /// As this rest, beside the tree.
    Side(Bytes),
}

/// Refuses what can be no key at all.
pub(crate) fn check(key: &[u8]) -> Result<()> {
    match std::str::from_utf8(key) {
        _ if key.is_empty() => Err(StoreError::Invalid("a key must have at least one byte")),
        _ if key.len() > MAX_KEY => Err(StoreError::NameTooLong),
        Err(_) => Err(StoreError::Invalid("a key must be UTF-8")),
        Ok(text) if text.contains('\0') => Err(StoreError::Invalid("a key cannot hold a NUL byte")),
        Ok(_) => Ok(()),
    }
}

/// The first component, and what follows its slash.
fn split(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match rest.iter().position(|&byte| byte == b'/') {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    }
}

impl Volume {
    /// The object with this key below `root`, as of now.
    pub(crate) async fn find(&self, root: Ino, key: &[u8]) -> Result<Option<Found>> {
        if check(key).is_err() {
            return Ok(None);
        }
        let mut trail: Vec<Step> = Vec::new();
        let (mut parent, mut rest) = (root, key);
        loop {
            let Some(directory) = self.peek_inode(parent).await? else { return Ok(None) };
            if directory.sides > 0
                && let Some(Side { ino, name }) = self.side_row(parent, rest).await?
            {
                let entry = Dentry { ino, kind: FileKind::File, side: Some(Bytes::copy_from_slice(rest)) };
                return Ok(Some(Found { trail, parent, name, entry, what: What::Side }));
            }
            let (component, tail) = split(rest);
            let Ok(name) = Name::new(component) else { return Ok(None) };
            let Some(entry) = self.peek_entry(parent, &name).await? else { return Ok(None) };
            match (entry.kind, tail) {
                (FileKind::File, None) if entry.side.is_none() => {
                    return Ok(Some(Found { trail, parent, name, entry, what: What::File }));
                }
                (FileKind::Dir, Some([])) => {
                    let inode = self.peek_inode(entry.ino).await?;
                    let marker = inode.is_some_and(|inode| !inode.has(inode::IMPLICIT));
                    return Ok(marker.then_some(Found { trail, parent, name, entry, what: What::Marker }));
                }
                (FileKind::Dir, Some(tail)) => {
                    trail.push(Step { parent, name, entry: entry.clone() });
                    (parent, rest) = (entry.ino, tail);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Where a key goes that [`Self::find`] did not find. `bytes`: the object has some.
    pub(crate) async fn spot(&self, root: Ino, key: &[u8], bytes: bool) -> Result<Spot> {
        check(key)?;
        let (mut base, mut rest) = (root, key);
        loop {
            let (component, tail) = split(rest);
            let name = Name::new(component).ok();
            let entry = match &name {
                Some(name) => self.peek_entry(base, name).await?,
                None => None,
            };
            match (name, entry, tail) {
                (Some(name), None, _) => return Ok(new_below(base, name, rest, tail, bytes)),
                (Some(name), Some(Dentry { kind: FileKind::Dir, .. }), Some([])) if !bytes => {
                    return Ok(Spot { base, make: Vec::new(), last: Last::Marker(name, true) });
                }
                (Some(_), Some(Dentry { kind: FileKind::Dir, ino, .. }), Some(tail)) if !tail.is_empty() => {
                    (base, rest) = (ino, tail);
                }
                _ => {
                    let last = Last::Side(Bytes::copy_from_slice(rest));
                    return Ok(Spot { base, make: Vec::new(), last });
                }
            }
        }
    }

    async fn side_row(&self, directory: Ino, rest: &[u8]) -> Result<Option<Side>> {
        let row = self.rows().get(|layer| side::key(layer, directory, rest)).await?;
        row.map(|value| Ok(side::decode(&value)?)).transpose()
    }

    /// The side row under the locks of its directory.
    pub(crate) async fn side_is(&self, directory: Ino, rest: &[u8], ino: Option<Ino>) -> Result<bool> {
        Ok(self.side_row(directory, rest).await?.map(|side| side.ino) == ino)
    }

    /// The inode of what was found, if it still is.
    pub(crate) async fn found_inode(&self, found: &Found) -> Result<Option<Arc<Inode>>> {
        self.peek_inode(found.entry.ino).await
    }
}

/// A new path below `base`, beginning with `first`: as many directories as there are good components.
fn new_below(base: Ino, first: Name, rest: &[u8], tail: Option<&[u8]>, bytes: bool) -> Spot {
    let mut make = Vec::new();
    let (mut name, mut rest, mut tail) = (first, rest, tail);
    loop {
        let last = match tail {
            None => Last::File(name),
            Some([]) if !bytes => Last::Marker(name, false),
            Some([]) => Last::Side(Bytes::copy_from_slice(rest)),
            Some(below) => {
                make.push(name);
                let (component, next) = split(below);
                match Name::new(component) {
                    Ok(good) => {
                        (name, rest, tail) = (good, below, next);
                        continue;
                    }
                    Err(_) => Last::Side(Bytes::copy_from_slice(below)),
                }
            }
        };
        return Spot { base, make, last };
    }
}
