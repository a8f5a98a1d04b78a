//! The host side of Mooring.
#![forbid(unsafe_code)]

pub mod cli;
pub mod serve;
pub mod settings;
pub mod log;
pub mod metrics;
