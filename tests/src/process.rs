//! A program that runs beside the test and cannot outlive it.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal};

use crate::logs::Log;
use crate::wait::{self, Look};

/// A child process with its log. Dropping it kills it and all it has started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `command`; both outputs go to a log named after `name`.
    pub fn start(name: &str, mut command: Command) -> Result<Process> {
        let log = Log::new(name)?;
        command.stdin(Stdio::null()).stdout(log.file()?).stderr(log.file()?).process_group(0);
        die_with_this_process(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    /// What it has written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking after {}", self.name))
    }

    /// An error with the end of the log when it no longer runs: for use while waiting for it.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early: {status}; {}", self.name, self.log.tail()),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} has no process id", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.kill_group();
        self.gone(Duration::from_secs(10)).await.map(drop)
    }

    /// SIGTERM, and waits for it to end by itself.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.gone(limit).await
    }

    /// Waits until it has ended.
    pub async fn gone(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || {
            let look = match self.child.try_wait() {
                Ok(Some(status)) => Look::Ready(status),
                Ok(None) => Look::NotYet(self.log.tail()),
                Err(error) => Look::NotYet(error.to_string()),
            };
            async { look }
        })
        .await
    }

    /// The kernel's word for what it does: `R`, `S`, `D`, `T` and so on.
    pub fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn kill_group(&mut self) {
        // A process that was reaped may have given its number to another one.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.pid()) {
            // Gone in this moment is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether a process ended by this signal.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}

/// Makes the kernel kill the child when this process dies, even by SIGKILL.
fn die_with_this_process(command: &mut Command) {
    // SAFETY: between fork and exec only one system call is made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
