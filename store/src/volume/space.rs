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
        let used = self.shared.usage.blocks.load(Ordering::Acquire).saturating_mul(BLOCK);
        let (total_bytes, free_bytes) = match self.config.quota_bytes {
            Some(quota) => (quota, quota.saturating_sub(used)),
            None => {
                let free = self.disk_free()?;
                (used.saturating_add(free), free)
            }
        };
        let inodes = self.shared.usage.inodes.load(Ordering::Acquire);
        let free_inodes = self.config.max_inodes.saturating_sub(inodes);
        Ok(VolumeStat { total_bytes, free_bytes, total_inodes: self.config.max_inodes, free_inodes })
    }

    /// Bytes free where the volume lives; everything there is where no directory is known.
    fn disk_free(&self) -> Result<u64> {
        let Some(directory) = &self.config.directory else { return Ok(1 << 60) };
        let stat = rustix::fs::statvfs(directory).map_err(|error| StoreError::Store(Box::new(error)))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Refuses what would go over the quota.
    pub(crate) fn room_for_blocks(&self, grown: i64) -> Result<()> {
        let Some(quota) = self.config.quota_bytes else { return Ok(()) };
        let used = self.shared.usage.blocks.load(Ordering::Acquire);
        let wanted = used.saturating_add_signed(grown.max(0)).saturating_mul(BLOCK);
        if grown > 0 && wanted > quota { Err(StoreError::QuotaExceeded) } else { Ok(()) }
    }

    pub(crate) fn room_for_inodes(&self, more: u64) -> Result<()> {
        let inodes = self.shared.usage.inodes.load(Ordering::Acquire);
        if inodes.saturating_add(more) > self.config.max_inodes {
            Err(StoreError::QuotaExceeded)
        } else {
            Ok(())
        }
    }
}
