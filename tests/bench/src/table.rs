//! Sheets side by side, with the ratio of the first to each other.

use comfy_table::{CellAlignment, Table, presets};

use crate::measure::{Measure, Outcome, Sheet};

/// How often better `a` is than `b` in the same figure: 2 means twice as good, whichever way the unit points.
fn ratio(a: &Measure, b: &Measure) -> f64 {
    if a.more_is_better { a.value / b.value } else { b.value / a.value }
}

/// One row per figure, one column per subject, and below it what a reader must know to compare them.
pub fn table(sheets: &[Sheet]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let Some((ours, others)) = sheets.split_first() else { return String::new() };
    let mut header = vec!["metric".to_owned(), "unit".to_owned(), ours.subject.clone()];
    header.extend(others.iter().flat_map(|s| [s.subject.clone(), format!("x {}", s.subject)]));
    table.set_header(header);
    for name in names(sheets) {
        let unit = sheets.iter().find_map(|s| figure(s, name)).map_or("", |m| m.unit.as_str());
        let mut row = vec![name.to_owned(), unit.to_owned(), cell(ours, name)];
        for other in others {
            row.push(cell(other, name));
            row.push(match (figure(ours, name), figure(other, name)) {
                (Some(a), Some(b)) => format!("{:.2}", ratio(a, b)),
                _ => "-".to_owned(),
            });
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    for note in notes(sheets) {
        text.push_str("\n- ");
        text.push_str(&note);
    }
    text
}

/// Every figure that any sheet has, in the order of the first that has it.
fn names(sheets: &[Sheet]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in sheets.iter().flat_map(|s| s.rows.iter().map(|row| &row.name).chain(&s.running)) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn figure<'a>(sheet: &'a Sheet, name: &str) -> Option<&'a Measure> {
    match sheet.get(name)? {
        Outcome::Figure(m) => Some(m),
        Outcome::Failed { .. } => None,
    }
}

fn cell(sheet: &Sheet, name: &str) -> String {
    match sheet.get(name) {
        None if sheet.running.as_deref() == Some(name) => "stuck".to_owned(),
        None => "-".to_owned(),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        Some(Outcome::Figure(m)) if m.value < 10.0 => format!("{:.2}", m.value),
        Some(Outcome::Figure(m)) => format!("{:.0}", m.value),
    }
}

/// Failures with their reasons, and figures that a slow subject took over less than the first one did.
fn notes(sheets: &[Sheet]) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(first) = sheets.first() else { return notes };
    for sheet in sheets {
        for row in &sheet.rows {
            match (&row.outcome, figure(first, &row.name)) {
                (Outcome::Failed { failed }, _) => {
                    notes.push(format!("{}: {} failed: {failed}", sheet.subject, row.name));
                }
                (Outcome::Figure(m), Some(ours)) if m.over < ours.over => notes.push(format!(
                    "{}: {} is a rate over {}, not {}",
                    sheet.subject,
                    row.name,
                    amount(m),
                    amount(ours)
                )),
                _ => {}
            }
        }
        if let Some(running) = &sheet.running {
            notes.push(format!("{}: stopped in \"{running}\", which did not end in time", sheet.subject));
        }
    }
    notes
}

fn amount(m: &Measure) -> String {
    if m.unit == "MiB/s" { format!("{} MiB", m.over >> 20) } else { m.over.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{rate, seconds};

    fn sheet(subject: &str, m: Measure) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::new(subject, None);
        sheet.take("x", || Ok(m))?;
        Ok(sheet)
    }

    #[test]
    fn a_ratio_above_one_always_means_better() -> anyhow::Result<()> {
        let less =
            [sheet("a", seconds(Duration::from_secs(2)))?, sheet("b", seconds(Duration::from_secs(6)))?];
        assert!(table(&less).contains("3.00"));
        let more =
            [sheet("a", rate(6, Duration::from_secs(1)))?, sheet("b", rate(2, Duration::from_secs(1)))?];
        assert!(table(&more).contains("3.00"));
        assert!(table(&more).contains("b: x is a rate over 2, not 6"));
        Ok(())
    }

    #[test]
    fn a_figure_only_a_limit_has_is_shown_and_a_stuck_one_named() -> anyhow::Result<()> {
        let mut slow = Sheet::new("b", None);
        slow.running = Some("untar".to_owned());
        let text = table(&[sheet("a", seconds(Duration::from_secs(1)))?, slow]);
        assert!(text.contains("untar") && text.contains("stuck"));
        Ok(())
    }
}
