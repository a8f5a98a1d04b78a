//! What must hold after any part has died: a check that is repeated after every step of a sequence of deaths.
//!
//! ```no_run
//! # use mooring_tests::{Gateway, Vm, lifecycle::{self, Step}};
//! # async fn example(gateway: &mut Gateway, vm: &Vm) -> anyhow::Result<()> {
//! let steps = [Step::KillGateway, Step::PauseVm, Step::StopGateway, Step::KillGateway];
//! lifecycle::holds_after_each(gateway, vm, &steps, async || {
//!     vm.run("git -C /mnt/mooring/photos/repo fsck --strict").await?.ok().map(drop)
//! })
//! .await
//! # }
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::Gateway;
use crate::vm::Vm;

/// Something that happens to a running system and leaves it running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The gateway dies by SIGKILL and is started again on its data.
    KillGateway,
    /// The gateway is asked to stop, must do so cleanly, and is started again.
    StopGateway,
    /// The VM's processors stand still for a while.
    PauseVm,
}

/// How long a paused VM stands still: longer than a lease's recall within a tenant may take.
const PAUSE: Duration = Duration::from_secs(6);

/// Checks, then does each step and checks again. An error names the step after which the check failed.
pub async fn holds_after_each(
    gateway: &mut Gateway,
    vm: &Vm,
    steps: &[Step],
    mut check: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    check().await.context("before the first step")?;
    for (number, step) in steps.iter().enumerate() {
        let at = || format!("step {} ({step:?})", number + 1);
        step.happen(gateway, vm).await.with_context(at)?;
        check().await.with_context(|| format!("after {}", at()))?;
    }
    Ok(())
}

impl Step {
    async fn happen(self, gateway: &mut Gateway, vm: &Vm) -> Result<()> {
        match self {
            Step::KillGateway => {
                gateway.kill().await?;
                gateway.restart().await.map(drop)
            }
            Step::StopGateway => {
                let status = gateway.stop().await?;
                ensure!(status.success(), "asked to stop, the gateway ended with {status}");
                gateway.restart().await.map(drop)
            }
            Step::PauseVm => {
                vm.pause().await?;
                // The length of the pause is the step itself; there is no condition to wait for.
                tokio::time::sleep(PAUSE).await;
                vm.resume()
            }
        }
    }
}
