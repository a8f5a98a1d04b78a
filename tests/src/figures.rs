//! The figures in a VM: the agent over vsock, the guest's own disk, and bare vsock.
//!
//! The workloads are `mooring-bench`'s, the same as on the host. Guests are emulated, so that only ratios within the
//! guest mean anything.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::wait::{self, Look};
use crate::{Gateway, Vm, artifacts};

/// How much of everything; an emulated guest is slow.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// MiB of the large file.
    pub large_mib: u32,
    /// Small files, and random reads.
    pub small: u32,
    /// Transactions and fsyncs.
    pub commits: u32,
}

impl Scale {
    /// For figures.
    pub const FULL: Scale = Scale { large_mib: 128, small: 500, commits: 100 };
    /// To see whether it works.
    pub const QUICK: Scale = Scale { large_mib: 8, small: 50, commits: 10 };
}

/// What goes in and where figures come out.
#[derive(Debug, Clone)]
pub struct Job {
    /// The folder the sheets go to.
    pub sheets: PathBuf,
    /// A tar file to unpack.
    pub tarball: PathBuf,
    /// A git bundle to clone.
    pub bundle: PathBuf,
    /// How much.
    pub scale: Scale,
}

/// The program in the guest.
const BENCH: &str = "/tmp/mooring-bench";
/// Where the guest's own disk is mounted.
const DISK: &str = "/tmp/disk";
/// The port of the bare stream.
const PORT: u32 = 7100;
/// How long one subject may take. What it has measured by then is kept.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots a VM, measures in it and writes one sheet for each subject.
pub async fn take(job: &Job) -> Result<()> {
    let gateway = Gateway::start().await?;
    gateway.tenant("bench").await?;
    gateway.bucket("bench", "files").await?;
    let vm = Vm::builder("figures").memory_mib(1024).disk_mib(4096).boot().await?;
    gateway.attach("bench", &vm).await?;
    let _agent = vm.agent_up().await?;
    vm.put_file(&artifacts::guest_program("mooring-bench")?, BENCH).await?;
    vm.put_file(&job.tarball, "/tmp/source.tar").await?;
    vm.put_file(&job.bundle, "/tmp/source.bundle").await?;
    vm.run(&format!("chmod 755 {BENCH} && mkdir {DISK} && mount -t ext4 /dev/disk/scratch {DISK}"))
        .await?
        .ok()?;

    let _other_end = other_end(&vm).await?;
    let Scale { large_mib, small, commits } = job.scale;
    let link = format!("link vsock=vsock:{PORT} --large-mib {large_mib} --requests {small}");
    measure(&vm, "vsock", &link, &job.sheets).await?;
    for (name, dir) in [("mooring", "/mnt/mooring/files"), ("disk", DISK)] {
        let files = format!(
            "files {name}={dir} --tarball /tmp/source.tar --repository /tmp/source.bundle --large-mib {large_mib} \
             --small {small} --random {small} --commits {commits} --limit 120"
        );
        measure(&vm, name, &files, &job.sheets).await?;
    }
    Ok(())
}

/// The host's end of the bare stream.
async fn other_end(vm: &Vm) -> Result<Process> {
    let socket = vm.vsock_port(PORT);
    let mut command = Command::new(artifacts::host_program("mooring-bench")?);
    command.arg("serve").arg("--socket").arg(&socket);
    let mut process = Process::start("bench-link", command)?;
    let ready = wait::until("the other end of the bare stream", Duration::from_secs(10), || {
        let look = match process.must_run() {
            Err(error) => Look::Ready(Err(error)),
            Ok(()) if socket.exists() => Look::Ready(Ok(())),
            Ok(()) => Look::NotYet(format!("no socket {}", socket.display())),
        };
        async { look }
    });
    ready.await??;
    Ok(process)
}

/// One subject. A subject that fails or hangs keeps the figures it has given; the others are measured all the same.
async fn measure(vm: &Vm, name: &str, command: &str, sheets: &Path) -> Result<()> {
    let sheet = format!("/tmp/{name}.json");
    let ended = vm.run_within(&format!("{BENCH} {command} --save {sheet}"), LIMIT).await;
    match ended {
        Ok(output) => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            if let Err(error) = output.ok() {
                eprintln!("{error:#}");
            }
        }
        Err(error) => eprintln!("{error:#}"),
    }
    let bytes = vm.get(&sheet).await.with_context(|| format!("{name} gave no figure"))?;
    let path = sheets.join(format!("{name}.json"));
    std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}
