//! Random histories of grants against an oracle that knows nothing of how the crate works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "model/oracle.rs"]
mod oracle;

#[path = "model/histories.rs"]
mod histories;
#[path = "model/prefixes.rs"]
mod prefixes;
