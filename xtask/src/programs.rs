//! Builds the programs that tests and demo run as processes.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;

/// Options of `cargo xtask build`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Build the host programs with optimisation, as demo and benches run them.
    #[arg(long)]
    release: bool,
    /// Only the programs that run on the host.
    #[arg(long)]
    host_only: bool,
}

/// The platform the static guest programs are built for. Naming it also keeps their flags from the build
/// scripts and macros, which cannot be static.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// `cargo xtask build`
pub fn run(args: &Args) -> Result<ExitCode> {
    host(args.release)?;
    if !args.host_only {
        guest()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The gateway and the agent for this host.
pub fn host(release: bool) -> Result<()> {
    let mut command = shell::cargo(["build", "--locked", "-p", "mooring-gateway", "-p", "mooring-agent"]);
    if release {
        command.arg("--release");
    }
    shell::run(command)
}

/// The agent and the command server as single static files that run in any guest. Always optimised: the guests
/// run under emulation, where an unoptimised agent would take ten times as long.
pub fn guest() -> Result<()> {
    static_programs(&["-p", "mooring-agent", "-p", "mooring-guest-exec"])
}

/// The program that measures files, as a single static file without its S3 client.
pub fn guest_bench() -> Result<()> {
    static_programs(&["-p", "mooring-bench", "--no-default-features"])
}

fn static_programs(which: &[&str]) -> Result<()> {
    let args = ["build", "--locked", "--release", "--target", GUEST_TARGET];
    let mut command = shell::cargo(args);
    command.args(which);
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    shell::run(command)
}
