//! All nodes of a door, in shards so that two threads seldom meet.

use std::collections::HashMap;
use std::sync::Arc;

use mooring_protocol::types::Ino;
use parking_lot::Mutex;

use super::node::Node;

const SHARDS: usize = 16;
/// Nodes kept of one door. Each is under 1 KiB without its names.
const MAX_NODES: usize = 48 << 10;
/// Nodes given up at once when there are more.
const TRIM: usize = 1024;

/// Inode number to [`Node`].
pub struct Table {
    shards: [Mutex<HashMap<u64, Arc<Node>>>; SHARDS],
}

impl Default for Table {
    fn default() -> Table {
        Table { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Table {
    /// The node of an inode, made when it is not there yet.
    pub fn get(&self, ino: Ino) -> Arc<Node> {
        self.shard(ino).lock().entry(ino.get()).or_insert_with(|| Node::new(ino)).clone()
    }

    /// The node of an inode, if there is one.
    pub fn known(&self, ino: Ino) -> Option<Arc<Node>> {
        self.shard(ino).lock().get(&ino.get()).cloned()
    }

    /// All nodes.
    pub fn all(&self) -> Vec<Arc<Node>> {
        self.shards.iter().flat_map(|s| s.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Those to be given up: none while there is room, else the ones unused for longest.
    pub fn idlest(&self) -> Vec<Arc<Node>> {
        if self.count() <= MAX_NODES {
            return Vec::new();
        }
        let mut nodes: Vec<_> = self
            .all()
            .into_iter()
            .filter_map(|node| {
                let state = node.state.lock();
                let key = state.idle().then_some(state.used);
                drop(state);
                key.map(|used| (used, node))
            })
            .collect();
        nodes.sort_by_key(|(used, _)| *used);
        nodes.into_iter().take(TRIM).map(|(_, node)| node).collect()
    }

    /// Forgets a node that nobody else has a hold on and that holds nothing.
    pub fn forget(&self, ino: Ino) {
        let mut shard = self.shard(ino).lock();
        if let Some(node) = shard.get(&ino.get())
            && Arc::strong_count(node) <= 2
        {
            let state = node.state.lock();
            let free = state.idle() && state.holder.mode() == mooring_protocol::types::LeaseMode::None;
            drop(state);
            if free {
                shard.remove(&ino.get());
            }
        }
    }

    fn shard(&self, ino: Ino) -> &Mutex<HashMap<u64, Arc<Node>>> {
        // Below SHARDS, so it fits.
        &self.shards[(ino.get() % SHARDS as u64) as usize]
    }
}
