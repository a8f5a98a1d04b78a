//! Random histories of grants against an oracle that knows nothing of how the crate works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "model/oracle.rs"]
mod oracle;

#[path = "model/histories.rs"]
mod histories;
#[path = "model/prefixes.rs"]
mod prefixes;

/// `usual` cases, or as many as PROPTEST_CASES asks for.
fn cases(usual: u32) -> proptest::test_runner::Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::test_runner::Config { cases: wanted.unwrap_or(usual), ..Default::default() }
}
