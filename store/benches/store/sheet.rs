//! Rows of figures, and the table they make.

use std::time::Duration;

/// What was measured, beside what it is measured against.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    pub ours: f64,
    /// The limit in the same run, and what it is.
    pub limit: Option<(f64, &'static str)>,
}

/// All rows of a run.
#[derive(Default)]
pub struct Sheet {
    rows: Vec<Row>,
}

impl Sheet {
    /// A rate, higher is better.
    pub fn rate(&mut self, what: &str, unit: &'static str, ours: f64, limit: Option<(f64, &'static str)>) {
        let ratio = limit.map(|(limit, name)| format!("  {:.2} of {name}'s {limit:.0}", ours / limit));
        eprintln!("{what:<44} {ours:>12.0} {unit}{}", ratio.unwrap_or_default());
        self.rows.push(Row { what: what.to_owned(), unit, ours, limit });
    }

    /// The median and the 99th percentile of times, microseconds, lower is better.
    pub fn times(&mut self, what: &str, ours: &mut [Duration], limit: &mut [Duration], name: &'static str) {
        for (percent, label) in [(50, "p50"), (99, "p99")] {
            let (ours, limit) = (micros(ours, percent), micros(limit, percent));
            eprintln!("{what:<39} {label}  {ours:>12.0} us  {name} {limit:.0}");
            self.rows.push(Row {
                what: format!("{what}, {label}"),
                unit: "us",
                ours,
                limit: Some((limit, name)),
            });
        }
    }

    /// A plain number.
    pub fn number(&mut self, what: &str, unit: &'static str, ours: f64) {
        eprintln!("{what:<44} {ours:>12.2} {unit}");
        self.rows.push(Row { what: what.to_owned(), unit, ours, limit: None });
    }

    /// The table, as docs/benchmarks.md has it.
    pub fn print(&self) {
        println!("| metric | unit | store | limit | ratio |\n|---|---|---|---|---|");
        for Row { what, unit, ours, limit } in &self.rows {
            // For times the other's divided by ours, so that above 1 we are ahead.
            let ratio = |limit: f64| if *unit == "us" { limit / ours } else { ours / limit };
            let (limit, ratio) = match limit {
                Some((limit, name)) => {
                    (format!("{} ({name})", digits(*limit)), format!("{:.2}", ratio(*limit)))
                }
                None => ("-".to_owned(), "-".to_owned()),
            };
            println!("| {what} | {unit} | {} | {limit} | {ratio} |", digits(*ours));
        }
    }
}

fn digits(number: f64) -> String {
    if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}

fn micros(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
