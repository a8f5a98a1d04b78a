//! Guests under QEMU.
//!
//! A [`Vm`] is three things: QEMU itself in software emulation, a `vhost-device-vsock` that carries the guest's vsock
//! to unix sockets on this host, and the command port. A connection of the guest to port P of the host arrives at
//! the socket `<vsock path>_P`; that is the channel the gateway knows a VM by.
//!
//! A VM has no disk of its own: its root is read-only and shared, what it writes to it stays in its memory. A VM that
//! is killed and booted again is a new machine with the same name, as after the loss of a host.

mod agent;
mod qemu;
mod scratch;
mod vsock;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mooring_images::guest::{GuestImage, KernelSeries, Layer};
use rustix::process::Signal;
use tokio::net::UnixListener;

use crate::artifacts;
use crate::guest::Guest;
use crate::logs::Log;
use crate::process::Process;
use crate::wait::{self, Look};

pub use self::agent::GuestAgent;
use self::scratch::Scratch;

/// How long a guest may take to boot; ten times what it takes on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// Where the gateway is in a VM that has one.
pub const GATEWAY: &str = "/opt/mooring/mooring-gateway";

/// What a VM is made of.
#[derive(Debug, Clone)]
pub struct VmBuilder {
    name: String,
    kernel: KernelSeries,
    memory_mib: u32,
    cpus: u32,
    disk_mib: Option<u32>,
    agent: bool,
    gateway: bool,
}

/// The files a VM boots from.
#[derive(Debug)]
struct Files {
    image: GuestImage,
    layers: Vec<Layer>,
}

impl VmBuilder {
    /// The kernel to boot; Linux 6.12 unless set.
    pub fn kernel(mut self, kernel: KernelSeries) -> VmBuilder {
        self.kernel = kernel;
        self
    }

    /// Memory; 512 MiB unless set.
    pub fn memory_mib(mut self, mib: u32) -> VmBuilder {
        self.memory_mib = mib;
        self
    }

    /// Processors; one unless set.
    pub fn cpus(mut self, cpus: u32) -> VmBuilder {
        self.cpus = cpus;
        self
    }

    /// An empty disk of its own, formatted as ext4, at `/dev/disk/scratch`: what a mount is measured against.
    pub fn disk_mib(mut self, mib: u32) -> VmBuilder {
        self.disk_mib = Some(mib);
        self
    }

    /// Leaves the agent out: for tests of the machine itself, which then need no agent built.
    pub fn without_agent(mut self) -> VmBuilder {
        self.agent = false;
        self
    }

    /// Adds the gateway, as this host has it: for a VM that is itself a host. It is run as [`GATEWAY`].
    pub fn with_gateway(mut self) -> VmBuilder {
        self.gateway = true;
        self
    }

    async fn files(&self) -> Result<Files> {
        let image = artifacts::guest(self.kernel).await?;
        let mut layers = vec![artifacts::program_layer("mooring-guest-exec").await?];
        if self.agent {
            layers.push(artifacts::program_layer("mooring-agent").await?);
        }
        if self.gateway {
            layers.push(artifacts::linked_layer("mooring-gateway", GATEWAY).await?);
        }
        Ok(Files { image, layers })
    }

    /// Boots it and returns when it takes commands.
    pub async fn boot(self) -> Result<Vm> {
        let name = self.name.clone();
        Vm::start(self).await.with_context(|| format!("booting {name}"))
    }
}

/// A running guest. It takes commands as a [`Guest`] does. Dropping it ends all its parts.
#[derive(Debug)]
pub struct Vm {
    // Order matters: the processes end before their sockets' folder goes.
    qemu: Process,
    vsock: Process,
    guest: Guest,
    console: Log,
    boot_time: Duration,
    release: String,
    scratch: Scratch,
    builder: VmBuilder,
}

impl Vm {
    /// A VM to be described further.
    pub fn builder(name: &str) -> VmBuilder {
        let (name, kernel) = (name.to_owned(), KernelSeries::V6_12);
        VmBuilder { name, kernel, memory_mib: 512, cpus: 1, disk_mib: None, agent: true, gateway: false }
    }

    /// Boots a VM as most tests need it.
    pub async fn boot(name: &str) -> Result<Vm> {
        Vm::builder(name).boot().await
    }

    async fn start(builder: VmBuilder) -> Result<Vm> {
        let files = builder.files().await?;
        Vm::start_in(builder, files, Scratch::new()?).await
    }

    async fn start_in(builder: VmBuilder, files: Files, scratch: Scratch) -> Result<Vm> {
        let disk =
            builder.disk_mib.map(|mib| qemu::make_disk(&scratch.path("disk.ext4"), mib)).transpose()?;
        let mut vsock = vsock::start(&builder.name, &scratch).await?;
        // We listen and QEMU connects: the guest's port has a host from its first moment, so nothing it says is lost.
        let port = scratch.path("exec.sock");
        let listener =
            UnixListener::bind(&port).with_context(|| format!("listening on {}", port.display()))?;
        let console = Log::new(&format!("{}-console", builder.name))?;
        let began = Instant::now();
        let machine = qemu::Machine { builder: &builder, files: &files, disk: disk.as_deref() };
        let command = machine.command(&scratch.vhost_socket(), &port, console.path())?;
        let mut qemu = Process::start(&format!("{}-qemu", builder.name), command)?;
        let stream = wait::until("QEMU to open the command port", BOOT_LIMIT, || {
            let alive = qemu.must_run();
            let listener = &listener;
            async move {
                match alive {
                    Err(error) => Look::Ready(Err(error)),
                    Ok(()) => {
                        match tokio::time::timeout(Duration::from_millis(50), listener.accept()).await {
                            Ok(accepted) => Look::Ready(accepted.context("accepting the command port")),
                            Err(_) => Look::NotYet("no connection".to_owned()),
                        }
                    }
                }
            }
        });
        let (stream, _) = stream.await??;
        let guest = Guest::on(&builder.name, stream);
        let up = wait::until("the guest's command server", BOOT_LIMIT, || {
            let look = match qemu.must_run().and_then(|()| vsock.must_run()) {
                Err(error) => Look::Ready(Err(error)),
                Ok(()) if guest.is_up() => Look::Ready(Ok(())),
                Ok(()) => Look::NotYet(console.tail()),
            };
            async { look }
        });
        up.await?.with_context(|| console.tail())?;
        let boot_time = began.elapsed();
        Ok(Vm { qemu, vsock, guest, console, boot_time, release: files.image.release, scratch, builder })
    }

    /// Its name; also its host name.
    pub fn name(&self) -> &str {
        &self.builder.name
    }

    /// From the start of QEMU to the first command it would have taken.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The kernel's release, as the image says.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The hybrid vsock path: guest port P arrives at `<path>_P`. It stays the same when the VM boots again.
    pub fn vsock_path(&self) -> PathBuf {
        self.scratch.vsock_path()
    }

    /// The unix socket at which connections of the guest to `port` arrive.
    pub fn vsock_port(&self, port: u32) -> PathBuf {
        self.scratch.vsock_port(port)
    }

    /// The guest's commands, to be used while the VM itself is borrowed elsewhere.
    pub fn guest(&self) -> Guest {
        self.guest.clone()
    }

    /// What the kernel and init have printed.
    pub fn console(&self) -> &Log {
        &self.console
    }

    /// QEMU's process, for what this harness has no words for.
    pub fn qemu(&self) -> &Process {
        &self.qemu
    }

    /// Pulls the plug: SIGKILL for QEMU and its vsock device. Nothing in the guest gets to say goodbye.
    pub async fn kill(&mut self) -> Result<()> {
        self.qemu.kill().await?;
        self.vsock.kill().await
    }

    /// Kills this VM, if it still runs, and boots a new one with the same name and the same channel.
    pub async fn reboot(mut self) -> Result<Vm> {
        self.kill().await?;
        let Vm { qemu, vsock, scratch, builder, .. } = self;
        drop((qemu, vsock));
        let files = builder.files().await?;
        scratch.clear_own_sockets()?;
        let name = builder.name.clone();
        let booted = Vm::start_in(builder, files, scratch).await;
        booted.with_context(|| format!("booting {name} again"))
    }

    /// Stops the guest's processors, as a host that suspends it does, until [`resume`](Vm::resume).
    pub async fn pause(&self) -> Result<()> {
        self.qemu.signal(Signal::STOP)?;
        wait::until("the VM to be stopped", Duration::from_secs(5), || {
            let state = self.qemu.state();
            let look = Look::if_true(state == Some('T'), format!("state {state:?}"));
            async { look }
        })
        .await
    }

    /// Lets a paused guest go on.
    pub fn resume(&self) -> Result<()> {
        self.qemu.signal(Signal::CONT)
    }

    /// Copies the console so far next to `path`; for a test that keeps evidence.
    pub fn save_console(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.console.text()).with_context(|| format!("writing {}", path.display()))
    }
}

impl Deref for Vm {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        &self.guest
    }
}
