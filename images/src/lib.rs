//! VM images.
//!
//! [`guest`] builds the small Linux system that tests and demo boot, from Debian packages and nothing else.

#![forbid(unsafe_code)]

pub mod guest;
