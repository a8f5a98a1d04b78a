//! Says what happens while it happens, and remembers it for the table at the end.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Told {
    /// What was done.
    pub what: String,
    /// What came of it; for a failure the reason.
    pub came: String,
    /// How long it took.
    pub took: Duration,
    /// Whether it came out as it must.
    pub right: bool,
}

/// Prints every step with the time since the beginning, and keeps it.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
    told: Vec<Told>,
}

impl Default for Teller {
    fn default() -> Teller {
        Teller { began: Instant::now(), told: Vec::new() }
    }
}

impl Teller {
    /// Announces the steps that follow.
    pub fn chapter(&mut self, title: &str) {
        say(&format!("\n== {title}"));
    }

    /// Does one step. Its work returns what it made and what there is to say about it.
    pub async fn step<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        let since = self.began.elapsed();
        say(&format!("{:>7.1} s  {what}", since.as_secs_f64()));
        let done = work.await;
        let took = self.began.elapsed().saturating_sub(since);
        let (came, right) = match &done {
            Ok((_, came)) => (came.clone(), true),
            Err(error) => (format!("{error:#}"), false),
        };
        let mark = if right { "" } else { "FAILED: " };
        say(&format!("           {mark}{came} ({:.1} s)", took.as_secs_f64()));
        self.told.push(Told { what: what.to_owned(), came, took, right });
        done.map(|(made, _)| made).with_context(|| what.to_owned())
    }

    /// All steps so far.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// The steps as a table, one line each.
    pub fn table(&self) -> String {
        let wide = self.told.iter().map(|told| told.what.chars().count()).max().unwrap_or_default();
        let mut table = String::new();
        for told in &self.told {
            let verdict = if told.right { "ok" } else { "FAILED" };
            let came = told.came.lines().next().unwrap_or_default();
            let took = told.took.as_secs_f64();
            // Writing to a string does not fail.
            let _ = writeln!(table, "{verdict:<6}  {took:>6.1} s  {:<wide$}  {came}", told.what);
        }
        let all = self.began.elapsed().as_secs_f64();
        let _ = write!(table, "        {all:>6.1} s  in all");
        table
    }
}

/// A reader that went away (a closed pipe) is no reason to stop half-way.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn the_table_tells_failures_too() {
        let mut teller = Teller::default();
        teller.step("counts", async { Ok(((), "to three".to_owned())) }).await.unwrap();
        let failed = teller.step::<()>("counts on", async { anyhow::bail!("no numbers left\nat all") }).await;
        assert!(format!("{:#}", failed.unwrap_err()).contains("counts on: no numbers left"));
        let table = teller.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("ok ") && lines[0].ends_with("to three"), "{table}");
        assert!(lines[1].starts_with("FAILED") && lines[1].ends_with("no numbers left"), "{table}");
    }
}
