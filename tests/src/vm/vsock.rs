//! The vsock device outside of the kernel.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::scratch::Scratch;
use crate::artifacts;
use crate::process::Process;
use crate::wait::{self, Look};

/// Every VM has its own device and its own sockets, so all can have the same address; what tells them apart is the
/// path, never the number.
const GUEST_CID: u32 = 3;

/// Bytes the guest may have on the way to the host: the device's `--tx-buffer-size`.
///
/// A packet is never longer than this. Recent kernels (6.12.117 does, 6.1 does not) build packets over 32 KiB of
/// several pieces, each with a descriptor of its own; the device reads only the first piece, drops the packet, and
/// the connection stalls for good. Below that every packet is one piece. Measured: writes of 64 KiB with a buffer of
/// 64 or 256 KiB deliver nothing; with this one they reach what writes of 4 KiB do.
const CREDIT: usize = 28 << 10;

/// Starts a VM's device and returns when QEMU can connect to it.
pub async fn start(name: &str, scratch: &Scratch) -> Result<Process> {
    let mut command = Command::new(artifacts::tool("vhost-device-vsock")?);
    command.args(["--guest-cid", &GUEST_CID.to_string(), "--tx-buffer-size", &CREDIT.to_string()]);
    command.arg("--socket").arg(scratch.vhost_socket());
    command.arg("--uds-path").arg(scratch.vsock_path());
    command.env("RUST_LOG", "info");
    let mut process = Process::start(&format!("{name}-vsock"), command)?;
    let socket = scratch.vhost_socket();
    let ready = wait::until("the vsock device", Duration::from_secs(10), || {
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
