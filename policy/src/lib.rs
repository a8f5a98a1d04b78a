//! Who may do what: ids, grants, tokens, keys and the decision. No I/O, no clock of its own.
#![forbid(unsafe_code)]

pub mod action;
pub mod grant;
pub mod ids;
pub mod principal;
pub mod resource;
pub mod rng;
pub mod time;
