//! The host side of Mooring.
#![forbid(unsafe_code)]

pub mod api;
pub mod buckets;
pub mod cli;
pub mod core;
pub mod gateway;
pub mod homes;
pub mod integrity;
pub mod log;
pub mod master;
pub mod metrics;
pub mod offline;
pub mod serve;
pub mod settings;
pub mod shares;
mod space;
pub mod store_settings;
pub mod tokens;
