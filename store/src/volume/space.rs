//! How much room there is.

use super::Volume;
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::map::BLOCK;
use mooring_policy::action::Action;
use mooring_protocol::types::VolumeStat;
use std::sync::atomic::Ordering;

impl Volume {
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
