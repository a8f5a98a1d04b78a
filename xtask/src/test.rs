//! Everything that proves the promises, in tiers from cheap to dear. A failure never hides the ones after it.

mod outcome;
mod runner;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use self::outcome::{Failure, Outcome};
use self::runner::Selection;
use crate::{guest, programs, setup, shell, tidy};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Which tests to run.
    #[arg(long, value_enum, default_value_t = Tier::All)]
    tier: Tier,
    /// Only tests and rules whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Seed of the random tests; a failure prints the one that replays it.
    #[arg(long)]
    seed: Option<u64>,
    /// Count a skipped test as a failure.
    #[arg(long)]
    strict: bool,
    /// Install nothing; what is missing then fails its tests.
    #[arg(long)]
    no_setup: bool,
}

/// Tiers, from cheap to dear.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// The house rules.
    House,
    /// Unit, property and model tests of every crate, and documentation examples.
    Unit,
    /// Real mounts and real S3 clients on this host.
    Mount,
    /// Real virtual machines, one test after another.
    Vm,
    /// All of them.
    All,
}

impl Tier {
    fn includes(self, tier: Tier) -> bool {
        self == tier || self == Tier::All
    }

    fn run(self, args: &Args, seed: u64) -> Result<Outcome> {
        match self {
            Tier::House => house(args),
            Tier::Unit => unit(args, seed),
            Tier::Mount => mount(args, seed),
            Tier::Vm => vm(args, seed),
            Tier::All => bail!("all is no tier of its own"),
        }
    }
}

/// The crate of the end-to-end tests; its test binaries named `vm_*` are the VM tier, the others the mount tier.
const END_TO_END: &str = "mooring-tests";

/// `cargo xtask test`
pub fn run(args: &Args) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let mut sum = Outcome::default();
    if !args.no_setup && args.tier != Tier::House {
        step(&mut sum, "setup", "cargo xtask setup", setup::ensure);
    }
    for tier in
        [Tier::House, Tier::Unit, Tier::Mount, Tier::Vm].into_iter().filter(|tier| args.tier.includes(*tier))
    {
        let name = tier.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let began = Instant::now();
        eprintln!("== {name} tests");
        match tier.run(args, seed) {
            Ok(outcome) => {
                eprintln!("== {name}: {} in {:.0} s", outcome.line(), began.elapsed().as_secs_f64());
                sum.add(outcome);
            }
            Err(error) => sum.failures.push(Failure {
                name: format!("{name} tests could not run: {error:#}"),
                rerun: format!("cargo xtask test --tier {name} --seed {seed}"),
            }),
        }
    }
    if args.strict {
        let rerun =
            |name: &String| Failure { name: format!("skipped: {name}"), rerun: "see its reason".to_owned() };
        sum.failures.extend(sum.skipped.iter().map(rerun));
        sum.skipped.clear();
    }
    if sum.line() == Outcome::default().line() {
        let rerun = "cargo xtask test --help".to_owned();
        sum.failures.push(Failure { name: "no test has such a name; nothing was proven".to_owned(), rerun });
    }
    Ok(verdict(&sum))
}

/// Replaying is by `--seed`; a new run should try new cases.
fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

fn verdict(sum: &Outcome) -> ExitCode {
    for skipped in &sum.skipped {
        println!("skipped: {skipped}");
    }
    for failure in &sum.failures {
        println!("failed: {}\n    again: {}", failure.name, failure.rerun);
    }
    println!("{}", sum.line());
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Preparation is not a test: it counts only when it fails.
fn step(sum: &mut Outcome, name: &str, rerun: &str, run: impl FnOnce() -> Result<()>) {
    if let Err(error) = run() {
        sum.failures.push(Failure { name: format!("{name}: {error:#}"), rerun: rerun.to_owned() });
    }
}

fn house(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let wanted = |check: &&tidy::Check| args.filter.as_ref().is_none_or(|f| check.name.contains(f.as_str()));
    for check in tidy::CHECKS.iter().filter(wanted) {
        let findings = check.findings();
        tidy::report(check, &findings);
        if findings.is_empty() {
            outcome.passed += 1;
        } else {
            let rerun = format!("cargo xtask tidy --filter {}", check.name);
            outcome.failures.push(Failure { name: format!("tidy {}", check.name), rerun });
        }
    }
    Ok(outcome)
}

/// All crates at once, so that dependencies are built once; when that does not even compile, one by one, so
/// that a crate that does not build hides no other.
fn unit(args: &Args, seed: u64) -> Result<Outcome> {
    let all = ["--workspace", "--exclude", END_TO_END].map(str::to_owned);
    let mut sum = select("unit", &all, args, seed, false).run()?;
    if sum.passed == 0 && !sum.failures.is_empty() {
        sum = Outcome::default();
        for package in members()?.keys().filter(|name| *name != END_TO_END) {
            sum.add(select("unit", &["-p".to_owned(), package.clone()], args, seed, false).run()?);
        }
    }
    sum.add(select("unit", &all, args, seed, false).run_examples()?);
    Ok(sum)
}

fn mount(args: &Args, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    step(&mut outcome, "programs for the mount tests", "cargo xtask build --host-only", || {
        programs::host(false)
    });
    outcome.add(end_to_end("mount", args, seed, |binary| !binary.starts_with("vm_"))?);
    Ok(outcome)
}

fn vm(args: &Args, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    step(&mut outcome, "programs for the VM tests", "cargo xtask build", || programs::host(false));
    step(&mut outcome, "programs for the guests", "cargo xtask build", programs::guest);
    step(&mut outcome, "guest images", "cargo xtask guest", guest::ensure);
    outcome.add(end_to_end("vm", args, seed, |binary| binary.starts_with("vm_"))?);
    Ok(outcome)
}

fn end_to_end(tier: &str, args: &Args, seed: u64, wanted: impl Fn(&str) -> bool) -> Result<Outcome> {
    let members = members()?;
    let binaries =
        members.get(END_TO_END).with_context(|| format!("{END_TO_END} is not in the workspace"))?;
    let mut cargo_args = vec!["-p".to_owned(), END_TO_END.to_owned()];
    if tier == "mount" {
        cargo_args.push("--lib".to_owned());
    }
    for binary in binaries.iter().filter(|name| wanted(name)) {
        cargo_args.extend(["--test".to_owned(), binary.clone()]);
    }
    select(tier, &cargo_args, args, seed, tier == "vm").run()
}

fn select<'a>(
    tier: &'a str,
    cargo_args: &'a [String],
    args: &'a Args,
    seed: u64,
    alone: bool,
) -> Selection<'a> {
    Selection { tier, cargo_args, filter: args.filter.as_deref(), alone, seed }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The workspace's crates, each with its integration test binaries.
fn members() -> Result<BTreeMap<String, Vec<String>>> {
    let text = shell::output(shell::cargo(["metadata", "--format-version=1", "--no-deps", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let tests = |package: &Package| {
        let targets = package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
        targets.map(|target| target.name.clone()).collect()
    };
    Ok(metadata.packages.iter().map(|package| (package.name.clone(), tests(package))).collect())
}
