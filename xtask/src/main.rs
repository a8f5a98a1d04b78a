//! The project's commands. `cargo xtask --help` is generated from the doc comments below; each command is one file.

mod bench;
mod demo;
mod guest;
mod programs;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    /// Install what tests and demo need: Debian packages and pinned tools. Asks for sudo only when something is missing.
    Setup(setup::Args),
    /// Check the house rules: format, lints, dependency arrows, file lengths, documentation against tests.
    Tidy(tidy::Args),
    /// Build the programs as tests and demo use them: gateway, agent, and the static programs that run in guests.
    Build(programs::Args),
    /// Build the guest image that tests and demo boot, from Debian packages, or find it in the cache.
    Guest(guest::Args),
    /// Show the whole path: two tenants, two real VMs, real data, and a verdict.
    Demo(demo::Args),
    /// Run everything that proves the promises; the last line is `N passed, N failed, N skipped`.
    Test(test::Args),
    /// Measure mounts and S3 beside their peers and limits; prints ratios of one run.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Setup(args) => setup::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Build(args) => programs::run(&args),
        Task::Guest(args) => guest::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
