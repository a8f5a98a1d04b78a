//! The kernel's side of the agent: FUSE, held behind a trait of our own.
//!
//! ```text
//!   kernel --/dev/fuse--> fuser threads --> adapter (converts) --> Filesystem (decides)
//!      ^                                        |                       |
//!      |                                    reply.rs  <--- result ------+
//!      +------ notifier threads <---------------------- recalls --------+
//! ```
//!
//! * [`Filesystem`] is what the agent implements: futures that give a value or an errno. Nothing in it knows
//!   of `fuser`; [`adapter`] is the only file that does the converting, [`reply`] the only one that answers.
//! * The first step of every future runs on the thread that read the request. What is in memory is answered
//!   there; what must wait goes on in the runtime, so two kernel threads are enough however slow the far side.
//! * Notifications to the kernel can block until requests that are already under way are answered (inode and
//!   page locks are held while the kernel waits for us). They run on threads of their own, and nobody holds a
//!   lock while waiting for one: see [`notify`].
//! * A request that has to wait is in one [`wait`] table, so a program waiting for a far side that is gone can
//!   still be killed, although `fuser` does not pass on the kernel's interrupts.

mod adapter;
mod answers;
pub mod filesystem;
pub mod hold;
pub mod mount;
pub mod notify;
mod reply;
pub mod types;
pub mod wait;

pub use filesystem::{Filesystem, Result};
pub use hold::{Gate, Hold};
pub use mount::{Mount, MountError, MountOptions};
pub use notify::{Notifier, Range, Told};
pub use reply::{Counters, Op};
pub use rustix::io::Errno;
pub use types::*;
