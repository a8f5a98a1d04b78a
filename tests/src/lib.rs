//! End to end: real mounts, real S3 clients, real VMs.
