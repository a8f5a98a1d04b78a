//! Moments that no two requests share.
//!
//! What a request makes carries the moment as its time of birth. So after a restart it can be told who made a file:
//! two guests that make a lock file of the same name in the same millisecond, alike in everything, differ in this.
//!
//! A moment is the clock's millisecond and a count below it. Other doors stamp whole milliseconds, which are left out.

use std::sync::atomic::{AtomicU64, Ordering};

use mooring_policy::time::Timestamp;
use mooring_protocol::types::Time;

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000 * MILLI;

/// Gives out moments, each later than the one before, also when the clock is set back.
#[derive(Debug, Default)]
pub struct Moments(AtomicU64);

impl Moments {
    /// The next moment.
    pub fn next(&self, now: Timestamp) -> Time {
        // 64 bits of nanoseconds last until 2554.
        let now = now.as_millis().saturating_mul(MILLI);
        let after = |last: u64| {
            let next = now.max(last.saturating_add(1));
            if next.is_multiple_of(MILLI) { next.saturating_add(1) } else { next }
        };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        // The closure never refuses, so both arms are the value before.
        from_nanos(after(before.unwrap_or_else(|last| last)))
    }
}

/// A moment from nanoseconds since 1970.
pub(super) fn from_nanos(nanos: u64) -> Time {
    Time { secs: (nanos / SECOND).cast_signed(), nanos: (nanos % SECOND) as u32 }
}

/// A moment as nanoseconds since 1970; earlier ones are 0.
pub(super) fn to_nanos(time: Time) -> u64 {
    u64::try_from(time.secs).unwrap_or(0).saturating_mul(SECOND).saturating_add(time.nanos.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_none_is_a_whole_millisecond() {
        let moments = Moments::default();
        let mut last = Time::default();
        for n in 0..2_500_000u64 {
            // The clock stands still, and is set back once.
            let now = Timestamp::from_millis(if n < 1_000 { 5_000 } else { 4_000 });
            let next = moments.next(now);
            assert!(next > last && u64::from(next.nanos) % MILLI != 0, "{next:?} after {last:?}");
            last = next;
        }
        assert!(moments.next(Timestamp::from_millis(9_000)) > Time { secs: 9, nanos: 0 });
        assert_eq!(from_nanos(to_nanos(last)), last);
    }
}
