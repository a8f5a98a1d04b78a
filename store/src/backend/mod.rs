//! The local-directory store: where a volume lives on disk and who may open it.

mod error;

pub use error::BackendError;
