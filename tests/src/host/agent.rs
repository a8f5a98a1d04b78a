//! `mooring-agent up` on this host, over a unix socket.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::mounts;
use crate::artifacts;
use crate::process::Process;
use crate::wait::{self, Look};

/// How long the agent may take to mount.
const MOUNT_LIMIT: Duration = Duration::from_secs(30);

/// A running agent with mounts in a folder of its own. Dropping it takes the mounts down.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    arguments: Vec<String>,
    // Last: the process ends and the mounts go before the folder.
    home: Home,
}

/// The folder of mounts; empty of mounts before it is removed.
#[derive(Debug)]
struct Home(TempDir);

impl Drop for Home {
    fn drop(&mut self) {
        mounts::detach_below(self.0.path());
    }
}

impl Agent {
    /// Starts one with these arguments after `up`; `{home}` in them stands for a folder of its own. Below that
    /// folder its mounts are looked for.
    pub async fn start(name: &str, arguments: &[&str]) -> Result<Agent> {
        let home =
            tempfile::Builder::new().prefix("mag-").tempdir().context("creating a temporary folder")?;
        let folder = home.path().to_str().context("the temporary folder is not text")?;
        let arguments: Vec<_> = arguments.iter().map(|word| word.replace("{home}", folder)).collect();
        let process = launch(name, &arguments)?;
        Ok(Agent { process, arguments, home: Home(home) })
    }

    /// The folder that `{home}` stands for.
    pub fn home(&self) -> &Path {
        self.home.0.path()
    }

    /// Its process and log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until `path` is a mount point that answers.
    pub async fn mounted(&mut self, path: &Path) -> Result<()> {
        let process = &mut self.process;
        let what = format!("the mount at {}", path.display());
        let mounted = wait::until(&what, MOUNT_LIMIT, || {
            let look = match process.must_run() {
                Err(error) => Look::Ready(Err(error)),
                Ok(()) if mounts::below(path).iter().any(|point| point == path) => Look::Ready(Ok(())),
                Ok(()) => Look::NotYet("not in the mount table".to_owned()),
            };
            async { look }
        });
        mounted.await??;
        let path = path.to_owned();
        // A file system that does not answer must not stall the test's own thread.
        let answer = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(drop));
        tokio::time::timeout(MOUNT_LIMIT, answer)
            .await
            .context("the mount does not answer")??
            .context("the mount")
    }

    /// What is mounted below its folder.
    pub fn mounts(&self) -> Vec<PathBuf> {
        mounts::below(self.home())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// SIGTERM, and waits for the end; a clean end leaves no mount behind.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Starts it again with the same arguments.
    pub fn restart(&mut self) -> Result<()> {
        self.process = launch("agent", &self.arguments)?;
        Ok(())
    }
}

fn launch(name: &str, arguments: &[String]) -> Result<Process> {
    let mut command = Command::new(artifacts::host_program("mooring-agent")?);
    command.arg("up").args(arguments).env("RUST_BACKTRACE", "1");
    Process::start(name, command)
}
