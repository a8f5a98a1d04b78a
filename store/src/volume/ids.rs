//! Numbers for inodes and maps: handed out once, never again, whatever crashes.
//!
//! A range is reserved by a committed row before any number of it is used, so that a crash loses numbers and never
//! repeats one.

use super::{Gate, Volume};
use crate::api::Result;
use crate::error::StoreError;
use crate::keys::HeadId;
use crate::keys::counter::Counter;
use mooring_protocol::types::Ino;
use std::ops::Range;
use tokio::sync::Mutex;

/// Numbers reserved at a time: a crash wastes at most this many of 2^48.
const RESERVE: u64 = 4096;

/// Numbers that are reserved and not used.
pub(crate) struct Ids(Mutex<Range<u64>>);

impl Ids {
    /// Numbers from `next` on are free, and not reserved yet.
    pub(crate) fn new(next: u64) -> Ids {
        Ids(Mutex::new(next..next))
    }
}

impl Volume {
    /// A number that was never used.
    pub(crate) async fn new_ino(&self) -> Result<Ino> {
        let mut range = self.family.ids.0.lock().await;
        if range.is_empty() {
            let until = range.start.saturating_add(RESERVE);
            let held = self.lock_gate(Gate::Open, &[], &[]).await?;
            let mut tx = self.tx(&held);
            tx.counter(Counter::NextId, HeadId::FIRST, until);
            self.commit(tx.done()).await?;
            range.end = until;
        }
        let ino = Ino::new(range.start)
            .ok_or(StoreError::TooLarge("inodes of the volume: all numbers are used"))?;
        range.start += 1;
        Ok(ino)
    }
}
