//! Documentation that cannot drift: promises name their tests, links lead somewhere.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::{Findings, files};
use crate::shell;

/// Pages whose every `## ` heading stands beside tests: what is promised, and what lies on the disk.
const PAGES: [&str; 2] = ["docs/semantics.md", "docs/disk-format.md"];

/// Every promise (a `## ` heading of [`PAGES`]) names at least one test as `` `path/file.rs::name` ``, and every test
/// named there exists.
pub fn promises_have_tests() -> Result<Findings> {
    let mut findings = Vec::new();
    for name in PAGES {
        let page = files::text(name)?.with_context(|| format!("{name} is not text"))?;
        findings.extend(tests_of(name, &page));
    }
    Ok(findings)
}

fn tests_of(page_name: &str, page: &str) -> Findings {
    let mut findings = Vec::new();
    let mut sections = page.split("\n## ");
    sections.next();
    let mut promises = 0;
    for section in sections {
        promises += 1;
        let heading = section.lines().next().unwrap_or_default();
        let tests: Vec<_> = code_spans(section).filter_map(|span| span.split_once(".rs::")).collect();
        if tests.is_empty() {
            findings.push(format!("{page_name}: \"{heading}\" names no test; add `path/file.rs::test_name`"));
        }
        for (file, name) in tests {
            let path = format!("{file}.rs");
            let there = files::text(&path).ok().flatten().is_some_and(|text| has_test(&text, name));
            if !there {
                findings.push(format!("{page_name}: \"{heading}\" names {path}::{name}, which is no test"));
            }
        }
    }
    if promises == 0 {
        findings.push(format!("{page_name} holds no promise (a `## ` heading)"));
    }
    findings
}

/// Whether `text` has a function of that name with a test attribute in the lines above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let signature = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
    lines.iter().enumerate().any(|(at, line)| {
        let above = lines.iter().take(at).rev().take(4);
        line.contains(&signature) && above.clone().any(|l| l.starts_with("#[") && l.contains("test"))
            // Property tests carry their attribute in a macro body, commonly with a strategy on the same line.
            || line.contains(&signature) && text.contains("proptest!")
    })
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Relative links in tracked Markdown lead to files that exist.
pub fn links_resolve() -> Result<Findings> {
    let mut findings = Vec::new();
    for path in files::tracked()?.iter().filter(|path| path.ends_with(".md")) {
        let text = files::text(path)?.unwrap_or_default();
        for target in links(&text) {
            let outside = target.contains("://") || target.starts_with("mailto:") || target.starts_with('#');
            let file = target.split('#').next().unwrap_or_default();
            if !outside && !resolves(path, file) {
                findings.push(format!("{path}: link to `{target}` leads nowhere"));
            }
        }
    }
    Ok(findings)
}

/// The targets of inline links, outside fenced code.
fn links(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced {
            let rests = line.split("](").skip(1);
            found.extend(rests.filter_map(|rest| rest.split(')').next()).filter_map(|t| t.split(' ').next()));
        }
    }
    found
}

fn resolves(page: &str, target: &str) -> bool {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return false;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    shell::root().join(path).exists()
}
