//! End to end: real mounts, real S3 clients, real VMs.
//!
//! The programs under test run as processes, exactly as users run them; nothing here links them. A test reads like
//! this:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use mooring_tests::{Gateway, Vm};
//!
//! let gateway = Gateway::start().await?;
//! gateway.tenant("acme").await?;
//! gateway.bucket("acme", "photos").await?;
//! let vm = Vm::boot("acme-1").await?;
//! gateway.attach("acme", &vm).await?;
//! let _agent = vm.agent_up().await?;
//! vm.run("echo hello > /mnt/mooring/photos/a && sync").await?.ok()?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`vm`] boots guests and takes them down; [`guest`] runs commands in them.
//! - [`disk`] is a disk that can be made to fail, for the gateway's data.
//! - [`e2e`] puts the two together on this host, with an agent for each VM.
//! - [`host`] runs gateway and agent on this host.
//! - [`ceph`] is a real distributed store, whose parts can be killed.
//! - [`store`] is a gateway whose S3 is the store of others.
//! - [`s3`] drives an unmodified S3 client.
//! - [`lifecycle`] kills parts one after another and checks what must hold after each.
//! - [`figures`] measures in a VM, for `cargo xtask bench`.
//! - [`story`] is the whole path on real VMs, told by the demo and proven by a test.
//! - [`torture`] is a mixed load that knows what must be there, for tests that kill the gateway under it.
//! - [`wait`] waits for conditions; nothing here sleeps and hopes.
//!
//! Whatever a value here started is gone when it is dropped: processes, sockets, mounts, folders. What it wrote to
//! its logs stays in `target/test-logs`, and a failure names the files.

pub mod artifacts;
pub mod ceph;
pub mod disk;
pub mod e2e;
pub mod figures;
pub mod guest;
pub mod host;
pub mod lifecycle;
pub mod logs;
pub mod process;
pub mod s3;
pub mod store;
pub mod story;
pub mod torture;
pub mod vm;
pub mod wait;

pub use guest::{Guest, Output};
pub use host::{Agent, Gateway};
pub use s3::S3Client;
pub use vm::{Vm, VmBuilder};
