//! What the tests on this host stand on: a gateway, tenants with buckets, and for each VM an agent as a process.
//!
//! An agent on a unix socket of its own is a VM as far as the gateway can tell: the socket says who it is. So
//! everything but the boot itself is tested here, in seconds.

mod locks;
mod sdk;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use self::locks::{LockHolder, lock_range, locked_by, unlock_range};
pub use self::sdk::{Sdk, code};
pub use self::tree::{Pattern, fill, same_trees};
use crate::host::{self, Agent, Gateway};
use crate::{Output, S3Client, artifacts};

/// How long a piece of work on a mount may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// A gateway and what was registered with it.
#[derive(Debug)]
pub struct Site {
    /// The gateway.
    pub gateway: Gateway,
}

impl Site {
    /// A gateway without tenants.
    pub async fn start() -> Result<Site> {
        Ok(Site { gateway: Gateway::start().await? })
    }

    /// A gateway with one tenant, `acme`, that owns one bucket, `data`.
    pub async fn with_acme() -> Result<Site> {
        let site = Site::start().await?;
        site.tenant("acme", &["data"]).await?;
        Ok(site)
    }

    /// Makes a tenant with buckets.
    pub async fn tenant(&self, name: &str, buckets: &[&str]) -> Result<()> {
        self.gateway.tenant(name).await?;
        for bucket in buckets {
            self.gateway.bucket(name, bucket).await?;
        }
        Ok(())
    }

    /// A VM of `tenant`: an agent on this host, with its mounts in a folder of its own.
    pub async fn machine(&self, tenant: &str, name: &str) -> Result<Machine> {
        self.machine_with(tenant, name, &[]).await
    }

    /// The same with more arguments for `mooring-agent up`.
    pub async fn machine_with(&self, tenant: &str, name: &str, arguments: &[&str]) -> Result<Machine> {
        let socket = self.gateway.attach_unix(tenant, name).await?;
        Machine::start(&socket, name, arguments).await
    }

    /// boto3 with a static key of `tenant`, on the host's endpoint.
    pub async fn boto3(&self, tenant: &str) -> Result<S3Client> {
        let key = self.gateway.access_key(tenant).await?;
        Ok(S3Client::new(&self.gateway, &key))
    }

    /// The Rust SDK with a static key of `tenant`, on the host's endpoint.
    pub async fn sdk(&self, tenant: &str) -> Result<Sdk> {
        let key = self.gateway.access_key(tenant).await?;
        Ok(Sdk::new(&self.gateway.s3_endpoint(), &key))
    }

    /// `mooring-gateway share --tenant TENANT ARGUMENTS`.
    pub async fn share(&self, tenant: &str, arguments: &[&str]) -> Result<Output> {
        self.gateway.cli(&[&["share", "--tenant", tenant], arguments].concat()).await
    }

    /// The same, read as JSON.
    pub async fn share_json(&self, tenant: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        self.gateway.json(&[&["share", "--tenant", tenant], arguments].concat()).await
    }
}

/// A VM, as far as the gateway can tell: an agent and its mounts.
#[derive(Debug)]
pub struct Machine {
    /// The agent.
    pub agent: Agent,
}

impl Machine {
    /// Starts an agent on a VM's socket.
    pub async fn start(socket: &Path, name: &str, arguments: &[&str]) -> Result<Machine> {
        let gateway = format!("unix:{}", socket.display());
        let mut ours = vec!["--gateway", &gateway, "--root", "{home}/mnt", "--control", "{home}/agent.sock"];
        if !arguments.contains(&"--s3") {
            ours.extend(["--s3", "off"]);
        }
        let agent = Agent::start(name, &[&ours, arguments].concat()).await?;
        Ok(Machine { agent })
    }

    /// Where buckets are mounted.
    pub fn root(&self) -> PathBuf {
        self.agent.home().join("mnt")
    }

    /// The bucket's mount, once it answers.
    pub async fn bucket(&mut self, name: &str) -> Result<PathBuf> {
        let path = self.root().join(name);
        self.agent.mounted(&path).await?;
        Ok(path)
    }

    /// The share's mount, once it answers.
    pub async fn share(&mut self, owner: &str, name: &str) -> Result<PathBuf> {
        let path = self.root().join("shared").join(owner).join(name);
        self.agent.mounted(&path).await?;
        Ok(path)
    }

    /// Where a share would be mounted, whether it is or not.
    pub fn share_path(&self, owner: &str, name: &str) -> PathBuf {
        self.root().join("shared").join(owner).join(name)
    }

    /// `mooring-agent ARGUMENTS`, as a user of the VM.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(artifacts::host_program("mooring-agent")?);
        command.arg("--control").arg(self.agent.home().join("agent.sock")).args(arguments);
        host::run(command).await
    }
}

/// Does blocking work on a thread of its own and gives up waiting after [`PATIENCE`], so that a file system that
/// hangs is a failed test that cleans up.
pub async fn work<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await;
    done.with_context(|| format!("stuck for {} s", PATIENCE.as_secs()))?.context("the work panicked")?
}

/// The number that generators of random cases begin with. It is printed, so that a failure can be replayed.
pub fn seed() -> Result<u64> {
    let seed = match std::env::var("MOORING_SEED") {
        Ok(text) => text.parse().with_context(|| format!("MOORING_SEED={text} is no number"))?,
        Err(_) => fastrand::u64(..),
    };
    println!("replay with MOORING_SEED={seed}");
    Ok(seed)
}

/// The operation must fail with this error number.
pub fn refused<T>(what: &str, done: std::io::Result<T>, errno: rustix::io::Errno) -> Result<()> {
    match done {
        Ok(_) => bail!("{what}: went through, expected {errno}"),
        Err(error) if error.raw_os_error() == Some(errno.raw_os_error()) => Ok(()),
        Err(error) => bail!("{what}: {error}, expected {errno}"),
    }
}
