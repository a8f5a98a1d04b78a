//! A Ceph of one monitor, one OSD and one RADOS Gateway, on loopback, in a folder of its own: a real distributed store
//! whose parts can be killed. From Debian's packages, without systemd and without manager daemon, which S3 does not need.
//!
//! Where it differs from what many S3s do, and what a test should know: `If-Match` with a quoted `ETag` is always refused;
//! conditions in buckets that keep versions, and on the completion of multipart uploads, are ignored.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::e2e::Sdk;
use crate::host::{self, AccessKey, free_address};
use crate::process::Process;
use crate::wait::{self, Look};

/// How long one part may take to start. A busy machine takes its time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster. Its data and addresses stay the same when parts are killed and started again.
#[derive(Debug)]
pub struct Ceph {
    monitor: Option<Process>,
    osd: Option<Process>,
    gateway: Option<Process>,
    port: u16,
    key: AccessKey,
    // Last: the processes end before their folder goes.
    home: TempDir,
}

impl Ceph {
    /// Makes an empty cluster with one user.
    pub async fn start() -> Result<Ceph> {
        let home =
            tempfile::Builder::new().prefix("ceph-").tempdir().context("creating a temporary folder")?;
        let (monitor, port) = (free_address()?.port(), free_address()?.port());
        let fsid = uuid();
        std::fs::write(home.path().join("ceph.conf"), config(home.path(), &fsid, monitor, port))?;
        for folder in ["mon", "osd", "rgw", "crash"] {
            std::fs::create_dir(home.path().join(folder))?;
        }
        let key = AccessKey { access_key_id: "MOORINGTESTS".to_owned(), secret_access_key: uuid() };
        let mut ceph = Ceph { monitor: None, osd: None, gateway: None, port, key, home };

        let map = ceph.path("monmap");
        let address = format!("[v2:127.0.0.1:{monitor}]");
        let make = ["--create", "--clobber", "--fsid", &fsid, "--addv", "a", &address, &map];
        ceph.run("monmaptool", &make).await?;
        ceph.run("ceph-mon", &["-i", "a", "--mkfs", "--monmap", &map]).await?;
        ceph.start_monitor().await?;
        let osd = uuid();
        ceph.run("ceph", &["osd", "new", &osd]).await?;
        ceph.run("ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", &osd]).await?;
        ceph.start_osd().await?;
        let (id, secret) = (ceph.key.access_key_id.clone(), ceph.key.secret_access_key.clone());
        let (id, secret) = (format!("--access-key={id}"), format!("--secret-key={secret}"));
        ceph.run("radosgw-admin", &["user", "create", "--uid=t", "--display-name=t", &id, &secret]).await?;
        ceph.start_gateway().await?;
        Ok(ceph)
    }

    /// Where its S3 is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The key of its user.
    pub fn key(&self) -> &AccessKey {
        &self.key
    }

    /// A client of its S3.
    pub fn sdk(&self) -> Sdk {
        Sdk::new(&self.endpoint(), &self.key)
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) -> Result<()> {
        let made = self.sdk().client.create_bucket().bucket(name).send().await;
        made.map(drop).with_context(|| format!("creating the bucket {name} in Ceph"))
    }

    /// SIGKILL to the S3 gateway alone: connections are cut, the next ones refused.
    pub async fn kill_gateway(&mut self) -> Result<()> {
        end(&mut self.gateway).await
    }

    /// SIGKILL to the OSD: S3 takes requests, and they wait.
    pub async fn kill_osd(&mut self) -> Result<()> {
        end(&mut self.osd).await
    }

    /// SIGKILL to everything.
    pub async fn kill(&mut self) -> Result<()> {
        end(&mut self.gateway).await?;
        end(&mut self.osd).await?;
        end(&mut self.monitor).await
    }

    /// Starts what was killed, on the same data, and waits until S3 answers.
    pub async fn restart(&mut self) -> Result<()> {
        if self.monitor.is_none() {
            self.start_monitor().await?;
        }
        if self.osd.is_none() {
            self.start_osd().await?;
        }
        if self.gateway.is_none() {
            self.start_gateway().await?;
        }
        Ok(())
    }

    async fn start_monitor(&mut self) -> Result<()> {
        let monitor = self.launch("ceph-mon", &["-i", "a", "-f"])?;
        self.monitor = Some(self.until("the monitor", monitor, &["mon", "stat"], "quorum").await?);
        Ok(())
    }

    async fn start_osd(&mut self) -> Result<()> {
        let osd = self.launch("ceph-osd", &["-i", "0", "-f"])?;
        self.osd = Some(self.until("the OSD", osd, &["osd", "stat"], "1 up").await?);
        Ok(())
    }

    async fn start_gateway(&mut self) -> Result<()> {
        let mut gateway = self.launch("radosgw", &["-n", "client.rgw", "-f"])?;
        let address = ("127.0.0.1", self.port);
        // It listens only once it has found its pools.
        wait::until("Ceph's S3", START_LIMIT, || {
            let alive = gateway.must_run();
            async move {
                match alive {
                    Err(error) => Look::Ready(Err(error)),
                    Ok(()) => {
                        let connected = tokio::net::TcpStream::connect(address).await;
                        Look::when_ok(connected.map(|_| Ok(())).map_err(anyhow::Error::from))
                    }
                }
            }
        })
        .await??;
        self.gateway = Some(gateway);
        Ok(())
    }

    /// Asks the monitor until its answer has `word`, while `part` lives.
    async fn until(&self, what: &str, mut part: Process, ask: &[&str], word: &str) -> Result<Process> {
        wait::until(what, START_LIMIT, || {
            let alive = part.must_run();
            async move {
                if let Err(error) = alive {
                    return Look::Ready(Err(error));
                }
                match self.run("ceph", ask).await {
                    Ok(answer) if answer.contains(word) => Look::Ready(Ok(())),
                    Ok(answer) => Look::NotYet(answer),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                }
            }
        })
        .await??;
        Ok(part)
    }

    fn launch(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        Process::start(program, self.command(program, arguments))
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = host::run(self.command(program, arguments)).await?.ok()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("CEPH_CONF", self.home.path().join("ceph.conf"));
        if program == "ceph" {
            // An answer of a monitor that is not there yet is asked for again, not waited for.
            command.args(["--connect-timeout", "10"]);
        }
        command
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_string_lossy().into_owned()
    }
}

async fn end(part: &mut Option<Process>) -> Result<()> {
    match part.take() {
        Some(mut process) => process.kill().await,
        None => Ok(()),
    }
}

fn uuid() -> String {
    let text = format!("{:032x}", fastrand::u128(..));
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// One copy of everything, no authentication inside, little memory, and no waiting for proposals of other monitors. The
/// monitor minds how full the disk is in hundredths of it, which says nothing where a large disk has a small quota.
fn config(home: &Path, fsid: &str, monitor: u16, port: u16) -> String {
    let d = home.display();
    format!(
        "[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = {d}
admin_socket = {d}/$name.asok
pid_file = {d}/$name.pid
log_file = {d}/$name.log
crash_dir = {d}/crash
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[mon]
mon_data = {d}/mon
mon_cluster_log_file = {d}/cluster.log
mon_data_avail_crit = -1
mon_data_avail_warn = -1
auth_allow_insecure_global_id_reclaim = false
[osd]
osd_data = {d}/osd
osd_objectstore = bluestore
bluestore_block_size = 4294967296
osd_memory_target = 939524096
[client.rgw]
rgw_data = {d}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_gc_obj_min_wait = 10
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
debug_rgw = 0
"
    )
}
