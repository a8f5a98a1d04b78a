//! Writes on their way: gathered in memory under a write lease, handed over in large frames.

mod gather;

pub use gather::{Batch, Gather};
