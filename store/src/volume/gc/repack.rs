//! Moving live extents out of packs that are mostly garbage.

use super::{State, Step, Volume};
use crate::api::Result;
use crate::keys::map::ExtentId;
use crate::pack::{Entry, PackError, PackId};
use crate::volume::change::{Change, Move};

/// Bytes and extents moved by one step.
const STEP_BYTES: u64 = 4 << 20;
const STEP_EXTENTS: usize = 1024;

/// A pack gains by being rewritten when at least one part in this many of its extents' bytes is garbage.
const LEAST: u64 = 10;

impl Volume {
    /// Lists the live extents of some packs, in the order in which their files have them.
    pub(super) async fn look_into(&self, state: &mut State, victims: &[PackId]) -> Result<Step> {
        let merges = victims.len() > 1;
        let mut pending = Vec::new();
        for &pack in victims {
            let entries = match self.packs.entries(pack).await {
                Ok(entries) => entries,
                Err(error @ (PackError::Corrupt { .. } | PackError::Missing { .. })) => {
                    tracing::warn!(%pack, %error, "a pack that cannot be listed is not rewritten");
                    state.stuck.insert(pack);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let bytes: u64 = entries.iter().map(|entry| entry.extent.pack_bytes()).sum();
            let mut live = Vec::with_capacity(entries.len());
            for entry in entries {
                let id = ExtentId { domain: entry.domain.0, hash: entry.extent.hash };
                if self.stored_place(id).await? == Some(entry.extent) {
                    live.push(entry);
                }
            }
            let live_bytes: u64 = live.iter().map(|entry| entry.extent.pack_bytes()).sum();
            let small = merges && bytes < self.packs.pack_bytes() / 4;
            if (bytes - live_bytes < bytes / LEAST && !small) || live.is_empty() {
                // Its size is that of its list, or rows name what is not in the list.
                state.tight.insert(pack, live_bytes);
                continue;
            }
            pending.extend(live);
        }
        pending.sort_unstable_by_key(|entry: &Entry| entry.owner);
        state.pending = pending.into();
        Ok(Step::Did(0))
    }

    /// Moves some of the extents that are listed.
    pub(super) async fn move_some(&self, state: &mut State) -> Result<Step> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        while let Some(entry) = state.pending.front().copied()
            && entries.len() < STEP_EXTENTS
            && (entries.is_empty() || bytes + entry.extent.pack_bytes() <= STEP_BYTES)
        {
            bytes += entry.extent.pack_bytes();
            entries.push(entry);
            state.pending.pop_front();
        }
        let moved = self.packs.relocate(entries.clone()).await.inspect_err(|_| state.pending.clear())?;
        let mut change = Change::default();
        for (entry, moved) in entries.iter().zip(moved) {
            let from = entry.extent;
            match moved {
                Ok(to) => {
                    let id = ExtentId { domain: entry.domain.0, hash: from.hash };
                    change.moves.push(Move { id, from, to });
                }
                Err(error) => {
                    tracing::error!(pack = %from.pack, offset = from.offset, %error, "an extent cannot be moved");
                    state.stuck.insert(from.pack);
                    self.gc.add(|totals| totals.damaged_extents += 1);
                }
            }
        }
        let extents = change.moves.len() as u64;
        self.commit(change).await.inspect_err(|_| state.pending.clear())?;
        self.gc.add(|totals| {
            totals.moved_extents += extents;
            totals.moved_bytes += bytes;
        });
        Ok(Step::Did(bytes))
    }
}
