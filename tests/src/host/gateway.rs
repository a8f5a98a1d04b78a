//! `mooring-gateway serve` with a data folder of its own, and its command line.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use crate::artifacts;
use crate::guest::Output;
use crate::process::Process;
use crate::vm::Vm;
use crate::wait::{self, Look};

/// How long the gateway may take until every listener is up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running gateway. Its data, sockets and addresses stay the same when it is killed and started again.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    s3: SocketAddr,
    arguments: Vec<String>,
    // Last: the processes end before their folder goes.
    home: TempDir,
}

/// A static S3 access key, for tools outside of VMs.
#[derive(Debug, Clone, Deserialize)]
pub struct AccessKey {
    /// The public half.
    #[serde(alias = "AccessKeyId", alias = "id", alias = "access_key")]
    pub access_key_id: String,
    /// The secret half.
    #[serde(alias = "SecretAccessKey", alias = "secret", alias = "secret_key")]
    pub secret_access_key: String,
}

impl Gateway {
    /// Starts one with defaults and an empty data folder.
    pub async fn start() -> Result<Gateway> {
        Gateway::start_with(&[]).await
    }

    /// Starts one with more arguments for `serve`.
    pub async fn start_with(arguments: &[&str]) -> Result<Gateway> {
        let home =
            tempfile::Builder::new().prefix("mgw-").tempdir().context("creating a temporary folder")?;
        let s3 = free_address()?;
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let process = launch(home.path(), s3, &arguments)?;
        let mut gateway = Gateway { process, s3, arguments, home };
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The operator's socket.
    pub fn admin_socket(&self) -> PathBuf {
        admin_socket(self.home.path())
    }

    /// The S3 endpoint for tools on this host.
    pub fn s3_endpoint(&self) -> String {
        format!("http://{}", self.s3)
    }

    /// Its process and log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// SIGKILL. The next step is commonly [`restart`](Gateway::restart).
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Starts it again on the same data and waits until it is ready. Returns how long that took.
    pub async fn restart(&mut self) -> Result<Duration> {
        let began = std::time::Instant::now();
        self.launch()?;
        self.ready().await?;
        Ok(began.elapsed())
    }

    /// Starts it again and waits for nothing. The one of before has ended.
    pub fn launch(&mut self) -> Result<()> {
        self.process = launch(self.home.path(), self.s3, &self.arguments)?;
        Ok(())
    }

    /// Waits until every listener is up.
    pub async fn ready(&mut self) -> Result<()> {
        let socket = self.admin_socket();
        let process = &mut self.process;
        let ready = wait::until("the gateway", START_LIMIT, || {
            let alive = process.must_run();
            let socket = socket.clone();
            async move {
                match alive {
                    Err(error) => Look::Ready(Err(error)),
                    Ok(()) => match super::http_status(&socket, "/healthz").await {
                        Ok(200) => Look::Ready(Ok(())),
                        Ok(code) => Look::NotYet(format!("/healthz answers {code}")),
                        Err(error) => Look::NotYet(format!("{error:#}")),
                    },
                }
            }
        });
        ready.await?
    }

    /// Runs `mooring-gateway ARGUMENTS` as the operator.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(artifacts::host_program("mooring-gateway")?);
        command.arg("--admin-socket").arg(self.admin_socket()).args(arguments);
        super::run(command).await
    }

    /// Runs `mooring-gateway --json ARGUMENTS`, which must succeed, and reads its answer.
    pub async fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let words = [&["--json"], arguments].concat();
        let output = self.cli(&words).await?.ok()?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{}: not JSON", output.command))
    }

    /// Makes a tenant.
    pub async fn tenant(&self, name: &str) -> Result<()> {
        self.cli(&["tenant", "create", name]).await?.ok().map(drop)
    }

    /// Makes a bucket.
    pub async fn bucket(&self, tenant: &str, name: &str) -> Result<()> {
        self.cli(&["bucket", "create", "--tenant", tenant, name]).await?.ok().map(drop)
    }

    /// Says that `vm` belongs to `tenant`; from then on the VM's channel is listened to.
    pub async fn attach(&self, tenant: &str, vm: &Vm) -> Result<()> {
        let path = vm.vsock_path();
        let path = path.to_str().context("the vsock path is not text")?;
        self.cli(&["vm", "attach", "--tenant", tenant, vm.name(), "--hybrid", path]).await?.ok().map(drop)
    }

    /// A channel for an agent on this host: a unix socket that is a VM of `tenant`.
    pub async fn attach_unix(&self, tenant: &str, name: &str) -> Result<PathBuf> {
        let path = self.home.path().join(format!("{name}.sock"));
        let text = path.to_str().context("the socket's path is not text")?;
        self.cli(&["vm", "attach", "--tenant", tenant, name, "--unix", text]).await?.ok()?;
        Ok(path)
    }

    /// A static access key of `tenant`.
    pub async fn access_key(&self, tenant: &str) -> Result<AccessKey> {
        let answer = self.json(&["key", "create", "--tenant", tenant]).await?;
        serde_json::from_value(answer).context("the answer of `key create`")
    }
}

fn admin_socket(home: &Path) -> PathBuf {
    home.join("admin.sock")
}

fn launch(home: &Path, s3: SocketAddr, arguments: &[String]) -> Result<Process> {
    let mut command = Command::new(artifacts::host_program("mooring-gateway")?);
    command.arg("--admin-socket").arg(admin_socket(home)).arg("serve");
    command.arg("--data-dir").arg(home.join("data")).args(["--s3", &s3.to_string()]).args(arguments);
    command.env("RUST_BACKTRACE", "1");
    Process::start("gateway", command)
}

/// An address nobody listens on. It is chosen ahead, because it must stay the same when the gateway starts again.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    listener.local_addr().context("asking for the free port")
}
