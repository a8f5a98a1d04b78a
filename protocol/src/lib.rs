//! What agent and gateway say to each other, and the state machines of both sides.
//!
//! - [`frame`]: bytes on the stream, and back. [`message`] and [`types`]: what the frames carry.
//! - [`status`]: every outcome, as wire number, errno and S3 error. [`caps`]: every limit.
//! - [`lease`], [`session`], [`lock`]: what the gateway knows of its agents. [`holder`] and
//!   [`session::Link`]: what an agent knows of itself. All are plain values: what happens and what time it
//!   is comes in as arguments, what to do comes out as a value, and a model checker explores them together.

#![forbid(unsafe_code)]

pub mod api;
pub mod caps;
pub mod frame;
pub mod holder;
pub mod lease;
pub mod lock;
pub mod message;
pub mod session;
pub mod status;
pub mod types;
