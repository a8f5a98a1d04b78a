//! How much room there is.

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::map::BLOCK;
use crate::pack::EXTENT_OVERHEAD;
use mooring_policy::action::Action;
use mooring_protocol::types::VolumeStat;
use std::sync::atomic::Ordering;

/// What a volume takes and what it saves. All of it is exact as of the last commit: kept in the commits themselves, not
/// estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the blocks that files hold, shared ones counted for each file: what quotas count.
    pub logical_bytes: u64,
    /// Inodes: files, directories and the rest.
    pub inodes: u64,
    /// Bytes that files show from extents, shared ones counted for each file.
    pub referenced_bytes: u64,
    /// Bytes of extents before compression, each counted once.
    pub raw_bytes: u64,
    /// Bytes of extents as stored, with their heads and tags: the live bytes of packs.
    pub stored_bytes: u64,
    /// Extents.
    pub extents: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Packs.
    pub packs: u64,
}

impl Space {
    /// Bytes of packs that are not live: garbage, and the lists at the ends of packs.
    #[must_use]
    pub fn dead_bytes(&self) -> u64 {
        self.pack_bytes.saturating_sub(self.stored_bytes)
    }

    /// Bytes that need not be stored because they are already.
    #[must_use]
    pub fn saved_by_dedup(&self) -> u64 {
        self.referenced_bytes.saturating_sub(self.raw_bytes)
    }

    /// Bytes that compression saves.
    #[must_use]
    pub fn saved_by_compression(&self) -> u64 {
        let overhead = self.extents.saturating_mul(EXTENT_OVERHEAD);
        self.raw_bytes.saturating_sub(self.stored_bytes.saturating_sub(overhead))
    }
}

impl Volume {
    /// What the volume takes now.
    #[must_use]
    pub fn space(&self) -> Space {
        let packs = self.packs.list();
        let account = *self.shared.usage.account.lock();
        Space {
            logical_bytes: self.blocks_in_use().saturating_mul(BLOCK),
            inodes: self.inodes_in_use(),
            referenced_bytes: account.referenced,
            raw_bytes: account.raw,
            stored_bytes: account.stored,
            extents: account.extents,
            pack_bytes: packs.iter().map(|pack| pack.bytes).sum(),
            packs: packs.len() as u64,
        }
    }

    pub(super) async fn do_statfs(&self, cx: &Caller) -> Result<VolumeStat> {
        cx.authority.check(Action::List, None)?;
        self.alive()?;
        let used = self.blocks_in_use().saturating_mul(BLOCK);
        let (total_bytes, free_bytes) = match self.config.quota_bytes {
            Some(quota) => (quota, quota.saturating_sub(used)),
            None => {
                let free = self.disk_free()?;
                (used.saturating_add(free), free)
            }
        };
        let inodes = self.inodes_in_use();
        let free_inodes = self.config.max_inodes.saturating_sub(inodes);
        Ok(VolumeStat { total_bytes, free_bytes, total_inodes: self.config.max_inodes, free_inodes })
    }

    /// Bytes free where the volume lives; everything there is where no directory is known.
    fn disk_free(&self) -> Result<u64> {
        let Some(directory) = &self.config.directory else { return Ok(1 << 60) };
        let stat = rustix::fs::statvfs(directory).map_err(|error| StoreError::Store(Box::new(error)))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Blocks that count against the quota: those of files with a name or a handle. What lingers was given back.
    fn blocks_in_use(&self) -> u64 {
        self.shared.usage.blocks.load(Ordering::Acquire).saturating_sub(self.linger.totals().1)
    }

    /// Inodes that count against the bound; see [`Self::blocks_in_use`].
    fn inodes_in_use(&self) -> u64 {
        self.shared.usage.inodes.load(Ordering::Acquire).saturating_sub(self.linger.totals().0)
    }

    /// Refuses what would go over the quota. What lingers does not count, and goes when it would have to.
    pub(crate) fn room_for_blocks(&self, grown: i64) -> Result<()> {
        let Some(quota) = self.config.quota_bytes else { return Ok(()) };
        let Ok(grown @ 1..) = u64::try_from(grown) else { return Ok(()) };
        let over = |used: u64| used.saturating_add(grown).saturating_mul(BLOCK) > quota;
        if over(self.shared.usage.blocks.load(Ordering::Acquire)) {
            self.linger.hurry();
        }
        if over(self.blocks_in_use()) { Err(StoreError::QuotaExceeded) } else { Ok(()) }
    }

    pub(crate) fn room_for_inodes(&self, more: u64) -> Result<()> {
        let over = |inodes: u64| inodes.saturating_add(more) > self.config.max_inodes;
        if over(self.shared.usage.inodes.load(Ordering::Acquire)) {
            self.linger.hurry();
        }
        if over(self.inodes_in_use()) { Err(StoreError::QuotaExceeded) } else { Ok(()) }
    }
}
