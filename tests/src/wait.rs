//! Waiting for a condition with a deadline. A wait that ends in vain says what it saw last.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a look at the condition found.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds.
    Ready(T),
    /// Not yet; what was seen instead.
    NotYet(String),
}

impl<T> Look<T> {
    /// Treats an error as "not yet": for things that fail until they are up.
    pub fn when_ok(result: Result<T>) -> Look<T> {
        match result {
            Ok(value) => Look::Ready(value),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    }
}

impl Look<()> {
    /// Ready when `holds`, otherwise with what was `seen`.
    pub fn if_true(holds: bool, seen: impl std::fmt::Display) -> Look<()> {
        if holds { Look::Ready(()) } else { Look::NotYet(seen.to_string()) }
    }
}

/// Between two looks; short at first, because most conditions hold soon.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two looks.
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Looks until the condition holds or `limit` has passed.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Look<T>>,
{
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match look().await {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(seen) if began.elapsed() >= limit => {
                bail!("waited {:.1} s for {what}; last seen: {seen}", began.elapsed().as_secs_f64());
            }
            Look::NotYet(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn a_wait_in_vain_tells_the_last_status() {
        let mut looks = 0;
        let waited = until("rain", Duration::from_millis(20), || {
            looks += 1;
            let look = Look::<()>::NotYet(format!("sun, look {looks}"));
            async { look }
        });
        let error = waited.await.unwrap_err().to_string();
        assert!(error.contains("for rain; last seen: sun, look "), "{error}");
        assert!(looks > 1);
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_condition_holds() {
        let mut looks = 0;
        let value = until("three", Duration::from_secs(5), || {
            looks += 1;
            let seen = looks;
            async move { if seen == 3 { Look::Ready(seen) } else { Look::NotYet(seen.to_string()) } }
        });
        assert_eq!(value.await.unwrap(), 3);
    }
}
