//! The host side of Mooring.
#![forbid(unsafe_code)]

pub mod cli;
pub mod core;
pub mod log;
pub mod metrics;
pub mod serve;
pub mod settings;
