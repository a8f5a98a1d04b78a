//! The story for people: what the product does, on real parts, in minutes. Its exit status is the verdict.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{guest, programs, setup, shell};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// A large file of 32 MiB instead of 200 MiB, and a smaller database: the same steps, sooner done.
    #[arg(long)]
    small: bool,
    /// Install nothing: say what is missing and stop.
    #[arg(long)]
    no_setup: bool,
}

/// Two guests of 512 MiB, their emulators, and the gateway.
const MEMORY_MIB: u64 = 2048;
/// Programs, guest image and the story's data.
const DISK_MIB: u64 = 8192;

/// `cargo xtask demo`
pub fn run(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    check_machine()?;
    if args.no_setup {
        check_installed()?;
    } else {
        setup::ensure()?;
    }
    programs::host(false)?;
    programs::guest()?;
    guest::ensure_default()?;
    shell::run(shell::cargo(BUILD))?;
    eprintln!("everything is built ({:.0} s); the story begins", began.elapsed().as_secs_f64());

    // Not by cargo: a signal should reach the story itself, which then takes down what it has started.
    let mut story = shell::command(&shell::target_dir().join("debug/examples/demo").to_string_lossy(), NONE);
    if args.small {
        story.arg("--small");
    }
    let ended = story.status().context("cannot start the story")?;
    println!("logs of gateway, agents and VMs: {}", shell::target_dir().join("test-logs").display());
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const BUILD: [&str; 6] = ["build", "--locked", "-p", "mooring-tests", "--example", "demo"];
const NONE: [&str; 0] = [];

/// What no package brings.
fn check_machine() -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the demo's guests are x86-64; so must the host be"
    );
    let info = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let free = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = free.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let free = free.context("/proc/meminfo does not say what memory is available")? >> 10;
    ensure!(
        free >= MEMORY_MIB,
        "{free} MiB of memory are available; two VMs and the gateway need {MEMORY_MIB}"
    );
    let free = free_disk_mib(&shell::root())?;
    ensure!(
        free >= DISK_MIB,
        "{free} MiB are free in {}; building and running needs {DISK_MIB}",
        shell::root().display()
    );
    Ok(())
}

fn free_disk_mib(folder: &Path) -> Result<u64> {
    let said = shell::output(shell::command("df", ["--output=avail", "-BM", &folder.to_string_lossy()]))?;
    let last = said.lines().last().unwrap_or_default().trim().trim_end_matches('M');
    last.parse().with_context(|| format!("df said {said:?}"))
}

/// The packages and tools that `cargo xtask setup` installs.
fn check_installed() -> Result<()> {
    let missing = setup::missing()?;
    for what in &missing {
        eprintln!("missing: {what}");
    }
    ensure!(missing.is_empty(), "{} things are missing; run `cargo xtask setup`", missing.len());
    Ok(())
}
