//! What was written to one file and not handed over yet: runs of bytes that do not overlap.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mooring_protocol::types::Time;
use tokio::sync::OwnedSemaphorePermit;

/// Longest run: what fits in one frame.
const MAX_RUN: usize = mooring_protocol::caps::MAX_PAYLOAD;
/// A new run that grows is given room for this much at once.
const GROWTH: usize = 128 << 10;

/// Gathered writes of one file.
#[derive(Debug, Default)]
pub struct Gather {
    runs: BTreeMap<u64, BytesMut>,
    bytes: usize,
    since: Option<Instant>,
    stamp: Time,
    clear_suid_sgid: bool,
    permit: Option<OwnedSemaphorePermit>,
}

/// Everything gathered, taken out to be handed over.
#[derive(Debug)]
pub struct Batch {
    /// Offset and bytes, ascending, no overlaps.
    pub runs: Vec<(u64, Bytes)>,
    /// End of the last run.
    pub end: u64,
    /// When the last of it was written, in the gateway's time.
    pub stamp: Time,
    /// A write was by an unprivileged program.
    pub clear_suid_sgid: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gather {
    /// Nothing is gathered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes gathered.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest of it was written.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// End of the last byte gathered, 0 when nothing is.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(at, run)| at + run.len() as u64)
    }

    /// When the last of it was written, in the gateway's time.
    #[must_use]
    pub fn stamp(&self) -> Time {
        self.stamp
    }

    /// Whether set-user-id bits are to go.
    #[must_use]
    pub fn clears_suid_sgid(&self) -> bool {
        self.clear_suid_sgid
    }

    /// Whether any byte of the range is gathered.
    #[must_use]
    pub fn overlaps(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        self.runs.range(..end).next_back().is_some_and(|(at, run)| at + run.len() as u64 > offset)
    }

    /// Takes a write; what it covers of earlier ones is gone. `permit` is its share of the memory budget.
    pub fn write(
        &mut self,
        offset: u64,
        data: Bytes,
        stamp: Time,
        clear_suid_sgid: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        self.stamp = self.stamp.max(stamp);
        self.clear_suid_sgid |= clear_suid_sgid;
        match (&mut self.permit, permit) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
        if data.is_empty() {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.cut(offset, data.len() as u64);
        self.bytes += data.len();
        // A write that goes on where a run ends joins it.
        if let Some((&at, run)) = self.runs.range_mut(..offset).next_back()
            && at + run.len() as u64 == offset
            && run.len() + data.len() <= MAX_RUN
        {
            if run.capacity() - run.len() < data.len() {
                run.reserve(data.len().max(run.len().clamp(GROWTH, MAX_RUN)));
            }
            run.extend_from_slice(&data);
            return;
        }
        // The kernel's request was copied into memory of its own, so this takes it over without another copy.
        let run = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        self.runs.insert(offset, run);
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let end = self.end();
        let taken = std::mem::take(self);
        Some(Batch {
            runs: taken.runs.into_iter().map(|(at, run)| (at, run.freeze())).collect(),
            end,
            stamp: taken.stamp,
            clear_suid_sgid: taken.clear_suid_sgid,
            _permit: taken.permit,
        })
    }

    /// Forgets a range of bytes.
    fn cut(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        while let Some((&at, run)) = self.runs.range(..end).next_back() {
            let run_end = at + run.len() as u64;
            if run_end <= offset {
                break;
            }
            let Some(mut run) = self.runs.remove(&at) else { break };
            self.bytes -= run.len();
            if run_end > end {
                // Both differences are inside the run.
                let tail = run.split_off((end - at) as usize);
                self.bytes += tail.len();
                self.runs.insert(end, tail);
                run.truncate((end - at) as usize);
            }
            if at < offset {
                run.truncate((offset - at) as usize);
                self.bytes += run.len();
                self.runs.insert(at, run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn gathered(writes: &[(u16, Vec<u8>)]) -> (Gather, Vec<Option<u8>>) {
        let mut gather = Gather::default();
        let mut model = vec![None; 1 << 17];
        for (at, data) in writes {
            gather.write(u64::from(*at), Bytes::copy_from_slice(data), Time::default(), false, None);
            for (i, b) in data.iter().enumerate() {
                model[usize::from(*at) + i] = Some(*b);
            }
        }
        (gather, model)
    }

    #[test]
    fn writes_in_a_row_become_one_run() {
        let (mut gather, _) = gathered(&[(0, vec![1; 10]), (10, vec![2; 10]), (20, vec![3; 10])]);
        let batch = gather.take().unwrap();
        assert_eq!(batch.runs.len(), 1);
        assert_eq!(batch.end, 30);
        assert!(gather.is_empty());
    }

    #[test]
    fn a_run_never_outgrows_a_frame() {
        let mut gather = Gather::default();
        for i in 0..5u64 {
            let chunk = Bytes::from(vec![0; MAX_RUN / 2]);
            gather.write(i * (MAX_RUN as u64 / 2), chunk, Time::default(), false, None);
        }
        assert!(gather.take().unwrap().runs.iter().all(|(_, run)| run.len() <= MAX_RUN));
    }

    proptest! {
        /// Against a plain array: the last write of each byte wins, runs do not overlap, the count is right.
        #[test]
        fn the_last_write_wins(
            writes in proptest::collection::vec((0u16..200, proptest::collection::vec(any::<u8>(), 0..60)), 0..40)
        ) {
            let (mut gather, model) = gathered(&writes);
            let total = model.iter().flatten().count();
            prop_assert_eq!(gather.bytes(), total);
            let mut seen = vec![None; model.len()];
            let mut last_end = 0;
            for (at, run) in gather.take().map(|b| b.runs).unwrap_or_default() {
                prop_assert!(at >= last_end);
                prop_assert!(!run.is_empty());
                last_end = at + run.len() as u64;
                for (i, b) in run.iter().enumerate() {
                    seen[at as usize + i] = Some(*b);
                }
            }
            prop_assert_eq!(seen, model);
        }
    }
}
