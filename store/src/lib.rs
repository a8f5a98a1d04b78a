//! The engine of a volume: namespace, maps, packs, journal.
//!
//! From the bottom up: [`backend`] lays a volume out in a directory and holds its lock; [`seal`] keys and
//! encrypts; [`journal`] makes commits survive; [`meta`] is the ordered map of rows over SlateDB and the
//! journal.
#![forbid(unsafe_code)]

pub mod api;
pub mod backend;
pub mod checkpoint;
pub mod conformance;
pub mod error;
pub mod failpoints;
pub mod home;
pub mod journal;
pub mod keys;
pub mod memory;
pub mod meta;
pub mod objects;
pub mod oracle;
pub mod pack;
pub mod realm;
pub mod seal;
pub mod upstream;
pub mod volume;
