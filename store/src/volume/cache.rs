//! Decoded rows above the metadata engine.
//!
//! What is cached is what was last committed: the committer replaces entries before it releases an operation's
//! locks. Entries are filled in from the engine only under (at least shared) the lock of their inode, so that a
//! slow reader cannot put an old row over a new one.

use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::map::ExtentId;
use crate::pack::ExtentRef;
use bytes::Bytes;
use moka::sync::Cache;
use mooring_protocol::types::Ino;
use std::sync::Arc;

/// About what the cache itself adds to an entry, bytes.
const OVERHEAD: u32 = 120;

/// The caches of a volume, bounded in bytes.
pub(crate) struct Caches {
    inodes: Cache<Ino, Arc<Inode>>,
    dentries: Cache<(Ino, Bytes), Option<Dentry>>,
    places: Cache<ExtentId, ExtentRef>,
}

impl Caches {
    /// Caches that hold about `bytes` together.
    pub(crate) fn new(bytes: u64) -> Caches {
        let inode_cost = OVERHEAD + size_of::<Inode>() as u32;
        let place_cost = OVERHEAD + (size_of::<ExtentId>() + size_of::<ExtentRef>()) as u32;
        Caches {
            inodes: Cache::builder().max_capacity(bytes / 2).weigher(move |_, _| inode_cost).build(),
            dentries: Cache::builder().max_capacity(bytes / 4).weigher(dentry_cost).build(),
            places: Cache::builder().max_capacity(bytes / 4).weigher(move |_, _| place_cost).build(),
        }
    }

    pub(crate) fn inode(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.inodes.get(&ino)
    }

    pub(crate) fn set_inode(&self, ino: Ino, inode: Option<Arc<Inode>>) {
        match inode {
            Some(inode) => self.inodes.insert(ino, inode),
            None => self.inodes.invalidate(&ino),
        }
    }

    /// The entry; `Some(None)` when it is known that there is none.
    pub(crate) fn dentry(&self, parent: Ino, name: &[u8]) -> Option<Option<Dentry>> {
        self.dentries.get(&(parent, Bytes::copy_from_slice(name)))
    }

    pub(crate) fn set_dentry(&self, parent: Ino, name: Bytes, dentry: Option<Dentry>) {
        self.dentries.insert((parent, name), dentry);
    }

    pub(crate) fn place(&self, id: &ExtentId) -> Option<ExtentRef> {
        self.places.get(id)
    }

    pub(crate) fn set_place(&self, id: ExtentId, place: Option<ExtentRef>) {
        match place {
            Some(place) => self.places.insert(id, place),
            None => self.places.invalidate(&id),
        }
    }
}

fn dentry_cost(key: &(Ino, Bytes), value: &Option<Dentry>) -> u32 {
    let side = value.as_ref().and_then(|dentry| dentry.side.as_ref()).map_or(0, Bytes::len);
    let bytes = key.1.len() + side + size_of::<(Ino, Bytes)>() + size_of::<Option<Dentry>>();
    OVERHEAD + u32::try_from(bytes).unwrap_or(u32::MAX - OVERHEAD)
}
