//! The agent in a guest.

use std::time::Duration;

use anyhow::Result;

use super::Vm;
use crate::guest::{Output, Running};
use crate::wait::{self, Look};

/// How long the agent may take until its mounts are there.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// Where it logs in the guest.
const LOG: &str = "/var/log/mooring-agent.log";

/// An agent that runs in a guest. Dropping it kills the agent.
#[derive(Debug)]
pub struct GuestAgent {
    running: Running,
}

impl GuestAgent {
    /// SIGTERM, and waits for its end: mounts are handed back.
    pub async fn stop(self) -> Result<Output> {
        self.running.signal(15)?;
        self.running.end(Duration::from_secs(60)).await
    }

    /// SIGKILL.
    pub async fn kill(self) -> Result<Output> {
        self.running.signal(9)?;
        self.running.end(Duration::from_secs(60)).await
    }

    /// Its process in the guest.
    pub fn running(&self) -> &Running {
        &self.running
    }
}

impl Vm {
    /// Starts `mooring-agent up` with its defaults and waits until it says that it is up.
    pub async fn agent_up(&self) -> Result<GuestAgent> {
        self.agent_up_with("").await
    }

    /// Starts `mooring-agent up` with more arguments, given as one would type them.
    pub async fn agent_up_with(&self, arguments: &str) -> Result<GuestAgent> {
        let running = self.spawn(&format!("exec mooring-agent up {arguments} >>{LOG} 2>&1")).await?;
        running.close_stdin()?;
        let up = wait::until("the agent in the guest", UP_LIMIT, || async {
            if running.has_ended() {
                let log = self.run(&format!("tail -n 20 {LOG}")).await.and_then(|output| output.text());
                return Look::Ready(Err(anyhow::anyhow!("the agent ended early; {log:?}")));
            }
            Look::when_ok(self.run("mooring-agent status").await.and_then(Output::ok).map(|_| Ok(())))
        });
        up.await??;
        Ok(GuestAgent { running })
    }

    /// What the agent in the guest has logged.
    pub async fn agent_log(&self) -> Result<String> {
        self.run(&format!("cat {LOG}")).await?.ok()?.text()
    }
}
