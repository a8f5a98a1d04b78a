//! Starts the test runner of this machine: cargo-nextest when it is there (a process and a time limit for each
//! test), otherwise `cargo test`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::outcome::{self, Failure, Outcome};
use crate::shell;

/// Which tests to run.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The tier's name, for the command that runs a failure again.
    pub tier: &'a str,
    /// What cargo is told: packages and test binaries.
    pub cargo_args: &'a [String],
    /// Only tests whose name contains this.
    pub filter: Option<&'a str>,
    /// Whether the tests must have the machine to themselves, one after another.
    pub alone: bool,
    /// Feeds every generator of random cases.
    pub seed: u64,
}

impl Selection<'_> {
    fn rerun(&self, test: &str) -> String {
        let test = test.replace('\'', r"'\''");
        format!("cargo xtask test --tier {} --filter '{test}' --seed {}", self.tier, self.seed)
    }

    /// Runs the tests and reports every one, also after failures.
    pub fn run(&self) -> Result<Outcome> {
        let nextest =
            shell::command("cargo", ["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
        if nextest { self.nextest() } else { self.cargo_test("--tests") }
    }

    /// Runs the libraries' documentation examples, which nextest cannot.
    pub fn run_examples(&self) -> Result<Outcome> {
        self.cargo_test("--doc")
    }

    fn nextest(&self) -> Result<Outcome> {
        let mut command = shell::cargo(["nextest", "run", "--locked", "--no-fail-fast", "--no-tests=pass"]);
        command.args(self.cargo_args).args([
            "--message-format",
            "libtest-json",
            "--message-format-version",
            "0.1",
        ]);
        if self.alone {
            command.arg("--test-threads=1");
        }
        command.args(self.filter);
        command.env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1").stderr(Stdio::inherit());
        self.collect(command, false)
    }

    fn cargo_test(&self, kind: &str) -> Result<Outcome> {
        let mut command = shell::cargo(["test", "--locked", "--no-fail-fast"]);
        command.args(self.cargo_args);
        // Naming test binaries already says which targets are meant.
        if !self.cargo_args.iter().any(|arg| arg == "--test") {
            command.arg(kind);
        }
        command.arg("--").args(self.filter);
        if self.alone {
            command.arg("--test-threads=1");
        }
        command.stderr(Stdio::inherit());
        self.collect(command, true)
    }

    /// Reads results while they come, so that the terminal shows progress and a long run is not held in memory.
    fn collect(&self, mut command: Command, human: bool) -> Result<Outcome> {
        seed(&mut command, self.seed);
        // Errors that tests return say what happened; the way through the runtime to them says nothing more.
        command.env("RUST_LIB_BACKTRACE", "0");
        let words = shell::shown(&command);
        eprintln!("$ {words}");
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{words}`"))?;
        let stdout = child.stdout.take().context("standard output was asked for")?;
        let lines = BufReader::new(stdout).lines().map_while(Result::ok).inspect(|line| {
            if human {
                println!("{line}");
            }
        });
        let rerun = |test: &str| self.rerun(test);
        let mut outcome =
            if human { outcome::read_lines(lines, rerun) } else { outcome::read_events(lines, rerun) };
        let status = child.wait().with_context(|| format!("waiting for `{words}`"))?;
        // Tests that do not compile or a binary that dies leave no event; the exit status still knows.
        if !status.success() && outcome.failures.is_empty() {
            outcome
                .failures
                .push(Failure { name: format!("{} tests ended with {status}", self.tier), rerun: words });
        }
        Ok(outcome)
    }
}

/// Every source of random cases in the tests reads one of these.
fn seed(command: &mut Command, seed: u64) {
    for name in ["MOORING_SEED", "PROPTEST_RNG_SEED", "BOLERO_RANDOM_SEED"] {
        command.env(name, seed.to_string());
    }
}
