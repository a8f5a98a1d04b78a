//! Fuzz targets on everything that decodes hostile bytes.
//!
//! The targets are tests: `cargo test -p mooring-fuzz` runs each for a bounded time with random input.
//! `cargo bolero test -p mooring-fuzz <name>` runs one for as long as wanted, guided by coverage.
//!
//! Random bytes rarely get past a magic number and a checksum, so the targets also start from
//! [good frames](seeds::frames), change them, and make the checksum right again.

pub mod alloc;
pub mod seeds;
