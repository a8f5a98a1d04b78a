//! The committer: one task that applies the changes of all operations, many at a time.
//!
//! It alone changes the count of references to an extent and the live bytes of a pack, so both are exact without
//! locks of their own. A group is one batch of the metadata engine. When it is in, the caches are brought up to date,
//! then the locks of each change are released, then its caller is answered.
//!
//! An operation that found its bytes already stored may come too late: their last other user has just dropped them.
//! Then its change is handed back ([`Outcome::Lost`]), it stores the bytes itself and sends the change again.

use super::change::{Change, Head};
use super::map::signed;
use super::quota::More;
use super::shared::{Shared, Trunk};
use crate::api::Result;
use crate::error::StoreError;
use crate::failpoints::{Point, pass};
use crate::keys::HeadId;
use crate::keys::account::Account;
use crate::keys::counter::{self, Counter};
use crate::keys::extent::{self, Extent};
use crate::keys::map::ExtentId;
use crate::keys::{account, frozen, garbage, pack};
use crate::meta::{Batch, MetaError};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Changes that may wait; more callers wait for room.
pub(crate) const QUEUE: usize = 1024;
/// A group ends when it has this many changes, or this many bytes (well under the engine's limit for a batch).
const GROUP_CHANGES: usize = 256;
const GROUP_BYTES: usize = 1 << 20;
/// About what the row of an extent takes.
const MOVE_BYTES: usize = 80;

/// How often the queue is looked at while the disk fails.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// What became of a change.
pub(crate) enum Outcome {
    /// It is in.
    Done,
    /// Nothing was applied: this extent, which it counted on, is gone.
    Lost(Box<Change>, ExtentId),
    /// Nothing was applied.
    Failed(StoreError),
}

/// A change, the head it is of, and who waits for it.
pub(crate) struct Work {
    pub(crate) by: Arc<Shared>,
    pub(crate) change: Box<Change>,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

/// One failure told to several callers.
#[derive(Debug, Error)]
#[error("the commit this operation was part of failed")]
struct GroupError(#[source] Arc<MetaError>);

/// Runs until every sender is gone.
pub(crate) async fn run(trunk: Arc<Trunk>, mut queue: mpsc::Receiver<Work>) {
    while let Some(first) = queue.recv().await {
        let mut bytes = weight(&first);
        let mut group = vec![first];
        while group.len() < GROUP_CHANGES && bytes < GROUP_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += weight(&next);
            group.push(next);
        }
        let applying = apply(&trunk, group);
        tokio::pin!(applying);
        tokio::select! {
            biased;
            () = &mut applying => {}
            () = refuse(&trunk, &mut queue) => {}
        }
    }
}

/// Once the disk fails, answers whoever waits in the queue: the group that has begun waits for the disk, and may do so
/// for long. Never ends.
async fn refuse(trunk: &Trunk, queue: &mut mpsc::Receiver<Work>) {
    loop {
        let error = Arc::new(trunk.meta.faulty().await);
        match queue.try_recv() {
            Ok(Work { change, answer: to, .. }) => {
                drop(change);
                answer(to, Outcome::Failed(StoreError::Store(Box::new(GroupError(error)))));
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn weight(work: &Work) -> usize {
    work.change.batch.bytes() + work.change.moves.len() * MOVE_BYTES
}

async fn apply(trunk: &Trunk, group: Vec<Work>) {
    let mut staged = Staged::default();
    let mut accepted = Vec::with_capacity(group.len());
    for mut work in group {
        match staged.add(trunk, &work.by, &mut work.change).await {
            Ok(None) => accepted.push(work),
            Ok(Some(lost)) => answer(work.answer, Outcome::Lost(work.change, lost)),
            Err(error) => answer(work.answer, Outcome::Failed(error)),
        }
    }
    if accepted.is_empty() {
        return;
    }
    let (batch, live) = staged.batch(trunk);
    let committed = match at(Point::CommitBeforeRows) {
        Ok(()) => trunk.meta.commit(batch).await,
        Err(error) => Err(error),
    };
    match committed.and_then(|_| at(Point::CommitAfterRows)) {
        Ok(()) => {
            // Before the changes and the pins on packs in them go.
            staged.publish(trunk, live);
            for Work { by, change, answer: to } in accepted {
                publish(&by, *change);
                answer(to, Outcome::Done);
            }
        }
        Err(error) => {
            staged.heads.values().for_each(|(head, _)| head.limits.settle(head.usage.used()));
            fail(trunk, accepted, error);
        }
    }
}

/// Passes a point where only the process can stop.
fn at(point: Point) -> std::result::Result<(), MetaError> {
    pass(point).map_err(|error| MetaError::Closed { path: "".into(), reason: error.to_string() })
}

/// Shows the change in the caches and releases its locks.
fn publish(shared: &Shared, change: Change) {
    for Head { of, chain, other } in change.heads {
        of.rows.set_chain(chain);
        if other {
            of.caches.forget_names();
        }
    }
    shared.caches.maps.apply(change.rows);
    shared.caches.show(change.inodes, change.dentries);
    if change.moved_directory {
        shared.epoch.fetch_add(1, Ordering::AcqRel);
    }
    drop(change.held);
}

fn fail(trunk: &Trunk, group: Vec<Work>, error: MetaError) {
    // Refused batches leave the engine as it was; after anything else only reopening tells what took place.
    if !matches!(error, MetaError::NoSpace { .. } | MetaError::Disk { .. } | MetaError::Batch(_)) {
        trunk.broken.store(true, Ordering::Release);
        tracing::error!(error = &error as &dyn std::error::Error, "metadata commit failed; the volume stops");
    }
    let error = Arc::new(error);
    for work in group {
        let source = Box::new(GroupError(error.clone()));
        let outcome = match &*error {
            MetaError::NoSpace { .. } => StoreError::NoSpace(source),
            MetaError::Closed { .. } => StoreError::Closed,
            MetaError::Fenced { .. } => StoreError::Fenced,
            _ => StoreError::Store(source),
        };
        answer(work.answer, Outcome::Failed(outcome));
    }
}

fn answer(to: oneshot::Sender<Outcome>, outcome: Outcome) {
    // The caller may have gone away; what it asked for is done or not all the same.
    drop(to.send(outcome));
}

/// The sum of a group while it is put together.
#[derive(Default)]
struct Staged {
    batch: Batch,
    /// State of every extent touched: before the group and now.
    extents: BTreeMap<ExtentId, (Option<Extent>, Option<Extent>)>,
    /// Names of every frozen map touched: before the group and now.
    maps: BTreeMap<u64, (u64, u64)>,
    /// What each head has more.
    heads: BTreeMap<HeadId, (Arc<Shared>, More)>,
    referenced: i64,
    account: Account,
}

impl Staged {
    /// Adds a change, or says which extent it counted on in vain.
    async fn add(
        &mut self,
        trunk: &Trunk,
        by: &Arc<Shared>,
        change: &mut Change,
    ) -> Result<Option<ExtentId>> {
        let mut next = Vec::with_capacity(change.refs.len());
        for (&id, wanted) in change.refs.iter().filter(|(_, wanted)| wanted.delta != 0) {
            let now = self.extent(trunk, id).await?;
            let stored = wanted.place.as_ref().map(|placed| placed.extent);
            let Some(place) = now.map(|extent| extent.place).or(stored) else {
                return Ok(Some(id));
            };
            let refs = now.map_or(0, |extent| extent.refs).saturating_add_signed(wanted.delta);
            next.push((id, (refs > 0).then_some(Extent { place, refs })));
        }
        for &map in change.maps.keys() {
            if let Entry::Vacant(new) = self.maps.entry(map) {
                let stored = names(trunk, map).await?;
                new.insert((stored, stored));
            }
        }
        let staged = self.heads.get(&by.head).map(|(_, more)| *more).unwrap_or_default();
        let so_far = by.usage.used().plus(staged);
        let more = More { blocks: change.block_count, inodes: change.inode_count };
        if !by.limits.charge(so_far, more, &by.linger) {
            return Err(StoreError::QuotaExceeded);
        }
        for (id, extent) in next {
            if let Some(entry) = self.extents.get_mut(&id) {
                entry.1 = extent;
            }
        }
        for (map, delta) in &change.maps {
            if let Some((_, now)) = self.maps.get_mut(map) {
                *now = now.saturating_add_signed(*delta);
            }
        }
        self.batch.extend(std::mem::take(&mut change.batch));
        for moved in &change.moves {
            if let Some(now) = self.extent(trunk, moved.id).await?
                && now.place == moved.from
                && let Some(entry) = self.extents.get_mut(&moved.id)
            {
                entry.1 = Some(Extent { place: moved.to.extent, refs: now.refs });
            }
        }
        if (more.inodes, more.blocks) != (0, 0) {
            let (_, sum) = self.heads.entry(by.head).or_insert_with(|| (by.clone(), More::default()));
            sum.inodes += more.inodes;
            sum.blocks += more.blocks;
        }
        self.referenced += change.referenced;
        Ok(None)
    }

    /// An extent as the group leaves it so far.
    async fn extent(&mut self, trunk: &Trunk, id: ExtentId) -> Result<Option<Extent>> {
        if let Some((_, now)) = self.extents.get(&id) {
            return Ok(*now);
        }
        let stored = load(trunk, id).await?;
        self.extents.insert(id, (stored, stored));
        Ok(stored)
    }

    /// The whole batch, and the packs whose live bytes it changes.
    fn batch(&mut self, trunk: &Trunk) -> (Batch, HashMap<u128, u64>) {
        let mut live: HashMap<u128, u64> = HashMap::new();
        let before = *trunk.account.lock();
        let ledger = trunk.live.read();
        let mut sums =
            Account { referenced: before.referenced.saturating_add_signed(self.referenced), ..before };
        for (id, (before, now)) in self.extents.iter().filter(|(_, (before, now))| before != now) {
            for (extent, sign) in [(before, -1), (now, 1)] {
                if let Some(Extent { place, .. }) = extent {
                    let known = ledger.get(&place.pack.0).copied().unwrap_or(0);
                    let bytes = live.entry(place.pack.0).or_insert(known);
                    *bytes = bytes.saturating_add_signed(sign * signed(place.pack_bytes()));
                    sums.stored = sums.stored.saturating_add_signed(sign * signed(place.pack_bytes()));
                    sums.raw = sums.raw.saturating_add_signed(sign * i64::from(place.raw_len));
                    sums.extents = sums.extents.saturating_add_signed(sign);
                }
            }
            match now {
                Some(extent) => self.batch.put(extent::key(*id), extent::encode(extent)),
                None => self.batch.delete(extent::key(*id)),
            };
        }
        live.retain(|pack, bytes| ledger.get(pack).copied().unwrap_or(0) != *bytes);
        for (&pack, &bytes) in &live {
            match bytes {
                0 => self.batch.delete(pack::key(pack)),
                _ => self.batch.put(pack::key(pack), pack::encode(bytes)),
            };
        }
        if sums != before {
            self.batch.put(account::key(), account::encode(&sums));
        }
        self.account = sums;
        for (&map, &(before, now)) in self.maps.iter().filter(|(_, (before, now))| before != now) {
            match now {
                0 | 1 if before == 1 => {}
                0 | 1 => drop(self.batch.delete(frozen::key(map))),
                _ => drop(self.batch.put(frozen::key(map), frozen::encode(now))),
            }
            if now == 0 {
                self.batch.put(garbage::key(map), garbage::encode());
            }
        }
        for (id, (head, more)) in &self.heads {
            let total = head.usage.used().plus(*more);
            if more.inodes != 0 {
                self.batch.put(counter::of(Counter::Inodes, *id), counter::encode(total.inodes));
            }
            if more.blocks != 0 {
                self.batch.put(counter::of(Counter::Blocks, *id), counter::encode(total.blocks));
            }
        }
        (std::mem::take(&mut self.batch), live)
    }

    /// Shows the group's sums in the caches.
    fn publish(&self, trunk: &Trunk, live: HashMap<u128, u64>) {
        *trunk.account.lock() = self.account;
        let shrunk = self.show_live(trunk, live);
        if shrunk {
            trunk.gc.wake();
        }
        for (&id, (_, now)) in &self.extents {
            trunk.places.set(id, now.map(|extent| extent.place));
        }
        for (head, more) in self.heads.values() {
            let now = head.usage.used().plus(*more);
            head.usage.set(now);
            head.limits.settle(now);
        }
        if self.maps.values().any(|(_, now)| *now == 0) {
            trunk.sweep.notify_one();
        }
    }
}

/// How many rows name a map.
async fn names(trunk: &Trunk, map: u64) -> Result<u64> {
    match trunk.meta.get(&frozen::key(map)).await? {
        Some(value) => Ok(frozen::decode(&value)?),
        None => Ok(1),
    }
}

impl Staged {
    /// Whether a pack has fewer live bytes than before.
    fn show_live(&self, trunk: &Trunk, changed: HashMap<u128, u64>) -> bool {
        let mut live = trunk.live.write();
        let mut shrunk = false;
        for (pack, bytes) in changed {
            let before = if bytes == 0 { live.remove(&pack) } else { live.insert(pack, bytes) };
            shrunk |= before.is_some_and(|before| bytes < before);
        }
        shrunk
    }
}

async fn load(trunk: &Trunk, id: ExtentId) -> Result<Option<Extent>> {
    match trunk.meta.get(&extent::key(id)).await? {
        Some(value) => Ok(Some(extent::decode(id, &value)?)),
        None => Ok(None),
    }
}
