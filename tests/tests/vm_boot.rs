//! The machines that the other tests stand on: guests boot, take commands, have FUSE and a vsock that reaches a unix
//! socket of the host, and are gone without a trace when dropped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_images::guest::KernelSeries;
use mooring_tests::guest::Status;
use mooring_tests::{Vm, s3};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A port nothing else uses.
const PORT: u32 = 7000;

#[tokio::test]
async fn a_guest_boots_and_does_all_that_tests_need() -> Result<()> {
    let vm = Vm::builder("boot-1").without_agent().disk_mib(64).boot().await?;
    println!("Linux {} took commands {:.1} s after QEMU started", vm.release(), vm.boot_time().as_secs_f64());

    it_has_what_the_product_needs(&vm).await?;
    its_vsock_reaches_the_host(&vm).await?;
    commands_are_binary_safe_and_run_side_by_side(&vm).await?;
    a_command_that_does_not_end_is_an_error_and_harms_no_other(&vm).await?;
    the_programs_of_the_story_are_there(&vm).await?;
    files_of_any_size_come_over_whole(&vm).await?;
    a_paused_guest_stands_still_and_goes_on(&vm).await?;

    let own = vm.run("mkdir -p /d && mount -t ext4 /dev/disk/scratch /d && df /d").await?.ok()?;
    ensure!(own.text()?.contains("/d"), "its own disk is not mounted: {}", own.text()?);
    Ok(())
}

#[tokio::test]
async fn the_oldest_supported_kernel_boots_too() -> Result<()> {
    let vm = Vm::builder("floor-1").kernel(KernelSeries::V6_1).without_agent().boot().await?;
    println!("Linux {} took commands {:.1} s after QEMU started", vm.release(), vm.boot_time().as_secs_f64());
    ensure!(vm.release().starts_with("6.1."), "{} is not the floor", vm.release());
    it_has_what_the_product_needs(&vm).await?;
    its_vsock_reaches_the_host(&vm).await
}

#[tokio::test]
async fn a_killed_vm_comes_back_empty_on_the_same_channel() -> Result<()> {
    let vm = Vm::builder("again-1").without_agent().boot().await?;
    vm.run("echo lost > /tmp/note && sync").await?.ok()?;
    let waiting = vm.spawn("sleep 1000").await?;
    let (path, guest, qemu) = (vm.vsock_path(), vm.guest(), vm.qemu().id());

    let vm = vm.reboot().await?;
    let error = waiting.end(Duration::from_secs(5)).await.err().context("a command survived its machine")?;
    ensure!(format!("{error:#}").contains("port closed"), "unclear: {error:#}");
    ensure!(guest.run("true").await.is_err(), "the old machine still answers");
    ensure!(vm.vsock_path() == path, "the channel has moved");
    ensure!(vm.run("cat /tmp/note").await?.status != Status::Code(0), "its memory came back");
    its_vsock_reaches_the_host(&vm).await?;

    let second = vm.qemu().id();
    drop(vm);
    for pid in [qemu, second] {
        ensure!(!is_running(pid, "qemu"), "QEMU {pid} outlived its VM");
    }
    ensure!(
        !path.exists() && !path.parent().is_some_and(std::path::Path::exists),
        "sockets were left behind"
    );
    Ok(())
}

fn is_running(pid: u32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.contains(name))
}

async fn it_has_what_the_product_needs(vm: &Vm) -> Result<()> {
    let release = vm.run("uname -r").await?.ok()?.text()?;
    ensure!(release == vm.release(), "runs {release}, the image says {}", vm.release());
    ensure!(vm.run("hostname").await?.ok()?.text()? == vm.name(), "it does not know its name");
    let file_systems = vm.run("cat /proc/filesystems").await?.ok()?.text()?;
    for needed in ["fuse", "overlay"] {
        let has = file_systems.lines().any(|line| line.split_whitespace().last() == Some(needed));
        ensure!(has, "no {needed} in {file_systems}");
    }
    vm.run("test -c /dev/fuse && test -c /dev/vsock && ip addr show lo | grep -q 127.0.0.1").await?.ok()?;
    Ok(())
}

/// What the guest sends arrives at `<vsock path>_PORT`, and what the host answers arrives in the guest.
async fn its_vsock_reaches_the_host(vm: &Vm) -> Result<()> {
    const SENT: usize = 3 << 20;
    let script = format!(
        "import socket, hashlib, sys\n\
         s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)\n\
         s.settimeout(60)\n\
         s.connect((socket.VMADDR_CID_HOST, {PORT}))\n\
         s.sendall(bytes(i * 7 % 251 for i in range(1 << 20)) * 3)\n\
         s.shutdown(socket.SHUT_WR)\n\
         back = b''\n\
         while chunk := s.recv(65536): back += chunk\n\
         print(len(back), hashlib.sha256(back).hexdigest())\n"
    );
    let path = vm.vsock_port(PORT);
    let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    let echo = async {
        let (mut stream, _) = listener.accept().await?;
        let mut got = Vec::new();
        // By count, not to the end of the stream: the device does not pass on a half-closed connection.
        (&mut stream).take(SENT as u64).read_to_end(&mut got).await?;
        got.reverse();
        stream.write_all(&got).await?;
        stream.shutdown().await?;
        anyhow::Ok(got)
    };
    let (echoed, output) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(90), echo),
        vm.run_with("cat > /tmp/talk.py && python3 /tmp/talk.py", script.as_bytes()),
    );
    let said = output?.ok()?.text()?;
    let sent: Vec<u8> = echoed.context("the guest's connection did not arrive")??;
    ensure!(sent.len() == SENT, "{} of {SENT} bytes arrived", sent.len());
    let expected = (0..1 << 20).map(|i: u32| u8::try_from(i * 7 % 251).unwrap_or_default());
    ensure!(sent.iter().rev().take(1 << 20).copied().eq(expected), "other bytes than were sent");
    let (count, digest) = said.split_once(' ').context("two words")?;
    ensure!(count == SENT.to_string(), "{count} of {SENT} bytes came back");
    vm.put("/tmp/back", &sent).await?;
    ensure!(vm.sha256("/tmp/back").await? == digest, "other bytes came back than were answered");
    std::fs::remove_file(&path).context("removing the socket")
}

async fn commands_are_binary_safe_and_run_side_by_side(vm: &Vm) -> Result<()> {
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let slow = vm.spawn("read line; echo \"got $line\"; exit 7").await?;
    let (one, two) = tokio::join!(vm.run_with("cat", &all), vm.run_with("cat >&2", &all));
    ensure!(one?.ok()?.stdout == all, "standard output changed bytes");
    ensure!(two?.ok()?.stderr == all, "standard error changed bytes");
    ensure!(!slow.has_ended(), "a command ended that was waiting for input");
    slow.feed(b"this\n").await?;
    let slow = slow.end(Duration::from_secs(30)).await?;
    ensure!(slow.status == Status::Code(7) && slow.text()? == "got this", "{slow:?}");
    let killed = vm.spawn("sleep 1000").await?;
    killed.signal(9)?;
    ensure!(killed.end(Duration::from_secs(30)).await?.status == Status::Signal(9));
    vm.run("echo broken pipe >&2; false").await?.fails_with("broken pipe")?;
    Ok(())
}

async fn a_command_that_does_not_end_is_an_error_and_harms_no_other(vm: &Vm) -> Result<()> {
    let deaf = vm.spawn("exec sleep 1000").await?;
    let flood = vec![0; 1 << 20];
    let stuck = tokio::time::timeout(Duration::from_secs(2), deaf.feed(&flood)).await;
    ensure!(stuck.is_err(), "more input was accepted than a command that does not read can take");
    vm.run("true").await?.ok()?;
    let late =
        vm.run_within("echo began; sleep 1000", Duration::from_secs(2)).await.err().context("no limit")?;
    ensure!(format!("{late:#}").contains("began"), "the error does not tell the output: {late:#}");
    vm.run("true").await?.ok()?;
    Ok(())
}

async fn the_programs_of_the_story_are_there(vm: &Vm) -> Result<()> {
    let story = "set -e; cd /tmp; git init -q r; cd r; echo a > a; git add a; git commit -qm one; git fsck --strict; \
                 sqlite3 db 'create table t(a); insert into t values(1); pragma integrity_check;' | grep -x ok; \
                 sha256sum a; ps -o pid | grep -q 1; fusermount3 --version";
    vm.run(story).await?.ok()?;
    let program = s3::script("result = s3.list_buckets()");
    let client = "cat > /tmp/s3.py; AWS_ENDPOINT_URL_S3=http://127.0.0.1:9 AWS_ACCESS_KEY_ID=a \
                  AWS_SECRET_ACCESS_KEY=b AWS_REGION=local AWS_MAX_ATTEMPTS=1 python3 /tmp/s3.py";
    let refused = "Could not connect to the endpoint URL: \"http://127.0.0.1:9/\"";
    vm.run_with(client, program.as_bytes()).await?.fails_with(refused)?;
    Ok(())
}

async fn files_of_any_size_come_over_whole(vm: &Vm) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    let content: Vec<u8> = (0u32..20 << 18).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&there, &content)?;
    vm.put_file(&there, "/tmp/big file").await?;
    vm.get_file("/tmp/big file", &back).await?;
    ensure!(std::fs::read(&back)? == content, "the copy differs");
    vm.run("rm '/tmp/big file'").await?.ok()?;
    Ok(())
}

async fn a_paused_guest_stands_still_and_goes_on(vm: &Vm) -> Result<()> {
    vm.pause().await?;
    let run = vm.run("true");
    tokio::pin!(run);
    let still = tokio::time::timeout(Duration::from_secs(1), run.as_mut()).await;
    ensure!(still.is_err(), "a paused guest answered");
    vm.resume()?;
    run.await?.ok()?;
    Ok(())
}
