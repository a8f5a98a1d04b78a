//! The guest side: mounts a tenant's buckets, offers S3 on localhost, carries the share commands.
//!
//! [`fuse`] holds the kernel, [`remote`] the gateway, and [`fs`] stands between them.

pub mod agent;
pub mod fs;
pub mod fuse;
pub mod remote;
pub mod write;
