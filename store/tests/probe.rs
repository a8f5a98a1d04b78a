//! A store is examined before it is used; one that would let two hosts write the same is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod volumes;

use mooring_policy::rng::SystemRandom;
use mooring_store::backend::BackendError;
use std::sync::atomic::Ordering;
use volumes::faulty::Faulty;

fn fault(error: &BackendError) -> String {
    match error {
        BackendError::Unfit { .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_store_is_examined_once() {
    let dir = tempfile::tempdir().unwrap();
    let (faulty, backing) = Faulty::open(dir.path());
    let probed = backing.clone().probed(&SystemRandom).await.unwrap();
    assert_eq!(faulty.names("").await, ["probe"], "nothing else is left behind");
    let puts = faulty.puts.swap(0, Ordering::AcqRel);
    assert!(puts > 8, "{puts}");
    probed.probed(&SystemRandom).await.unwrap();
    assert_eq!(faulty.puts.load(Ordering::Acquire), 1, "one creation that must be refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused_with_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (faulty, backing) = Faulty::open(dir.path());
    faulty.careless.store(true, Ordering::Release);
    let error = fault(&backing.clone().probed(&SystemRandom).await.unwrap_err());
    assert!(error.contains("ignores If-None-Match") && error.contains("success, with ETag"), "{error}");
    assert!(faulty.names("").await.is_empty(), "it is left as it was");

    // One that was fit when it was examined, and is no more.
    faulty.careless.store(false, Ordering::Release);
    backing.clone().probed(&SystemRandom).await.unwrap();
    faulty.careless.store(true, Ordering::Release);
    let error = fault(&backing.probed(&SystemRandom).await.unwrap_err());
    assert!(error.contains("ignores If-None-Match"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_listings_lag_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (faulty, backing) = Faulty::open(dir.path());
    faulty.lists_nothing.store(true, Ordering::Release);
    let error = fault(&backing.probed(&SystemRandom).await.unwrap_err());
    assert!(error.contains("does not list") && error.contains("0 names"), "{error}");
    faulty.lists_nothing.store(false, Ordering::Release);
    assert!(faulty.names("").await.is_empty(), "also then it is cleaned up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_not_held_against_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (faulty, backing) = Faulty::open(dir.path());
    faulty.lose_answers.store(true, Ordering::Release);
    backing.probed(&SystemRandom).await.unwrap();
    assert_eq!(faulty.names("").await, ["probe"]);
}
