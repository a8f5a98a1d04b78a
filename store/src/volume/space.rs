//! How much room there is.

use super::{Volume, rows};
use crate::api::{Caller, Result};
use crate::error::StoreError;
use crate::keys::pack;
use crate::meta::Meta;
use crate::pack::EXTENT_OVERHEAD;
use mooring_policy::action::Action;
use mooring_protocol::types::VolumeStat;
use std::collections::HashMap;

/// Inodes a volume may have where no quota says less.
const MOST_INODES: u64 = 1 << 40;

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
        let account = *self.shared.trunk.account.lock();
        Space {
            logical_bytes: self.used().bytes(),
            inodes: self.used().inodes,
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
        let used = self.used();
        let (bytes, files) = self.quota_left();
        let disk = self.disk_free()?;
        let free_bytes = bytes.map_or(disk, |left| left.min(disk));
        let total_bytes = used.bytes().saturating_add(free_bytes);
        let free_inodes = files.unwrap_or(MOST_INODES).min(MOST_INODES.saturating_sub(used.inodes));
        let total_inodes = used.inodes.saturating_add(free_inodes);
        Ok(VolumeStat { total_bytes, free_bytes, total_inodes, free_inodes })
    }

    /// Bytes free where the volume lives; everything there is where no directory is known.
    fn disk_free(&self) -> Result<u64> {
        let Some(directory) = &self.config.directory else { return Ok(1 << 60) };
        let stat = rustix::fs::statvfs(directory).map_err(|error| StoreError::Store(Box::new(error)))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Live bytes of every pack that has any.
pub(super) async fn live_bytes(meta: &dyn Meta) -> Result<HashMap<u128, u64>> {
    const PAGE: usize = 4096;
    let mut live = HashMap::new();
    let mut from = Vec::new();
    loop {
        let page = rows::scan(meta, &pack::prefix(), &from, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(live) };
        from = crate::meta::after(last);
        for (rest, value) in page {
            let key = [&pack::prefix()[..], &rest[..]].concat();
            live.insert(pack::parse(&key)?, pack::decode(&value)?);
        }
    }
}
