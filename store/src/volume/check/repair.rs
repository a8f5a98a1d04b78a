//! Mending what is safe to mend: totals that can be counted again, and rows that nothing can reach.
//!
//! Nothing that a file shows is touched. The volume is at rest: its committer knows live bytes by heart, so it is opened
//! again afterwards.

use super::{All, CheckOptions, Progress, Report};
use crate::api::Result;
use crate::keys::account::{self, Account};
use crate::keys::counter::{self, Counter};
use crate::keys::extent::{self, Extent};
use crate::keys::map::ExtentId;
use crate::keys::{HeadId, backlink, object, orphan, pack, symlink, xattr};
use crate::meta::{Batch, Meta, after, prefix_end};
use crate::volume::Volume;
use mooring_protocol::types::Ino;
use std::collections::BTreeMap;

/// Changes of one batch.
const STEP: usize = 4096;

/// What a check found that can be mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Repairs {
    counters: Vec<((Counter, HeadId), u64)>,
    live: BTreeMap<u128, Option<u64>>,
    extents: Vec<(ExtentId, Extent)>,
    account: Option<Account>,
    strays: u64,
}

impl Repairs {
    pub(super) fn len(&self) -> u64 {
        let account = usize::from(self.account.is_some());
        (self.counters.len() + self.live.len() + self.extents.len() + account) as u64 + self.strays
    }

    pub(super) fn counter(&mut self, which: (Counter, HeadId), right: u64) {
        self.counters.push((which, right));
    }

    /// Also those that were found for another head.
    pub(super) fn counters_of(&mut self, other: &Repairs) {
        self.counters.extend_from_slice(&other.counters);
    }

    pub(super) fn account(&mut self, right: Account) {
        self.account = Some(right);
    }

    /// The bytes of a pack that are in use; `None` for none.
    pub(super) fn live(&mut self, pack: u128, right: Option<u64>) {
        self.live.insert(pack, right);
    }

    pub(super) fn extent(&mut self, id: ExtentId, was: &Extent, refs: u64) {
        self.extents.push((id, Extent { refs, ..*was }));
    }

    pub(super) fn stray(&mut self) {
        self.strays += 1;
    }

    fn batches(&self) -> Vec<Batch> {
        let mut ops = Batch::new();
        for ((which, head), right) in &self.counters {
            ops.put(counter::of(*which, *head), counter::encode(*right));
        }
        if let Some(right) = &self.account {
            ops.put(account::key(), account::encode(right));
        }
        for (pack, right) in &self.live {
            match right {
                Some(bytes) => ops.put(pack::key(*pack), pack::encode(*bytes)),
                None => ops.delete(pack::key(*pack)),
            };
        }
        let mut all = vec![ops];
        for part in self.extents.chunks(STEP) {
            let mut ops = Batch::new();
            for (id, right) in part {
                match right.refs {
                    0 => ops.delete(extent::key(*id)),
                    _ => ops.put(extent::key(*id), extent::encode(right)),
                };
            }
            all.push(ops);
        }
        all
    }
}

impl Volume {
    /// Mends what is safe, and checks again, until nothing more can be mended. Nobody else works with the volume, and it
    /// is to be closed afterwards. Returns how many findings were mended, and what remains.
    pub async fn repair(&self, options: &CheckOptions, progress: &Progress) -> Result<(u64, Report)> {
        // Each round may uncover what the last one hid: a row that went had a reference.
        const ROUNDS: u64 = 4;
        let _nothing_moves = self.hold_gc().await;
        let first = self.check_with(options, progress).await?;
        let (before, mut report) = (first.total, first);
        for _ in 0..ROUNDS {
            if report.repairable() == 0 {
                break;
            }
            let meta = self.rows().meta();
            for batch in report.repairs.batches() {
                meta.commit(batch).await?;
            }
            if report.repairs.strays > 0 {
                remove_strays(&**meta, self.head_id()).await?;
            }
            meta.sync().await?;
            report = self.check_with(options, progress).await?;
        }
        Ok((before.saturating_sub(report.total), report))
    }
}

/// Removes rows that belong to inodes that are not there.
async fn remove_strays(meta: &dyn Meta, head: HeadId) -> Result<()> {
    let all = All::read(&*meta.view().await?, head, &mut Report::default()).await?;
    // With snapshots or clones an inode that is gone from the head may be there in one of them.
    if !all.layers.is_single() {
        return Ok(());
    }
    let owner = |key: &[u8]| -> Option<Ino> {
        match key.first()? {
            b'b' => backlink::parse(key).ok().map(|(_, ino, ..)| ino),
            b'x' => xattr::parse(key).ok().map(|(_, ino, _)| ino),
            b'l' => symlink::parse(key).ok().map(|(_, ino)| ino),
            b'm' => object::parse(key).ok().map(|(_, ino)| ino),
            b'o' => orphan::parse(key).ok().map(|(_, ino)| ino),
            _ => None,
        }
    };
    for family in [b'b', b'x', b'l', b'm', b'o'] {
        let mut from = vec![family];
        loop {
            let page = meta.scan(&from, &prefix_end(&[family]), STEP).await?;
            let Some((last, _)) = page.last() else { break };
            from = after(last);
            let mut ops = Batch::new();
            for (key, _) in &page {
                if owner(key).is_some_and(|ino| !all.inodes.contains_key(&ino)) {
                    ops.delete(key.clone());
                }
            }
            meta.commit(ops).await?;
        }
    }
    Ok(())
}
