//! Who may do what: ids, grants, tokens, keys and the decision. No I/O, no clock of its own.
//!
//! Everything here is a value or a pure function. What comes from outside (time, randomness, which grants there
//! are, what was revoked) is an argument; what has an effect (storing, sending, logging) is the caller's.
//!
//! - [`ids`], [`action`], [`resource`], [`principal`]: the words.
//! - [`grant`]: what an owner permits, and how it is passed on. [`index`]: all grants, arranged for deciding.
//! - [`decide`]: the decision. [`scope`]: what narrows it.
//! - [`keys`], [`token`], [`revoke`]: signed statements of who somebody is and of grants.
//! - [`access`]: credentials for S3 clients.
//! - [`time`], [`rng`]: where time and randomness come from.
#![forbid(unsafe_code)]

pub mod access;
pub mod action;
pub mod decide;
pub mod grant;
pub mod ids;
pub mod index;
pub mod keys;
pub mod principal;
pub mod resource;
pub mod revoke;
pub mod rng;
pub mod scope;
pub mod time;
pub mod token;
