//! One figure, and the sheet of figures of one subject.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// `MiB/s`, `/s`, `keys/s`, `us` or `s`.
    pub unit: String,
    /// In that unit.
    pub value: f64,
    /// Whether a larger value is the better one.
    pub more_is_better: bool,
    /// How many bytes, files, reads or transactions it was taken over.
    pub over: u64,
}

/// Amount per second.
pub fn per_second(unit: &str, amount: f64, over: u64, took: Duration) -> Measure {
    let value = amount / took.as_secs_f64().max(1e-9);
    Measure { unit: unit.to_owned(), value, more_is_better: true, over }
}

/// Bytes in MiB per second.
pub fn mib_per_second(bytes: u64, took: Duration) -> Measure {
    per_second("MiB/s", bytes as f64 / f64::from(1 << 20), bytes, took)
}

/// Whole things per second.
pub fn rate(count: usize, took: Duration) -> Measure {
    per_second("/s", count as f64, count as u64, took)
}

/// The latency below which the share `p` of `all` lies. Sorts.
pub fn latency(all: &mut [Duration], p: f64) -> Measure {
    let value = percentile(all, p).as_secs_f64() * 1e6;
    Measure { unit: "us".to_owned(), value, more_is_better: false, over: all.len() as u64 }
}

/// A time that is the figure.
pub fn seconds(took: Duration) -> Measure {
    Measure { unit: "s".to_owned(), value: took.as_secs_f64(), more_is_better: false, over: 1 }
}

fn percentile(all: &mut [Duration], p: f64) -> Duration {
    all.sort_unstable();
    let at = ((all.len() as f64 * p) as usize).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or_default()
}

/// What came of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A figure.
    Figure(Measure),
    /// None, and why.
    Failed {
        /// The reason.
        failed: String,
    },
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The figures of one subject. It is saved at every step, so that a subject that hangs or is killed keeps the figures
/// it has given, and says at which one it stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sheet {
    /// Who was measured.
    pub subject: String,
    /// The row that was being taken when this was saved.
    pub running: Option<String>,
    /// In the order they were taken.
    pub rows: Vec<Row>,
    #[serde(skip)]
    save: Option<PathBuf>,
}

impl Sheet {
    /// An empty sheet, kept in the file `save`.
    pub fn new(subject: &str, save: Option<&Path>) -> Sheet {
        Sheet { subject: subject.to_owned(), save: save.map(Path::to_owned), ..Sheet::default() }
    }

    /// Reads one that was saved.
    pub fn read(path: &Path) -> Result<Sheet> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not a sheet", path.display()))
    }

    /// Takes one figure; a failure is a row too.
    pub fn take(&mut self, name: &str, work: impl FnOnce() -> Result<Measure>) -> Result<()> {
        self.running = Some(name.to_owned());
        self.store()?;
        let taken = work();
        self.add(name, taken)
    }

    /// Adds a figure that was taken together with another.
    pub fn add(&mut self, name: &str, taken: Result<Measure>) -> Result<()> {
        let outcome = match taken {
            Ok(m) => Outcome::Figure(m),
            Err(e) => Outcome::Failed { failed: format!("{e:#}") },
        };
        match &outcome {
            Outcome::Figure(m) => eprintln!("  {:<10} {name:<40} {:>12.1} {}", self.subject, m.value, m.unit),
            Outcome::Failed { failed } => eprintln!("  {:<10} {name:<40} failed: {failed}", self.subject),
        }
        self.rows.push(Row { name: name.to_owned(), outcome });
        self.running = None;
        self.store()
    }

    /// The row of this name.
    pub fn get(&self, name: &str) -> Option<&Outcome> {
        self.rows.iter().find(|row| row.name == name).map(|row| &row.outcome)
    }

    fn store(&self) -> Result<()> {
        let Some(path) = &self.save else { return Ok(()) };
        let next = path.with_extension("new");
        fs::write(&next, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&next, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_values() {
        let mut one = [Duration::from_secs(1)];
        assert_eq!(percentile(&mut one, 0.99), Duration::from_secs(1));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_sheet_can_be_read_back() -> Result<()> {
        let path = std::env::temp_dir().join(format!("mooring-bench-{}.json", std::process::id()));
        let mut sheet = Sheet::new("a", Some(&path));
        sheet.take("good", || Ok(rate(10, Duration::from_secs(2))))?;
        sheet.take("bad", || anyhow::bail!("no room"))?;
        let back = Sheet::read(&path)?;
        fs::remove_file(&path)?;
        assert_eq!((back.rows, back.running), (sheet.rows, None));
        Ok(())
    }
}
