//! Sealing: what makes the bytes of one tenant unreadable and unchangeable on disk.

mod error;

pub use error::SealError;
