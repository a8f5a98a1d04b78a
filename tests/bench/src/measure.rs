//! One figure, one sheet of figures, and the table that sets sheets side by side.

use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// `MiB/s`, `/s`, `us` or `s`.
    pub unit: &'static str,
    /// In that unit.
    pub value: f64,
    /// Whether a larger value is the better one.
    pub more_is_better: bool,
}

/// Amount per second.
pub fn per_second(unit: &'static str, amount: f64, took: Duration) -> Measure {
    Measure { unit, value: amount / took.as_secs_f64().max(1e-9), more_is_better: true }
}

/// The value below which the share `p` of all lies. Sorts.
pub fn percentile(all: &mut [Duration], p: f64) -> Duration {
    all.sort_unstable();
    let at = ((all.len() as f64 * p) as usize).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or_default()
}

/// The figures of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Sheet {
    /// What was measured.
    pub subject: String,
    /// In the order they were taken; a failure keeps its reason.
    pub rows: Vec<(String, Result<Measure, String>)>,
}

impl Sheet {
    /// An empty sheet.
    pub fn new(subject: &str) -> Sheet {
        Sheet { subject: subject.to_owned(), rows: Vec::new() }
    }

    /// Takes one figure; a failure is a row too.
    pub fn take(&mut self, name: &str, work: impl FnOnce() -> Result<Measure>) {
        let outcome = work().map_err(|e| format!("{e:#}"));
        match &outcome {
            Ok(m) => eprintln!("  {:<16} {name:<40} {:>12.1} {}", self.subject, m.value, m.unit),
            Err(e) => eprintln!("  {:<16} {name:<40} failed: {e}", self.subject),
        }
        self.rows.push((name.to_owned(), outcome));
    }

    fn get(&self, name: &str) -> Option<&Result<Measure, String>> {
        self.rows.iter().find(|(n, _)| n == name).map(|(_, m)| m)
    }
}

/// How often better `a` is than `b` in the same figure: 2 means twice as good, whichever way the unit points.
fn ratio(a: Measure, b: Measure) -> f64 {
    if a.more_is_better { a.value / b.value } else { b.value / a.value }
}

/// The table: one row per figure, one column per subject, and the ratio of the first subject to each other.
pub fn table(sheets: &[Sheet]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let Some((ours, others)) = sheets.split_first() else { return String::new() };
    let mut header = vec!["metric".to_owned(), "unit".to_owned(), ours.subject.clone()];
    header.extend(others.iter().flat_map(|s| [s.subject.clone(), format!("x {}", s.subject)]));
    table.set_header(header);
    for (name, first) in &ours.rows {
        let mut row = vec![name.clone(), String::new(), cell(Some(first))];
        if let Ok(m) = first {
            row[1] = m.unit.to_owned();
        }
        for other in others {
            let theirs = other.get(name);
            row.push(cell(theirs));
            row.push(match (first, theirs) {
                (Ok(a), Some(Ok(b))) => format!("{:.2}", ratio(*a, *b)),
                _ => "-".to_owned(),
            });
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn cell(m: Option<&Result<Measure, String>>) -> String {
    match m {
        None => "-".to_owned(),
        Some(Err(_)) => "failed".to_owned(),
        Some(Ok(m)) if m.value < 10.0 => format!("{:.2}", m.value),
        Some(Ok(m)) => format!("{:.0}", m.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(subject: &str, value: f64, more_is_better: bool) -> Sheet {
        let m = Measure { unit: "s", value, more_is_better };
        Sheet { subject: subject.into(), rows: vec![("x".into(), Ok(m))] }
    }

    #[test]
    fn a_ratio_above_one_always_means_better() {
        assert!(table(&[sheet("a", 2.0, false), sheet("b", 4.0, false)]).contains("2.00"));
        assert!(table(&[sheet("a", 8.0, true), sheet("b", 4.0, true)]).contains("2.00"));
    }

    #[test]
    fn percentiles_of_few_values() {
        let mut one = [Duration::from_secs(1)];
        assert_eq!(percentile(&mut one, 0.99), Duration::from_secs(1));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }
}
