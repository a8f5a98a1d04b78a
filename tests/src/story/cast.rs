//! Who takes part: the gateway, and a VM with its agent for each of the two tenants.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Teller;
use crate::guest::{Output, Status};
use crate::logs::Log;
use crate::s3::{S3Client, script};
use crate::vm::GuestAgent;
use crate::wait::{self, Look};
use crate::{Gateway, Vm};

/// acme's bucket.
pub const BUCKET: &str = "work";
/// Where it is in acme's VM.
pub const MOUNT: &str = "/mnt/mooring/work";
/// globex' own bucket.
pub const OTHERS_BUCKET: &str = "own";
/// For steps that move the large file: machines are emulated, and two of them share this one.
pub const LONG: Duration = Duration::from_secs(900);

/// A tenant's machine.
#[derive(Debug)]
pub struct Player {
    /// The VM.
    pub vm: Vm,
    /// The agent in it.
    pub agent: GuestAgent,
}

/// All of them.
#[derive(Debug)]
pub struct Cast {
    /// The tenant that owns the data. Empty only while its machine is being replaced.
    acme: Option<Player>,
    /// The tenant it shares with.
    globex: Player,
    /// acme's S3 client on this host.
    pub host: S3Client,
    /// The gateway; last, so that it outlives its clients.
    pub gateway: Gateway,
}

impl Cast {
    /// Starts everything.
    pub async fn gather(teller: &mut Teller) -> Result<Cast> {
        let gateway = teller
            .step("a gateway starts with an empty data directory", async {
                let gateway = Gateway::start().await?;
                let said = format!("S3 for this host at {}", gateway.s3_endpoint());
                Ok((gateway, said))
            })
            .await?;
        let host = teller.step("the operator makes tenants acme and globex", tenants(&gateway)).await?;
        let (acme, globex) = teller.step("their VMs boot", boot()).await?;
        let agents = teller
            .step("the operator names each VM's channel; `mooring-agent up` in each", async {
                gateway.attach("acme", &acme).await?;
                gateway.attach("globex", &globex).await?;
                let agents = tokio::try_join!(up(&acme, BUCKET), up(&globex, OTHERS_BUCKET))?;
                Ok((
                    agents,
                    format!("{MOUNT} and /mnt/mooring/{OTHERS_BUCKET} are mounted; no VM was given a secret"),
                ))
            })
            .await?;
        let acme = Some(Player { vm: acme, agent: agents.0 });
        Ok(Cast { acme, globex: Player { vm: globex, agent: agents.1 }, host, gateway })
    }

    /// acme's VM.
    pub fn acme(&self) -> Result<&Vm> {
        self.acme.as_ref().map(|player| &player.vm).context("acme has no VM")
    }

    /// globex' VM.
    pub fn globex(&self) -> &Vm {
        &self.globex.vm
    }

    /// Pulls the plug of acme's VM.
    pub async fn kill_acme(&mut self) -> Result<()> {
        self.acme.as_mut().context("acme has no VM")?.vm.kill().await
    }

    /// A new VM in the place of acme's.
    pub async fn replace_acme(&mut self) -> Result<()> {
        let Player { vm, agent } = self.acme.take().context("acme has no VM")?;
        drop(agent);
        let vm = vm.reboot().await?;
        let agent = up(&vm, BUCKET).await?;
        self.acme = Some(Player { vm, agent });
        Ok(())
    }

    /// Copies what the agents have logged next to the other logs, from machines that are still there.
    pub async fn keep_agent_logs(&self) {
        for Player { vm, .. } in self.acme.iter().chain([&self.globex]) {
            let kept = async {
                let text = vm.agent_log().await?;
                let log = Log::new(&format!("{}-agent", vm.name()))?;
                std::fs::write(log.path(), text).context("keeping an agent's log")
            };
            if let Err(error) = kept.await {
                eprintln!("{}: its agent's log is lost: {error:#}", vm.name());
            }
        }
    }

    /// Everyone goes: mounts are handed back, the gateway ends by itself.
    pub async fn leave(mut self, teller: &mut Teller) -> Result<()> {
        let acme = self.acme.take().context("acme has no VM")?;
        teller
            .step("agents and gateway are told to end", async {
                for Player { vm, agent } in [acme, self.globex] {
                    let ended = agent.stop().await?;
                    ensure!(ended.status == Status::Code(0), "{}: {ended:?}", vm.name());
                    let left = vm.run("grep /mnt/mooring /proc/mounts").await?.text()?;
                    ensure!(left.is_empty(), "{} still has mounts: {left}", vm.name());
                }
                let ended = self.gateway.stop().await?;
                ensure!(ended.success(), "the gateway: {ended}; {}", self.gateway.process().log().tail());
                Ok(((), "every mount handed back, both ended well".to_owned()))
            })
            .await
    }
}

async fn tenants(gateway: &Gateway) -> Result<(S3Client, String)> {
    for (tenant, bucket) in [("acme", BUCKET), ("globex", OTHERS_BUCKET)] {
        gateway.tenant(tenant).await?;
        gateway.bucket(tenant, bucket).await?;
    }
    let key = gateway.access_key("acme").await?;
    Ok((
        S3Client::new(gateway, &key),
        format!("buckets {BUCKET} and {OTHERS_BUCKET}; an access key of acme for this host"),
    ))
}

async fn boot() -> Result<((Vm, Vm), String)> {
    let (acme, globex) = tokio::try_join!(Vm::boot("acme-1"), Vm::boot("globex-1"))?;
    let said = format!("Linux {}, emulated; {:.1} s", acme.release(), acme.boot_time().as_secs_f64());
    Ok(((acme, globex), said))
}

/// Starts the agent and waits until the tenant's own bucket answers.
async fn up(vm: &Vm, bucket: &str) -> Result<GuestAgent> {
    let agent = vm.agent_up().await?;
    mounted(vm, &format!("/mnt/mooring/{bucket}")).await?;
    Ok(agent)
}

/// Waits until `path` is a mount point in the guest.
pub async fn mounted(vm: &Vm, path: &str) -> Result<()> {
    wait::until(&format!("{path} in {}", vm.name()), Duration::from_secs(60), || async {
        let done =
            vm.run(&format!("grep -q ' {path} ' /proc/mounts && ls {path}")).await.and_then(Output::ok);
        Look::when_ok(done.map(drop))
    })
    .await
}

/// Runs Python in a guest with input of its own.
pub async fn python(vm: &Vm, program: &str, arguments: &str, input: &[u8]) -> Result<Output> {
    vm.put("/tmp/program.py", program.as_bytes()).await?;
    let running = vm.spawn(&format!("exec python3 /tmp/program.py {arguments}")).await?;
    running.feed(input).await?;
    running.close_stdin()?;
    running.end(LONG).await
}

/// Runs Python in a guest in which `s3` is an unmodified client: it finds endpoint and credentials through the
/// environment file that the agent writes. What the code assigns to `result` comes back.
pub async fn boto3(vm: &Vm, code: &str) -> Result<Value> {
    vm.put("/tmp/s3.py", script(code).as_bytes()).await?;
    let output = vm.run_within(". /run/mooring/env && exec python3 /tmp/s3.py", LONG).await?.ok()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("result of {code:?}"))
}
