//! The folder of a VM's sockets and disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Kept for the life of a VM and handed on when it boots again. Short, because a unix socket's path may have only 107
/// bytes.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> Result<Scratch> {
        let dir = tempfile::Builder::new().prefix("mvm-").tempdir().context("creating a temporary folder")?;
        Ok(Scratch(dir))
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where QEMU finds its vsock device.
    pub fn vhost_socket(&self) -> PathBuf {
        self.path("vhost.sock")
    }

    /// The hybrid vsock path.
    pub fn vsock_path(&self) -> PathBuf {
        self.path("v.sock")
    }

    /// Where the guest's connections to `port` arrive.
    pub fn vsock_port(&self, port: u32) -> PathBuf {
        self.path(&format!("v.sock_{port}"))
    }

    /// Removes the sockets this VM made, so that they can be made again. Others' (the gateway's) stay.
    pub fn clear_own_sockets(&self) -> Result<()> {
        for path in [self.vhost_socket(), self.vsock_path(), self.path("exec.sock"), self.path("disk.ext4")] {
            remove(&path)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
