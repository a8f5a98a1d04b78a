//! The directories one operation changes: each is written once, whatever names come and go in it.

use super::Tx;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::side::{self, Side};
use mooring_protocol::types::{FileKind, Ino, Name, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Directories before and after.
#[derive(Default)]
pub(crate) struct Dirs(BTreeMap<Ino, (Arc<Inode>, Inode)>);

impl Dirs {
    /// Directories by number; naming one twice is fine.
    pub(crate) fn new<'a>(directories: impl IntoIterator<Item = (Ino, &'a Arc<Inode>)>) -> Dirs {
        let entry = |(ino, old): (Ino, &'a Arc<Inode>)| (ino, (old.clone(), Inode::clone(old)));
        Dirs(directories.into_iter().map(entry).collect())
    }

    /// The directory as it will be.
    pub(crate) fn now(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.0.get_mut(&ino).map(|(_, now)| now)
    }

    /// Lets a directory go that is itself removed; as it was and as it would be.
    pub(crate) fn forget(&mut self, ino: Ino) -> Option<(Arc<Inode>, Inode)> {
        self.0.remove(&ino)
    }

    /// Enters a name.
    pub(crate) fn enter(&mut self, tx: &mut Tx<'_>, parent: Ino, name: &Name, entry: Dentry) {
        if let Some(directory) = self.now(parent) {
            directory.size += 1;
            directory.nlink += u32::from(entry.kind == FileKind::Dir);
            directory.sides += u32::from(entry.side.is_some());
        }
        if let Some(rest) = &entry.side {
            let side = Side { ino: entry.ino, name: name.clone() };
            tx.put(|layer| side::key(layer, parent, rest), side::encode(&side));
        }
        tx.add_name(parent, name.as_bytes(), entry);
    }

    /// Takes a name out.
    pub(crate) fn leave(&mut self, tx: &mut Tx<'_>, parent: Ino, name: &Name, entry: &Dentry) {
        if let Some(directory) = self.now(parent) {
            directory.size = directory.size.saturating_sub(1);
            directory.nlink = directory.nlink.saturating_sub(u32::from(entry.kind == FileKind::Dir));
            directory.sides = directory.sides.saturating_sub(u32::from(entry.side.is_some()));
        }
        if let Some(rest) = &entry.side {
            tx.delete(|layer| side::key(layer, parent, rest));
        }
        tx.drop_name(parent, name.as_bytes(), entry);
    }

    /// Writes every directory, changed now.
    pub(crate) fn write(self, tx: &mut Tx<'_>, now: Time) {
        for (ino, (old, mut new)) in self.0 {
            new.modify(now, None);
            tx.set_inode(ino, &old, new);
        }
    }
}
