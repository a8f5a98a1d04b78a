//! What a bucket and a tenant may have.
//!
//! The committer asks before it applies a change that grows files or adds inodes, so a limit holds exactly, however many
//! write at once: it is the only one that changes a volume's totals, and a tenant's [`Budget`] is charged under its own
//! lock. Operations ask as well before they store bytes, to save the work. What takes nothing more is never refused:
//! overwriting, truncating and removing go on at the limit, and beyond it when it was lowered.
//!
//! Replaced files that linger ([`super::linger`]) do not count.

use super::Volume;
use super::linger::Linger;
use crate::api::Result;
use crate::error::StoreError;
use crate::keys::map::BLOCK;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Limits of a bucket or a tenant. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Logical bytes: blocks that files hold, shared ones counted for each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Inodes: files, directories and the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

/// Blocks and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Blocks of [`BLOCK`] bytes.
    pub blocks: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Used {
    pub(super) fn plus(self, more: More) -> Used {
        Used {
            blocks: self.blocks.saturating_add_signed(more.blocks),
            inodes: self.inodes.saturating_add_signed(more.inodes),
        }
    }

    fn less(self, other: Used) -> Used {
        Used {
            blocks: self.blocks.saturating_sub(other.blocks),
            inodes: self.inodes.saturating_sub(other.inodes),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.blocks.saturating_mul(BLOCK)
    }
}

/// What a change takes more; negative gives back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct More {
    pub(crate) blocks: i64,
    pub(crate) inodes: i64,
}

impl Quota {
    /// Whether so much may be used, of which `more` is new. What does not grow is not looked at.
    fn admits(&self, after: Used, more: More) -> bool {
        let bytes = more.blocks <= 0 || self.bytes.is_none_or(|limit| after.bytes() <= limit);
        let files = more.inodes <= 0 || self.files.is_none_or(|limit| after.inodes <= limit);
        bytes && files
    }

    /// Bytes and inodes that are left.
    fn left(&self, used: Used) -> (Option<u64>, Option<u64>) {
        (
            self.bytes.map(|limit| limit.saturating_sub(used.bytes())),
            self.files.map(|limit| limit.saturating_sub(used.inodes)),
        )
    }
}

/// What all volumes of a tenant use together, and may.
#[derive(Debug, Default)]
pub struct Budget(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    quota: Quota,
    /// By volume, closed ones as they were when they were last open.
    volumes: HashMap<u64, Used>,
    total: Used,
}

impl Budget {
    /// Sets the limits, at once.
    pub fn set_quota(&self, quota: Quota) {
        self.0.lock().quota = quota;
    }

    /// The limits.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.0.lock().quota
    }

    /// What is used, of the volumes known.
    #[must_use]
    pub fn used(&self) -> Used {
        self.0.lock().total
    }

    /// Whether it is known what the volume uses.
    #[must_use]
    pub fn knows(&self, volume: u64) -> bool {
        self.0.lock().volumes.contains_key(&volume)
    }

    /// The volume is gone.
    pub fn forget(&self, volume: u64) {
        let mut state = self.0.lock();
        if let Some(used) = state.volumes.remove(&volume) {
            state.total = state.total.less(used);
        }
    }

    /// What a volume uses, as committed.
    pub(crate) fn settle(&self, volume: u64, used: Used) {
        let mut state = self.0.lock();
        let before = state.volumes.insert(volume, used).unwrap_or_default();
        let rest = state.total.less(before);
        state.total = Used { blocks: rest.blocks + used.blocks, inodes: rest.inodes + used.inodes };
    }

    /// Takes `more` for a change of a volume, until it is settled; `spare` of what is used does not count.
    fn charge(&self, volume: u64, more: More, spare: Used) -> bool {
        let mut state = self.0.lock();
        let after = state.total.plus(more);
        if !state.quota.admits(after.less(spare), more) {
            return false;
        }
        state.total = after;
        let entry = state.volumes.entry(volume).or_default();
        *entry = entry.plus(more);
        true
    }
}

/// The limits of one volume, as the committer sees them.
pub(crate) struct Limits {
    /// Bytes and inodes; `u64::MAX` for none.
    bytes: AtomicU64,
    inodes: AtomicU64,
    volume: u64,
    budget: Option<std::sync::Arc<Budget>>,
}

impl Limits {
    pub(crate) fn new(quota: Quota, volume: u64, budget: Option<std::sync::Arc<Budget>>) -> Limits {
        let limits = Limits { bytes: 0.into(), inodes: 0.into(), volume, budget };
        limits.set(quota);
        limits
    }

    pub(crate) fn set(&self, quota: Quota) {
        self.bytes.store(quota.bytes.unwrap_or(u64::MAX), Ordering::Release);
        self.inodes.store(quota.files.unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(crate) fn quota(&self) -> Quota {
        let limit =
            |number: &AtomicU64| Some(number.load(Ordering::Acquire)).filter(|limit| *limit != u64::MAX);
        Quota { bytes: limit(&self.bytes), files: limit(&self.inodes) }
    }

    /// Takes what a change needs, or says no; what lingers goes when it would have to.
    pub(crate) fn charge(&self, used: Used, more: More, linger: &Linger) -> bool {
        if more.blocks <= 0 && more.inodes <= 0 {
            return true;
        }
        let (inodes, blocks) = linger.totals();
        let spare = Used { blocks, inodes };
        let after = used.plus(more);
        let fits = |spare: Used| self.quota().admits(after.less(spare), more);
        if !fits(Used::default()) {
            linger.hurry();
        }
        let charged = |budget: &std::sync::Arc<Budget>| budget.charge(self.volume, more, spare);
        fits(spare) && self.budget.as_ref().is_none_or(charged)
    }

    /// Takes what a new head needs, under its own limits and the tenant's, or says no.
    pub(super) fn charge_other(&self, head: u64, more: More, quota: Quota) -> bool {
        let fits = quota.admits(Used::default().plus(more), more);
        fits && self.budget.as_ref().is_none_or(|budget| budget.charge(head, more, Used::default()))
    }

    /// The head is not there after all, or no more.
    pub(super) fn forget_other(&self, head: u64) {
        if let Some(budget) = &self.budget {
            budget.forget(head);
        }
    }

    /// What the volume uses after a commit, or after one that failed.
    pub(crate) fn settle(&self, used: Used) {
        if let Some(budget) = &self.budget {
            budget.settle(self.volume, used);
        }
    }

    /// Whether there would be room, to say so before bytes are stored.
    fn has_room(&self, used: Used, more: More, spare: Used) -> bool {
        let tenant = |budget: &std::sync::Arc<Budget>| {
            let state = budget.0.lock();
            state.quota.admits(state.total.plus(more).less(spare), more)
        };
        self.quota().admits(used.plus(more).less(spare), more) && self.budget.as_ref().is_none_or(tenant)
    }

    /// Bytes and inodes left under both limits; `None` for none.
    fn left(&self, used: Used) -> (Option<u64>, Option<u64>) {
        let (bytes, files) = self.quota().left(used);
        let Some(budget) = &self.budget else { return (bytes, files) };
        let state = budget.0.lock();
        let (more_bytes, more_files) = state.quota.left(state.total);
        let least = |one: Option<u64>, two: Option<u64>| one.into_iter().chain(two).min();
        (least(bytes, more_bytes), least(files, more_files))
    }
}

impl Volume {
    /// Sets the limits of the volume, at once.
    pub fn set_quota(&self, quota: Quota) {
        self.shared.limits.set(quota);
    }

    /// The limits of the volume.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.shared.limits.quota()
    }

    /// What counts against the limits: files with a name or a handle. What lingers was given back.
    #[must_use]
    pub fn used(&self) -> Used {
        let (inodes, blocks) = self.linger.totals();
        self.shared.usage.used().less(Used { blocks, inodes })
    }

    /// Bytes and inodes left under the limits.
    pub(super) fn quota_left(&self) -> (Option<u64>, Option<u64>) {
        self.shared.limits.left(self.used())
    }

    /// Refuses early what would go over a limit.
    pub(crate) fn room_for_blocks(&self, grown: i64) -> Result<()> {
        self.room_for(More { blocks: grown, inodes: 0 })
    }

    /// See [`Self::room_for_blocks`].
    pub(crate) fn room_for_inodes(&self, more: u64) -> Result<()> {
        self.room_for(More { blocks: 0, inodes: i64::try_from(more).unwrap_or(i64::MAX) })
    }

    fn room_for(&self, more: More) -> Result<()> {
        let (inodes, blocks) = self.linger.totals();
        let spare = Used { blocks, inodes };
        let used = self.shared.usage.used();
        if spare != Used::default() && !self.shared.limits.has_room(used, more, Used::default()) {
            self.linger.hurry();
        }
        if self.shared.limits.has_room(used, more, spare) { Ok(()) } else { Err(StoreError::QuotaExceeded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: More = More { blocks: 1, inodes: 0 };

    #[test]
    fn a_budget_is_one_for_all_volumes_and_knows_what_was_given_up() {
        let budget = Budget::default();
        budget.set_quota(Quota { bytes: Some(10 * BLOCK), files: Some(3) });
        budget.settle(1, Used { blocks: 4, inodes: 1 });
        budget.settle(2, Used { blocks: 5, inodes: 1 });
        assert!(budget.charge(1, ONE, Used::default()));
        assert!(!budget.charge(2, ONE, Used::default()), "ten are used");
        assert!(
            budget.charge(2, More { blocks: 1, inodes: 0 }, Used { blocks: 1, inodes: 0 }),
            "one lingers"
        );
        // The second change failed, the first is in.
        budget.settle(2, Used { blocks: 5, inodes: 1 });
        budget.settle(1, Used { blocks: 5, inodes: 1 });
        assert_eq!(budget.used(), Used { blocks: 10, inodes: 2 });
        assert!(
            budget.charge(1, More { blocks: -1, inodes: 1 }, Used::default()),
            "files are another matter"
        );
        assert!(!budget.charge(1, More { blocks: -1, inodes: 1 }, Used::default()));
        budget.forget(2);
        assert_eq!(budget.used(), Used { blocks: 4, inodes: 2 });
    }

    #[test]
    fn what_does_not_grow_is_never_refused() {
        let quota = Quota { bytes: Some(BLOCK), files: Some(1) };
        let over = Used { blocks: 5, inodes: 5 };
        assert!(quota.admits(over, More { blocks: 0, inodes: -1 }));
        assert!(!quota.admits(over, More { blocks: 1, inodes: -1 }));
        assert!(!quota.admits(over, More { blocks: 0, inodes: 1 }));
    }
}
