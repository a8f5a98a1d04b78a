//! The guest side: mounts a tenant's buckets, offers S3 on localhost, carries the share commands.

pub mod fuse;
