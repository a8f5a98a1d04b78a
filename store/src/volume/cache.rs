//! Decoded rows above the metadata engine.
//!
//! What is cached is what was last committed: the committer replaces entries before it releases an operation's
//! locks. Entries are filled in from the engine only under (at least shared) the lock of their inode, so that a
//! slow reader cannot put an old row over a new one.
//!
//! All volumes of a process share the memory ([`RowCache`]); what one of them caches carries its number.
//!
//! Map rows have a cache of their own kind ([`super::maps`]).
//!
//! Readers of names and attributes take no inode's lock, so a change is shown to them in one step: a name that is
//! replaced is never absent, and a file that is moved is never in neither place nor in both.

use super::maps::{MapCache, Windows};
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::map::ExtentId;
use crate::pack::ExtentRef;
use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use mooring_protocol::types::Ino;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// About what the cache itself adds to an entry, bytes.
const OVERHEAD: u32 = 240;

/// Says whose an entry is: a number that every view of a volume gets when it is opened, and nobody else ever.
pub(crate) type Owner = u64;

/// A name in a folder, of somebody.
type NameKey = (Owner, Ino, Bytes);

/// Decoded rows of all volumes of a process, under one bound in bytes.
pub struct RowCache {
    inodes: Cache<(Owner, Ino), Arc<Inode>>,
    dentries: Cache<NameKey, Option<Dentry>>,
    places: Cache<(Owner, ExtentId), ExtentRef>,
    pub(super) windows: Windows,
    owners: AtomicU64,
}

impl RowCache {
    /// Caches that hold about `bytes` together: three quarters for inodes and names, which every operation asks for.
    #[must_use]
    pub fn new(bytes: u64) -> RowCache {
        let inode_cost = OVERHEAD + size_of::<Inode>() as u32;
        let place_cost = OVERHEAD + (size_of::<ExtentId>() + size_of::<ExtentRef>()) as u32;
        RowCache {
            inodes: recent(bytes / 8 * 3, move |_, _| inode_cost),
            dentries: recent(bytes / 8 * 3, dentry_cost),
            places: recent(bytes / 8, move |_, _| place_cost),
            windows: super::maps::windows(bytes / 8),
            owners: AtomicU64::new(0),
        }
    }

    /// A number that nothing cached carries.
    pub(super) fn owner(&self) -> Owner {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes cached now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // Sizes are counted by the caches' housekeeping, which would come by itself a little later.
        self.inodes.run_pending_tasks();
        self.dentries.run_pending_tasks();
        self.places.run_pending_tasks();
        self.windows.run_pending_tasks();
        self.inodes.weighted_size()
            + self.dentries.weighted_size()
            + self.places.weighted_size()
            + self.windows.weighted_size()
    }
}

/// What a volume has in the caches.
pub(crate) struct Caches {
    shared: Arc<RowCache>,
    /// Another from when other rows show through.
    owner: AtomicU64,
    pub(crate) maps: MapCache,
    /// Held exclusively while a change is shown, shared by each look.
    showing: RwLock<()>,
}

impl Caches {
    /// An empty part of `shared`; map rows of `window` bytes of a file are one entry.
    pub(crate) fn new(shared: &Arc<RowCache>, window: u64) -> Caches {
        Caches {
            shared: shared.clone(),
            owner: shared.owner().into(),
            maps: MapCache::new(shared, window),
            showing: RwLock::new(()),
        }
    }

    fn owner(&self) -> Owner {
        self.owner.load(Ordering::Acquire)
    }

    /// Forgets inodes and names: others show through now. Nobody is filling them in meanwhile.
    pub(crate) fn forget_names(&self) {
        let _showing = self.showing.write();
        self.owner.store(self.shared.owner(), Ordering::Release);
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
        self.shared.inodes.get(&(self.owner(), ino))
    }

    /// Those of `inos` that are cached, as of one moment, in their order.
    pub(crate) fn inodes(&self, inos: impl Iterator<Item = Ino>) -> Vec<Option<Arc<Inode>>> {
        let _shown = self.showing.read();
        let owner = self.owner();
        inos.map(|ino| self.shared.inodes.get(&(owner, ino))).collect()
    }

    pub(crate) fn set_inode(&self, ino: Ino, inode: Option<Arc<Inode>>) {
        match inode {
            Some(inode) => self.shared.inodes.insert((self.owner(), ino), inode),
            None => self.shared.inodes.invalidate(&(self.owner(), ino)),
        }
    }

    /// The entry; `Some(None)` when it is known that there is none.
    pub(crate) fn dentry(&self, parent: Ino, name: &[u8]) -> Option<Option<Dentry>> {
        let key = (self.owner(), parent, Bytes::copy_from_slice(name));
        let _shown = self.showing.read();
        self.shared.dentries.get(&key)
    }

    pub(crate) fn set_dentry(&self, parent: Ino, name: Bytes, dentry: Option<Dentry>) {
        self.shared.dentries.insert((self.owner(), parent, name), dentry);
    }
}

/// What a volume has of the cached places of extents, for all its heads and snapshots.
pub(crate) struct Places {
    shared: Arc<RowCache>,
    owner: Owner,
}

impl Places {
    pub(crate) fn new(shared: &Arc<RowCache>) -> Places {
        Places { shared: shared.clone(), owner: shared.owner() }
    }

    pub(crate) fn get(&self, id: &ExtentId) -> Option<ExtentRef> {
        self.shared.places.get(&(self.owner, *id))
    }

    pub(crate) fn set(&self, id: ExtentId, place: Option<ExtentRef>) {
        match place {
            Some(place) => self.shared.places.insert((self.owner, id), place),
            None => self.shared.places.invalidate(&(self.owner, id)),
        }
    }
}

/// A cache that keeps what was used last. What was used often may be a closed volume's, which nobody asks for again, and
/// would keep out what an open one needs.
pub(super) fn recent<K, V>(bytes: u64, cost: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().eviction_policy(EvictionPolicy::lru()).max_capacity(bytes).weigher(cost).build()
}

fn dentry_cost(key: &NameKey, value: &Option<Dentry>) -> u32 {
    let side = value.as_ref().and_then(|dentry| dentry.side.as_ref()).map_or(0, Bytes::len);
    let bytes = key.2.len() + side + size_of::<NameKey>() + size_of::<Option<Dentry>>();
    OVERHEAD + u32::try_from(bytes).unwrap_or(u32::MAX - OVERHEAD)
}
