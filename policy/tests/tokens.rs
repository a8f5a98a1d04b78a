//! Attacks on tokens. Each is built by hand, byte by byte where it matters, and refused for its own reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "attacks/forge.rs"]
mod forge;

#[path = "attacks/claims.rs"]
mod claims;
#[path = "attacks/form.rs"]
mod form;
#[path = "attacks/genuine.rs"]
mod genuine;
#[path = "attacks/header.rs"]
mod header;
#[path = "attacks/key.rs"]
mod key;
#[path = "attacks/statement.rs"]
mod statement;
