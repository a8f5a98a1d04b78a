//! Workloads that are programs people run: tar, git, SQLite.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::measure::{Measure, Sheet, rate, seconds};

/// What the programs work on.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    /// A tar file.
    pub tarball: &'a Path,
    /// What git can clone from.
    pub repository: &'a Path,
    /// How long one program may take.
    pub limit: Duration,
}

impl Programs<'_> {
    /// Runs each in `dir`.
    pub fn run(&self, dir: &Path, commits: usize, sheet: &mut Sheet) -> Result<()> {
        let clone = dir.join("clone");
        sheet.take("untar", || {
            let into = dir.join("tar");
            fs::create_dir_all(&into)?;
            self.timed(self.command("tar").arg("-xf").arg(self.tarball).arg("-C").arg(into))
        })?;
        sheet.take("git clone", || {
            self.timed(self.command("git").args(["clone", "-q"]).arg(self.repository).arg(&clone))
        })?;
        sheet.take("git status", || {
            self.timed(self.command("git").arg("-C").arg(&clone).args(["status", "--short"]))
        })?;
        sheet.take("SQLite transactions, rollback journal", || {
            self.sqlite(&dir.join("delete.db"), "delete", commits)
        })?;
        sheet.take("SQLite transactions, WAL", || self.sqlite(&dir.join("wal.db"), "wal", commits))
    }

    /// A program that is killed when it takes too long.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5"]).arg(self.limit.as_secs().to_string()).arg(program);
        command
    }

    fn timed(&self, command: &mut Command) -> Result<Measure> {
        let start = Instant::now();
        let done =
            command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
        self.check(&done)?;
        Ok(seconds(start.elapsed()))
    }

    fn check(&self, done: &Output) -> Result<()> {
        match done.status.code() {
            Some(0) => Ok(()),
            Some(124 | 137) => bail!("took more than {} s", self.limit.as_secs()),
            // Some programs say the same of each file; the first line is enough.
            _ => {
                let said = String::from_utf8_lossy(&done.stderr);
                bail!("{}: {}", done.status, said.lines().next().unwrap_or_default())
            }
        }
    }

    /// One transaction for each row, as durable as SQLite makes them by default.
    fn sqlite(&self, path: &Path, journal: &str, count: usize) -> Result<Measure> {
        let mut script = format!(
            "PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER, b TEXT);\n"
        );
        for n in 0..count {
            script.push_str(&format!("INSERT INTO t VALUES({n}, hex(randomblob(50)));\n"));
        }
        script.push_str("PRAGMA integrity_check; SELECT count(*) FROM t;\n");
        let start = Instant::now();
        let mut command = self.command("sqlite3");
        command.arg("-bail").arg(path);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run sqlite3")?;
        // A program that ends early closes the pipe; its own words then say why.
        let fed = child.stdin.take().context("no stdin")?.write_all(script.as_bytes());
        let done = child.wait_with_output()?;
        let took = start.elapsed();
        self.check(&done)?;
        fed.context("feeding sqlite3")?;
        let said = String::from_utf8_lossy(&done.stdout);
        ensure!(said.ends_with(&format!("ok\n{count}\n")), "the database is not right: {said}");
        Ok(rate(count, took))
    }
}
