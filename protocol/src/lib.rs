//! What agent and gateway say to each other, and the state machines of both sides.
//!
//! - [`frame`]: bytes on the stream, and back. [`message`] and [`types`]: what the frames carry.
//! - [`status`]: every outcome, as wire number, errno and S3 error. [`caps`]: every limit.

#![forbid(unsafe_code)]

pub mod api;
pub mod caps;
pub mod frame;
pub mod message;
pub mod status;
pub mod types;
