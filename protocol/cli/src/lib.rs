//! What the command lines of both programs share.
//!
//! `mooring-gateway` and `mooring-agent` speak the same HTTP API over a unix socket, the first with the operator's
//! rights, the second with the tenant's. So the client, the share commands, the tables and the exit codes are written
//! once, here. Nothing in this crate opens a store.
#![forbid(unsafe_code)]

pub mod client;
pub mod output;
pub mod share;

pub use client::{Api, ApiError};

use std::process::ExitCode;

/// Done.
pub const DONE: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense (clap's own exit code).
pub const USAGE: u8 = 2;
/// Not allowed.
pub const DENIED: u8 = 3;

/// Ends a program: prints the error with its causes and the next command to try, and picks the exit code.
pub fn finish(program: &str, result: Result<(), ApiError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::from(DONE) };
    eprintln!("{program}: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(c) = cause {
        eprintln!("  because: {c}");
        cause = c.source();
    }
    if let Some(next) = error.next_command() {
        eprintln!("  try: {next}");
    }
    ExitCode::from(error.exit_code())
}
