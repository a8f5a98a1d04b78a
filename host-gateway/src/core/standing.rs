//! Whether this gateway may serve now.
//!
//! Alone on its store it may, until the store says that another has taken over. Beside others it is home for a time and
//! renews that; when it cannot, it stops before another may begin ([`mooring_store::home`]). A request is asked about when
//! it has come in: what it then reads is not older than its own beginning, however long this process is stopped meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_policy::time::Clock;
use tokio::sync::watch;

/// See the [module](self).
pub struct Standing {
    clock: Arc<dyn Clock>,
    /// Nanoseconds of the clock's time that only moves forward; the maximum is for ever.
    until: AtomicU64,
    lost: watch::Sender<Option<String>>,
}

impl Standing {
    /// Of a gateway that is alone on its store.
    #[must_use]
    pub fn alone(clock: Arc<dyn Clock>) -> Arc<Standing> {
        Arc::new(Standing { clock, until: u64::MAX.into(), lost: watch::channel(None).0 })
    }

    /// Of one that shares its store: not before it is extended.
    #[must_use]
    pub fn shared(clock: Arc<dyn Clock>) -> Arc<Standing> {
        Arc::new(Standing { clock, until: 0.into(), lost: watch::channel(None).0 })
    }

    /// May serve until then.
    pub fn extend(&self, until: Duration) {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX - 1);
        self.until.fetch_max(until, Ordering::Release);
    }

    /// Whether it may serve.
    #[must_use]
    pub fn serves(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == u64::MAX || self.clock.monotonic().as_nanos() < u128::from(until)
    }

    /// It serves no more, and never will. The first reason stays.
    pub fn lose(&self, why: &str) {
        self.until.store(0, Ordering::Release);
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| why.to_owned());
            first
        });
    }

    /// Why it serves no more.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// Waits until it serves no more.
    pub async fn until_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_policy::time::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn it_serves_until_its_time_is_over_and_never_after_it_was_lost() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1)));
        let alone = Standing::alone(clock.clone());
        let shared = Standing::shared(clock.clone());
        assert!(alone.serves() && !shared.serves());
        shared.extend(Duration::from_secs(5));
        // A renewal that was begun earlier and confirmed later takes nothing away.
        shared.extend(Duration::from_secs(3));
        clock.advance(Duration::from_millis(4_999));
        assert!(shared.serves());
        clock.advance(Duration::from_millis(1));
        assert!(alone.serves() && !shared.serves());
        alone.lose("first");
        alone.lose("second");
        assert!(!alone.serves());
        assert_eq!(alone.lost().as_deref(), Some("first"));
    }
}
