//! The journal of a volume's metadata.

mod error;

pub use error::JournalError;
