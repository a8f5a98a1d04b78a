//! Time comes in from outside: a [`Clock`] is handed to whoever needs one, decisions take a [`Timestamp`].

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment in milliseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of 1970.
    pub const ZERO: Self = Self(0);
    /// The last moment there is.
    pub const MAX: Self = Self(u64::MAX);

    /// A moment from milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A moment from whole seconds since 1970; [`Self::MAX`] when there are too many.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// `by` later (in whole milliseconds), at most [`Self::MAX`].
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(by)))
    }

    /// `by` earlier (in whole milliseconds), at least [`Self::ZERO`].
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(by)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds; past the year 9999, which that form cannot write, the bare number.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000_MILLIS: u64 = 253_402_300_800_000;
        if self.0 >= YEAR_10000_MILLIS {
            return write!(f, "{} ms after 1970", self.0);
        }
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0)).fmt(f)
    }
}

/// A text that is not a moment.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not a moment in UTC such as 2026-12-31T23:59:59Z")]
pub struct TimestampError(#[source] humantime::TimestampError);

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// RFC 3339 in UTC; the `T` may be a space and the `Z` may be left out.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let moment = humantime::parse_rfc3339_weak(text).map_err(TimestampError)?;
        Ok(Self(moment.duration_since(UNIX_EPOCH).map_or(0, whole_millis)))
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The time of day. May jump, also backwards.
    fn now(&self) -> Timestamp;

    /// Time that only moves forward, from an arbitrary beginning: for deadlines and durations.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the one place in the crate that reads the ambient clock")]
mod ambient {
    use super::*;

    impl SystemClock {
        /// A clock whose monotonic time begins now.
        pub fn new() -> Self {
            Self { start: Instant::now() }
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            // A clock before 1970 is a broken clock: the earliest moment lets nothing live longer than it should
            // (nothing is valid yet).
            Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_millis))
        }

        fn monotonic(&self) -> Duration {
            self.start.elapsed()
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

/// A clock that stands still until it is moved, for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that says `now`, with a monotonic time of zero.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new((now, Duration::ZERO)))
    }

    /// Lets `by` pass on both scales.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.0 = state.0.saturating_add(by);
        state.1 = state.1.saturating_add(by);
    }

    /// Sets the time of day, forwards or backwards, as a clock correction does; monotonic time stands still.
    pub fn set(&self, now: Timestamp) {
        self.state().0 = now;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        // The state is two plain values: there is nothing half-written behind a poisoned lock.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state().0
    }

    fn monotonic(&self) -> Duration {
        self.state().1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn text_form_round_trips() {
        let moment = Timestamp::from_millis(1_795_230_237_123);
        assert_eq!(moment.to_string(), "2026-11-21T03:03:57.123Z");
        assert_eq!("2026-11-21T03:03:57.123Z".parse::<Timestamp>().unwrap(), moment);
        assert_eq!("2026-11-21 03:03:57".parse::<Timestamp>().unwrap(), Timestamp::from_secs(1_795_230_237));
        assert!("tomorrow".parse::<Timestamp>().is_err());
    }

    #[test]
    fn every_moment_can_be_written() {
        for moment in [Timestamp::ZERO, Timestamp::from_millis(253_402_300_799_999), Timestamp::MAX] {
            assert!(!moment.to_string().is_empty());
        }
    }

    #[test]
    fn a_correction_moves_the_day_but_not_the_stopwatch() {
        let clock = ManualClock::new(Timestamp::from_secs(100));
        clock.advance(Duration::from_secs(5));
        clock.set(Timestamp::from_secs(50));
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::from_secs(50), Duration::from_secs(5)));
    }

    #[test]
    fn the_system_clock_is_past_the_day_this_was_written() {
        let clock = SystemClock::new();
        assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
        assert!(clock.monotonic() <= clock.monotonic());
    }
}
