//! House rules as checks. Each returns what it found wrong, one line per place, with what to change.

mod arrows;
mod docs;
mod files;

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;

/// Options of `cargo xtask tidy`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the checks whose name contains this.
    #[arg(long)]
    filter: Option<String>,
}

/// What a check found wrong; empty is good.
pub type Findings = Vec<String>;

/// One house rule.
pub struct Check {
    /// Short name, shown in results and accepted by `--filter`.
    pub name: &'static str,
    run: fn() -> Result<Findings>,
}

/// Every rule, cheap ones first.
pub const CHECKS: &[Check] = &[
    Check { name: "format", run: format },
    Check { name: "arrows", run: arrows::check },
    Check { name: "unsafe-forbidden", run: files::unsafe_forbidden },
    Check { name: "no-ambient-clock-or-randomness", run: files::ambient_refused },
    Check { name: "file-length", run: files::lengths },
    Check { name: "forbidden-words", run: files::forbidden_words },
    Check { name: "promises-have-tests", run: docs::promises_have_tests },
    Check { name: "links-resolve", run: docs::links_resolve },
    Check { name: "clippy", run: clippy },
];

impl Check {
    /// Runs the rule; a rule that cannot be checked is a finding, never a pass.
    pub fn findings(&self) -> Findings {
        (self.run)().unwrap_or_else(|error| vec![format!("could not be checked: {error:#}")])
    }
}

/// `cargo xtask tidy`
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut bad = 0;
    for check in CHECKS.iter().filter(|check| args.filter.as_ref().is_none_or(|f| check.name.contains(f))) {
        let findings = check.findings();
        report(check, &findings);
        bad += usize::from(!findings.is_empty());
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one check's result.
pub fn report(check: &Check, findings: &[String]) {
    println!("tidy {} ... {}", check.name, if findings.is_empty() { "ok" } else { "FAILED" });
    for finding in findings {
        println!("    {finding}");
    }
}

fn format() -> Result<Findings> {
    Ok(failed(shell::run(shell::cargo(["fmt", "--all", "--check"])), "run `cargo fmt --all`"))
}

fn clippy() -> Result<Findings> {
    let command =
        shell::cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    Ok(failed(shell::run(command), "its messages are above"))
}

fn failed(outcome: Result<()>, advice: &str) -> Findings {
    outcome.err().map(|error| format!("{error:#}; {advice}")).into_iter().collect()
}
