//! Locks on inodes.
//!
//! A fixed table of locks; an inode's lock is the one its number falls on, so memory is bounded and two inodes may
//! share one. An operation takes all it needs at once, in table order, which rules out deadlock, and never takes
//! more while it holds some. What an operation must know to name its inodes (which inode an entry points at) it looks
//! up first and checks again under the locks.
//!
//! Held locks travel with the change to the committer and are released when the caches show it, so a caller that
//! goes away in the middle cannot let others see half an operation.

use super::Volume;
use crate::api::Result;
use mooring_protocol::types::Ino;
use std::sync::Arc;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Enough that two operations at once rarely meet by accident, at 64 bytes each.
const STRIPES: usize = 4096;

/// The table.
pub(crate) struct Locks {
    stripes: Vec<Arc<RwLock<()>>>,
    /// Held shared while a confined caller is at work, exclusive while a directory changes its place: neither an
    /// ancestor walk nor a check of confinement sees a tree that changes under it.
    gate: Arc<RwLock<()>>,
    /// Held shared by every change of any head, exclusively while a snapshot is taken or restored. An operation that only reads
    /// does without it, and one that changes takes it once, so nobody waits for it who holds it.
    world: Arc<RwLock<()>>,
}

/// Locks held, released together.
#[derive(Default)]
pub(crate) struct Held {
    _guards: Vec<Guard>,
    _gate: Option<Guard>,
    _world: Option<Guard>,
    _moving: Option<Guard>,
}

enum Guard {
    Shared(#[expect(dead_code, reason = "held, not read")] OwnedRwLockReadGuard<()>),
    Exclusive(#[expect(dead_code, reason = "held, not read")] OwnedRwLockWriteGuard<()>),
}

/// How an operation stands to the shape of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It does not care.
    Open,
    /// The tree must keep its shape meanwhile.
    Keep,
    /// It changes the shape.
    Change,
}

impl Locks {
    /// `world` is that of all heads.
    pub(crate) fn new(world: Arc<RwLock<()>>) -> Locks {
        Locks { stripes: (0..STRIPES).map(|_| Arc::default()).collect(), gate: Arc::default(), world }
    }

    /// Takes `write` exclusively and `read` shared.
    pub(crate) async fn lock(&self, gate: Gate, write: &[Ino], read: &[Ino]) -> Arc<Held> {
        let world = match write {
            [] => None,
            _ => Some(Guard::Shared(self.world.clone().read_owned().await)),
        };
        let gate = match gate {
            Gate::Open => None,
            Gate::Keep => Some(Guard::Shared(self.gate.clone().read_owned().await)),
            Gate::Change => Some(Guard::Exclusive(self.gate.clone().write_owned().await)),
        };
        let mut wanted: Vec<(usize, bool)> = write.iter().map(|&ino| (stripe(ino), false)).collect();
        wanted.extend(read.iter().map(|&ino| (stripe(ino), true)));
        // Exclusive sorts first, so where both kinds fall on one lock the stronger is taken.
        wanted.sort_unstable();
        wanted.dedup_by_key(|(stripe, _)| *stripe);
        let mut guards = Vec::with_capacity(wanted.len());
        for (stripe, shared) in wanted {
            let lock = self.stripes[stripe].clone();
            guards.push(if shared {
                Guard::Shared(lock.read_owned().await)
            } else {
                Guard::Exclusive(lock.write_owned().await)
            });
        }
        Arc::new(Held { _guards: guards, _gate: gate, _world: world, _moving: None })
    }

    /// For a change that needs no inode's lock.
    pub(crate) async fn enter(&self) -> Arc<Held> {
        let world = Guard::Shared(self.world.clone().read_owned().await);
        Arc::new(Held { _world: Some(world), ..Held::default() })
    }

    /// The same, and nobody looks through the layers.
    pub(crate) async fn enter_alone(&self, rows: &super::rows::Rows) -> Arc<Held> {
        let world = Guard::Shared(self.world.clone().read_owned().await);
        let moving = Guard::Exclusive(rows.alone().await);
        Arc::new(Held { _world: Some(world), _moving: Some(moving), ..Held::default() })
    }

    /// Waits for every change that is under way, and lets none begin.
    pub(crate) async fn stop(&self) -> Arc<Held> {
        let world = Guard::Exclusive(self.world.clone().write_owned().await);
        Arc::new(Held { _world: Some(world), ..Held::default() })
    }

    /// The same, and nobody looks through the layers.
    pub(crate) async fn stop_all(&self, rows: &super::rows::Rows) -> Arc<Held> {
        let world = Guard::Exclusive(self.world.clone().write_owned().await);
        let moving = Guard::Exclusive(rows.alone().await);
        Arc::new(Held { _world: Some(world), _moving: Some(moving), ..Held::default() })
    }
}

fn stripe(ino: Ino) -> usize {
    // Fibonacci hashing spreads the consecutive numbers of one directory's files.
    let mixed = ino.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 52) as usize % STRIPES
}

impl Volume {
    /// Takes locks. While the disk fails, nobody waits for one to change something: who holds it waits for the disk.
    pub(crate) async fn lock_gate(&self, gate: Gate, write: &[Ino], read: &[Ino]) -> Result<Arc<Held>> {
        self.alive()?;
        let locked = self.locks.lock(gate, write, read);
        if write.is_empty() {
            return Ok(locked.await);
        }
        tokio::select! {
            biased;
            held = locked => Ok(held),
            error = self.rows().meta().faulty() => Err(error.into()),
        }
    }
}
