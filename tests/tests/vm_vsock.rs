//! Kernel vsock: the gateway knows a VM by the context id of its connections.
//!
//! A host's own vsock needs `vhost_vsock`, which machines that emulate guests mostly lack. So a guest is the host here:
//! the gateway runs in it, and Linux's vsock loopback carries its connections, with the context id 1 as the peer's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::vm::GATEWAY;
use mooring_tests::wait::{self, Look};
use mooring_tests::{Vm, s3};

/// Longest that the gateway may take to start; it is a debug build on an emulated processor.
const START: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_vm_is_known_by_its_context_id() -> Result<()> {
    let vm = Vm::builder("host-1").memory_mib(1536).cpus(2).disk_mib(512).with_gateway().boot().await?;
    vm.run("mkdir -p /srv && mount -t ext4 /dev/disk/scratch /srv").await?.ok()?;
    let serve = format!("exec {GATEWAY} serve --data-dir /srv/data --s3 off >/var/log/gateway.log 2>&1");
    let gateway = vm.spawn(&serve).await?;
    wait::until("the gateway in the guest", START, || async {
        match vm.run(&format!("{GATEWAY} --json status")).await {
            Ok(said) => match said.ok() {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            },
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await
    .with_context(|| format!("has it ended: {}", gateway.has_ended()))?;

    let told = async |words: &str| vm.run(&format!("set -e; g={GATEWAY}; {words}")).await;
    nobody_is_attached_with_this_context_id(&vm).await?;
    told("$g tenant create acme; $g tenant create globex; $g bucket create --tenant acme data")
        .await?
        .ok()?;
    told("$g vm attach --tenant acme vm1 --cid 1").await?.ok()?;
    told("$g vm attach --tenant globex vm2 --cid 1").await?.fails_with("1")?;

    let agent = vm.agent_up_with("--gateway vsock:1:5000").await?;
    let wrote = "cd /mnt/mooring/data && echo hello > note && sync note && cat note && mooring-agent status";
    let said = vm.run(wrote).await?.ok()?.text()?;
    ensure!(said.contains("hello") && said.contains("acme") && said.contains("vsock:1:5000"), "{said}");

    // S3 and the tenant's API come in by the next two ports.
    let read = s3::script("result = s3.get_object(Bucket='data', Key='note')['Body'].read().decode()");
    let client = "cat > /tmp/s3.py; . /run/mooring/env; python3 /tmp/s3.py";
    ensure!(vm.run_with(client, read.as_bytes()).await?.ok()?.text()? == "\"hello\\n\"");
    vm.run("mooring-agent share create data --with globex && mooring-agent share ls | grep globex")
        .await?
        .ok()?;

    // Detached, its next word is not heard any more.
    told("$g vm detach --tenant acme vm1").await?.ok()?;
    let refused = "! timeout 5 cat /mnt/mooring/data/note";
    vm.run(refused).await?.ok()?;
    agent.kill().await?;
    nobody_is_attached_with_this_context_id(&vm).await
}

/// A connection from a context id that belongs to nobody is closed without an answer.
async fn nobody_is_attached_with_this_context_id(vm: &Vm) -> Result<()> {
    let script = "import socket\n\
         s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)\n\
         s.settimeout(30)\n\
         s.connect((1, 5002))\n\
         try:\n\
         \x20   s.sendall(b'GET /v1/whoami HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n\
         \x20   print(len(s.recv(100)))\n\
         except ConnectionError: print(0)\n";
    let said =
        vm.run_with("cat > /tmp/ask.py && python3 /tmp/ask.py", script.as_bytes()).await?.ok()?.text()?;
    ensure!(said == "0", "it was answered: {said}");
    Ok(())
}
