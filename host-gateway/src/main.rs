//! The host side: fronts one object store per tenant and serves files and S3 to VMs.
fn main() {}
