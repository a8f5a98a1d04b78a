//! Deleting packs that nothing names.

use super::{State, Step, Volume};
use crate::api::Result;
use crate::keys::map::ExtentId;
use crate::keys::pack;
use crate::pack::{PackError, PackId};
use crate::volume::Change;

/// Packs deleted in one step: bounds how long it holds the volume.
const AT_ONCE: usize = 64;

impl Volume {
    /// Deletes packs that were found dead. See the module documentation for the order.
    pub(super) async fn delete_dead(&self, state: &mut State, dead: &[(PackId, u64)]) -> Result<Step> {
        let dead = &dead[..dead.len().min(AT_ONCE)];
        self.rows().meta().sync().await?;
        // The commit that carries the knowledge of that sync. It only deletes, so that a full disk takes it.
        let mut change = Change::default();
        for (id, _) in dead {
            change.batch.delete(pack::key(id.0));
        }
        self.commit(change).await?;
        self.rows().meta().sync().await?;
        self.alive()?;
        for &(id, bytes) in dead {
            if self.is_named(id).await? {
                state.stuck.insert(id);
                continue;
            }
            match self.packs.delete(id).await {
                Ok(()) | Err(PackError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.gc.add(|totals| {
                totals.freed_packs += 1;
                totals.freed_bytes += bytes;
            });
            tracing::debug!(pack = %id, bytes, "deleted a pack that nothing names");
        }
        Ok(Step::Did(0))
    }

    /// Whether a row names the pack after all, or nobody can tell. The count of live bytes says no; a count that is wrong
    /// must not cost data.
    async fn is_named(&self, id: PackId) -> Result<bool> {
        let entries = match self.packs.entries(id).await {
            Ok(entries) => entries,
            Err(PackError::Missing { .. }) => return Ok(false),
            Err(error @ PackError::Corrupt { .. }) => {
                tracing::warn!(pack = %id, %error, "a pack without live bytes that cannot be listed is kept");
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let extent = ExtentId { domain: entry.domain.0, hash: entry.extent.hash };
            if self.stored_place(extent).await? == Some(entry.extent) {
                tracing::error!(pack = %id, "a pack without live bytes is named by a row and kept: check the bucket");
                return Ok(true);
            }
        }
        Ok(false)
    }
}
