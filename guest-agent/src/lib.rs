//! The guest side: mounts a tenant's buckets, offers S3 on localhost, carries the share commands.
//!
//! [`fuse`] holds the kernel, [`remote`] the gateway, and [`fs`] stands between them. [`agent`] keeps a mount for every
//! bucket and share, [`doors`] what else is offered in the guest, [`cli`] the program.

pub mod agent;
pub mod cli;
pub mod doors;
pub mod fs;
pub mod fuse;
pub mod remote;
pub mod write;
