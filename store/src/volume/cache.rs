//! Decoded rows above the metadata engine.
//!
//! What is cached is what was last committed: the committer replaces entries before it releases an operation's
//! locks. Entries are filled in from the engine only under (at least shared) the lock of their inode, so that a
//! slow reader cannot put an old row over a new one.
//!
//! Map rows have a cache of their own kind ([`super::maps`]).
//!
//! Readers of names and attributes take no inode's lock, so a change is shown to them in one step: a name that is
//! replaced is never absent, and a file that is moved is never in neither place nor in both.

use super::maps::MapCache;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::map::ExtentId;
use crate::pack::ExtentRef;
use bytes::Bytes;
use moka::sync::Cache;
use mooring_protocol::types::Ino;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// About what the cache itself adds to an entry, bytes.
const OVERHEAD: u32 = 120;

/// The caches of a volume, bounded in bytes.
pub(crate) struct Caches {
    inodes: Cache<Ino, Arc<Inode>>,
    dentries: Cache<(Ino, Bytes), Option<Dentry>>,
    places: Cache<ExtentId, ExtentRef>,
    pub(crate) maps: MapCache,
    /// Held exclusively while a change is shown, shared by each look.
    showing: RwLock<()>,
}

impl Caches {
    /// Caches that hold about `bytes` together; map rows of `window` bytes of a file are one entry.
    pub(crate) fn new(bytes: u64, window: u64) -> Caches {
        let inode_cost = OVERHEAD + size_of::<Inode>() as u32;
        let place_cost = OVERHEAD + (size_of::<ExtentId>() + size_of::<ExtentRef>()) as u32;
        Caches {
            inodes: Cache::builder().max_capacity(bytes / 4).weigher(move |_, _| inode_cost).build(),
            dentries: Cache::builder().max_capacity(bytes / 4).weigher(dentry_cost).build(),
            places: Cache::builder().max_capacity(bytes / 4).weigher(move |_, _| place_cost).build(),
            maps: MapCache::new(bytes / 4, window),
            showing: RwLock::new(()),
        }
    }

    /// Shows what an operation made of inodes and names. Where it says two things of one, the later holds.
    pub(crate) fn show(
        &self,
        inodes: Vec<(Ino, Option<Arc<Inode>>)>,
        dentries: Vec<(Ino, Bytes, Option<Dentry>)>,
    ) {
        let inodes: HashMap<Ino, Option<Arc<Inode>>> = inodes.into_iter().collect();
        let names = dentries.into_iter().map(|(parent, name, entry)| ((parent, name), entry));
        let names: HashMap<(Ino, Bytes), Option<Dentry>> = names.collect();
        let _showing = self.showing.write();
        for (ino, inode) in inodes {
            self.set_inode(ino, inode);
        }
        for ((parent, name), entry) in names {
            self.set_dentry(parent, name, entry);
        }
    }

    pub(crate) fn inode(&self, ino: Ino) -> Option<Arc<Inode>> {
        let _shown = self.showing.read();
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
        let key = (parent, Bytes::copy_from_slice(name));
        let _shown = self.showing.read();
        self.dentries.get(&key)
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
