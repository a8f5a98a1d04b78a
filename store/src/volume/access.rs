//! Confinement: a grantee reaches nothing outside the root of its share, whatever inode number it sends.
//!
//! Membership is decided by walking towards the volume's root: a directory by its one parent, a file by any of its
//! names, an inode without a name by the directory it last belonged to. Directories that were found inside are
//! remembered until some directory changes its place (the volume's epoch moves). The caller holds the gate meanwhile, so
//! the answer still holds while the operation runs.

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::orphan::{Orphan, Why};
use crate::keys::{RowError, backlink, orphan};
use moka::sync::Cache;
use mooring_protocol::types::Ino;
use std::sync::atomic::Ordering;

/// Directories remembered, over all shares of the volume.
const REMEMBERED: u64 = 64 << 10;
/// Deeper trees exist only in a damaged volume.
const MAX_DEPTH: usize = 1 << 20;

/// Directories known to lie under a root, as of an epoch.
pub(crate) struct Members(Cache<(Ino, Ino), u64>);

impl Members {
    pub(crate) fn new() -> Members {
        Members(Cache::new(REMEMBERED))
    }
}

impl Volume {
    /// Fails unless the caller's world holds `ino`. What lies outside is as gone as what never was.
    pub(crate) async fn confine(&self, cx: &Caller, ino: Ino) -> Result<()> {
        if !cx.confined || self.within(cx.root, ino).await? { Ok(()) } else { Err(StoreError::Stale(ino)) }
    }

    /// Whether `ino` is `root` or lies below it.
    pub(crate) async fn within(&self, root: Ino, ino: Ino) -> Result<bool> {
        match self.stored_inode(ino).await? {
            None => Ok(false),
            Some(_) if ino == root => Ok(true),
            Some(inode) if inode.is_dir() => self.directory_within(root, ino).await,
            Some(_) => {
                for parent in self.parents(ino).await? {
                    if self.directory_within(root, parent).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    async fn directory_within(&self, root: Ino, directory: Ino) -> Result<bool> {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let mut walked = Vec::new();
        let mut at = directory;
        let inside = loop {
            if at == root || self.members.0.get(&(root, at)) == Some(epoch) {
                break true;
            }
            if at == Ino::ROOT || walked.len() >= MAX_DEPTH {
                break false;
            }
            walked.push(at);
            at = match self.parent(at).await? {
                Some(parent) => parent,
                None => break false,
            };
        };
        if inside {
            walked.into_iter().for_each(|member| self.members.0.insert((root, member), epoch));
        }
        Ok(inside)
    }

    /// The directory a directory is in.
    pub(crate) async fn parent(&self, directory: Ino) -> Result<Option<Ino>> {
        let Some(inode) = self.stored_inode(directory).await? else { return Ok(None) };
        match Ino::new(inode.parent) {
            Some(parent) => Ok(Some(parent)),
            // A removed directory that is still open has no parent any more; where it was tells its orphan row.
            None => self.orphan_parent(directory).await,
        }
    }

    /// The inode as last committed. Does not fill the cache, so it needs no lock.
    async fn stored_inode(&self, ino: Ino) -> Result<Option<std::sync::Arc<crate::keys::inode::Inode>>> {
        if let Some(inode) = self.shared.caches.inode(ino) {
            return Ok(Some(inode));
        }
        let row = self.rows().get(|layer| crate::keys::inode::key(layer, ino)).await?;
        row.map(|value| Ok(std::sync::Arc::new(crate::keys::inode::decode(&value)?))).transpose()
    }

    /// The directories a file has names in.
    async fn parents(&self, ino: Ino) -> Result<Vec<Ino>> {
        let mut parents = Vec::new();
        for (rest, _) in self.rows().all(|layer| backlink::prefix(layer, ino)).await? {
            let key = [&backlink::prefix(self.rows().head(), ino)[..], &rest[..]].concat();
            let (_, _, parent, _) = backlink::parse(&key)?;
            parents.push(parent);
        }
        if parents.is_empty() {
            parents.extend(self.orphan_parent(ino).await?);
        }
        parents.dedup();
        Ok(parents)
    }

    async fn orphan_parent(&self, ino: Ino) -> Result<Option<Ino>> {
        match self.rows().get(|layer| orphan::key(layer, ino)).await? {
            // What lies in the trash is the owner's alone, but for who has it open still.
            Some(value) => {
                let Orphan { why, parent } = orphan::decode(&value)?;
                let hidden = matches!(why, Why::Trashed { .. }) && !self.pins.is_pinned(ino);
                Ok((!hidden).then_some(parent))
            }
            None => Ok(None),
        }
    }

    /// Whether `ancestor` is `directory` or above it. The gate is held for a change.
    pub(crate) async fn is_above(&self, ancestor: Ino, directory: Ino) -> Result<bool> {
        let mut at = directory;
        for _ in 0..MAX_DEPTH {
            if at == ancestor {
                return Ok(true);
            }
            if at == Ino::ROOT {
                return Ok(false);
            }
            let missing = RowError::Missing { family: "inode", of: at.get() };
            at = self.parent(at).await?.ok_or(missing)?;
        }
        Err(RowError::Value("inode").into())
    }
}
