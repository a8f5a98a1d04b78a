//! The figures: our mount and our S3 beside their peers and limits, in one run on one disk.
//!
//! The gateway, an agent over a unix socket, `rclone mount` and `s3fs` (both on our own S3 endpoint), a plain directory
//! and a bare socket get the same workload from `mooring-bench`; so do, in a VM, the agent over vsock, the guest's own
//! disk and bare vsock. Everything is built with optimisation, lives under `target/bench` on one disk, and is taken down
//! again however the run ends.

mod guest;
mod sources;
mod stage;
mod watch;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use self::sources::Sources;
use self::stage::Stage;
use crate::shell;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Something else than mounts, S3 and guests.
    #[arg(value_enum)]
    what: Option<What>,
    /// With `memory`: how long.
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u32,
    /// Small sizes: whether it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only the mounts on this host, only S3, or only the mounts in a VM.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Leave out rclone and s3fs, which take most of the time.
    #[arg(long)]
    no_peers: bool,
    /// Print JSON to standard output and the tables to standard error.
    #[arg(long)]
    json: bool,
}

/// What to measure instead of mounts, S3 and guests.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The store alone, beside the raw disk and what one core can hash and seal.
    Store,
    /// Memory of gateway and agents under a mixed load, with a thousand buckets that come and go.
    Memory,
    /// From the death of a gateway to the first write that another serves.
    Takeover,
}

/// A part of the figures.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Mounts on this host, and the disk.
    Files,
    /// S3, and the disk.
    S3,
    /// Mounts in a VM, its own disk, and bare vsock.
    Guest,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Files => "files",
            Part::S3 => "s3",
            Part::Guest => "guest",
        }
    }
}

/// `cargo xtask bench`
pub fn run(args: &Args) -> Result<ExitCode> {
    let me = shell::output(shell::command("id", ["-u"]))?;
    ensure!(me.trim() == "0", "run as root: caches are dropped between steps");
    match args.what {
        None => {}
        Some(What::Store) => return store(args.quick),
        Some(What::Memory) => return memory(args.minutes),
        Some(What::Takeover) => return takeover(),
    }
    let parts: Vec<Part> = [Part::Files, Part::S3, Part::Guest]
        .into_iter()
        .filter(|part| args.only.is_none_or(|only| only == *part))
        .collect();
    let mut packages = vec![("git", "clones are measured"), ("sqlite3", "transactions are measured")];
    if !args.no_peers && parts.contains(&Part::Files) {
        packages.extend([("rclone", "a peer"), ("s3fs", "a peer")]);
    }
    crate::setup::ensure_packages(&packages)?;
    build()?;
    if parts.contains(&Part::Guest) {
        guest::build()?;
    }
    let dir = stage::clear()?;
    let sources = Sources::make(&dir)?;
    let mut measured = Vec::new();
    for part in parts {
        eprintln!("\n{}", part.name());
        let sheets = match part {
            Part::Files => Stage::set(&dir)?.files(args, &sources)?,
            Part::S3 => Stage::set(&dir)?.s3(args)?,
            Part::Guest => guest::measure(&dir, args.quick, &sources)?,
        };
        measured.push((part, sheets));
    }
    report(args, &measured)?;
    Ok(ExitCode::SUCCESS)
}

/// The store's own bench, on the disk that the target directory is on.
fn store(quick: bool) -> Result<ExitCode> {
    let dir = stage::clear()?;
    let mut command = shell::cargo(["bench", "--locked", "-p", "mooring-store", "--bench", "store", "--"]);
    command.args(quick.then_some("--quick")).env("MOORING_BENCH_DIR", dir);
    shell::run(command)?;
    Ok(ExitCode::SUCCESS)
}

/// Memory over time. The agents are mounted, the gateway answers S3.
fn memory(minutes: u32) -> Result<ExitCode> {
    build()?;
    let example = ["build", "--locked", "--release", "-p", "mooring-tests", "--example", "steady"];
    shell::run(shell::cargo(example))?;
    let mut command = Command::new(program("examples/steady"));
    command.arg(minutes.to_string());
    shell::run(command)?;
    Ok(ExitCode::SUCCESS)
}

/// Five take-overs of optimised gateways, by the test that proves them.
fn takeover() -> Result<ExitCode> {
    build()?;
    const TEST: &str = "a_killed_home_is_followed_by_the_other_and_nothing_synced_is_missing";
    for _ in 0..5 {
        let test = [
            "test",
            "--locked",
            "-p",
            "mooring-tests",
            "--test",
            "homes",
            "--",
            "--exact",
            TEST,
            "--nocapture",
        ];
        let mut command = shell::cargo(test);
        command.env("MOORING_BIN_DIR", shell::target_dir().join("release"));
        let said = shell::output(command)?;
        let line = said.lines().find(|line| line.starts_with("from kill"));
        println!("{}", line.context("the test did not say how long it took")?);
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    let packages = ["-p", "mooring-gateway", "-p", "mooring-agent", "-p", "mooring-bench"];
    let mut command = shell::cargo(["build", "--locked", "--release"]);
    command.args(packages);
    shell::run(command)
}

fn program(name: &str) -> String {
    shell::target_dir().join("release").join(name).display().to_string()
}

/// A program that is killed when it takes longer than `seconds`: nothing here may wait for ever.
fn limited(seconds: u64, program: &str) -> Command {
    let mut command = Command::new("timeout");
    // In the foreground, so that the terminal's signals reach it.
    command.args(["--foreground", "-k", "5"]).arg(seconds.to_string()).arg(program).stdin(Stdio::null());
    command
}

fn report(args: &Args, measured: &[(Part, Vec<PathBuf>)]) -> Result<()> {
    let mut document = serde_json::Map::new();
    for (part, sheets) in measured {
        let table = |form: &[&str]| {
            let mut command = Command::new(program("mooring-bench"));
            command.arg("table").args(form).args(sheets);
            shell::output(command)
        };
        let text = table(&[])?;
        if args.json {
            eprintln!("\n## {}\n\n{text}", part.name());
            let sheets = serde_json::from_str(&table(&["--json"])?).context("the sheets as JSON")?;
            document.insert(part.name().to_owned(), sheets);
        } else {
            println!("\n## {}\n\n{text}", part.name());
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(())
}
