//! The engine's clock: the installation's, never behind what the database has already seen.
//!
//! The engine stamps rows and refuses to write, for good, when its clock is behind the last stamp. So a host whose
//! clock is set back would lose its volumes until the time comes round again. Here the clock stands still
//! instead. Nothing of ours reads those stamps.

use chrono::{DateTime, Utc};
use mooring_policy::time::Clock;
use slatedb_common::clock::{SystemClock, SystemClockTicker};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(super) struct EngineClock {
    clock: Arc<dyn Clock>,
    floor: AtomicI64,
}

impl EngineClock {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, floor: AtomicI64::new(0) }
    }

    /// The database has seen this moment (milliseconds since 1970).
    pub fn seen(&self, millis: i64) {
        self.floor.fetch_max(millis, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for EngineClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineClock")
    }
}

impl SystemClock for EngineClock {
    fn now(&self) -> DateTime<Utc> {
        let now = i64::try_from(self.clock.now().as_millis()).unwrap_or(i64::MAX);
        let now = self.floor.fetch_max(now, Ordering::SeqCst).max(now);
        DateTime::from_timestamp_millis(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}
