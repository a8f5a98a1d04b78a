//! Removing objects of the log that nobody needs any more.

use super::{Upstream, UpstreamError};
use object_store::{Error, ObjectStoreExt};

/// With more objects than this that wait only for the open pack, it is finished and sent.
const WAIT_FOR_PACKS: usize = 64;

impl Upstream {
    /// Removes, oldest first, the objects whose records are all before `needed` and whose packs are in the store. The
    /// newest stays: it tells the next number; and those that fence who may come back. Returns how many went.
    pub(crate) async fn collect(&self, needed: u64) -> Result<usize, UpstreamError> {
        let packs = self.packs();
        let (old, waiting) = {
            let state = self.state.lock();
            let mut old = Vec::new();
            let mut waiting = 0;
            for live in state.live.iter().take(state.live.len().saturating_sub(1)) {
                if live.last_id >= needed {
                    break;
                }
                let here =
                    packs.as_ref().is_some_and(|packs| live.packs.iter().any(|id| packs.is_only_here(*id)));
                if waiting > 0 || here {
                    waiting += 1;
                } else if !live.stays {
                    old.push(live.number);
                }
            }
            (old, waiting)
        };
        let mut removed = 0;
        for number in old {
            match self.place.store().delete(&self.object(number)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                // The next round tries again.
                Err(error) => {
                    return Err(self.place.backing.error("remove old log objects from", error).into());
                }
            }
            removed += 1;
            self.state.lock().live.retain(|live| live.number != number);
        }
        if let Some(packs) = packs.filter(|_| waiting > WAIT_FOR_PACKS) {
            packs.finish_open().await;
        }
        Ok(removed)
    }
}
