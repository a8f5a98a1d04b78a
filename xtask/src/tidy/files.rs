//! Rules on tracked files: length, words that must not appear, and the fences of the pure crates.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Findings;
use crate::shell;

/// Past this a file is named, so that someone thinks about cutting it.
const LONG: usize = 300;
/// Past this the check fails, unless the file is listed with a reason.
const TOO_LONG: usize = 500;

/// Crates whose correctness rests on the compiler alone.
const WITHOUT_UNSAFE: &[&str] = &["policy", "protocol", "store"];
/// Crates whose behaviour must be replayable: time and randomness come in from outside.
const WITHOUT_AMBIENT: &[&str] = &["policy", "store"];
/// What their clippy.toml must refuse.
const AMBIENT: &[&str] = &["std::time::SystemTime::now", "std::time::Instant::now"];

/// Fragments that tie a file to one machine or one package registry. Each is given in two halves, so that this
/// table does not find itself.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("crates", ".io", "a package registry: name the crate, not the host"),
    ("pypi", ".org", "a package registry: name the package, not the host"),
    ("pythonhosted", ".org", "a package registry: name the package, not the host"),
    ("npmjs", ".org", "a package registry: name the package, not the host"),
    ("deb.debian", ".org", "a package mirror: derive it from the machine's apt sources"),
    ("snapshot.debian", ".org", "a package mirror: derive it from the machine's apt sources"),
];

/// Exceptions from the rules, each with a reason: `xtask/tidy.toml`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Exceptions {
    /// Edges of the dependency graph beyond the arrows.
    #[serde(default)]
    pub arrow: Vec<Arrow>,
    /// Files over the ceiling.
    #[serde(default)]
    pub long_file: Vec<LongFile>,
}

/// One excepted edge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrow {
    /// The crate that uses.
    pub from: String,
    /// The crate that is used.
    pub to: String,
    #[serde(rename = "reason")]
    _reason: String,
}

/// One excepted file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongFile {
    /// Path from the root.
    pub path: String,
    #[serde(rename = "reason")]
    _reason: String,
}

/// Reads the exceptions; an entry without a reason does not parse.
pub fn exceptions() -> Result<Exceptions> {
    let path = shell::root().join("xtask/tidy.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

/// The files of the repository: tracked, and new ones that git would add.
pub fn tracked() -> Result<Vec<String>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let list = shell::output(shell::command("git", args))?;
    Ok(list
        .split('\0')
        .filter(|p| !p.is_empty() && shell::root().join(p).is_file())
        .map(str::to_owned)
        .collect())
}

/// The text of a tracked file, or nothing for a binary one.
pub fn text(path: &str) -> Result<Option<String>> {
    let bytes = fs::read(shell::root().join(path)).with_context(|| format!("reading {path}"))?;
    Ok(String::from_utf8(bytes).ok())
}

/// Rust files keep to a length one can hold in mind.
pub fn lengths() -> Result<Findings> {
    let listed = exceptions()?.long_file;
    let mut findings = Vec::new();
    for path in tracked()?.iter().filter(|path| path.ends_with(".rs")) {
        let lines = text(path)?.unwrap_or_default().lines().count();
        let excepted = listed.iter().any(|file| file.path == *path);
        if lines > TOO_LONG && !excepted {
            findings.push(format!("{path}: {lines} lines, ceiling {TOO_LONG}; cut it along its concerns"));
        } else if lines > LONG {
            println!("    note: {path} has {lines} lines");
        } else if excepted && lines <= TOO_LONG {
            findings.push(format!("{path}: no longer over the ceiling; take it out of xtask/tidy.toml"));
        }
    }
    Ok(findings)
}

/// No file names one machine's paths or a registry's hosts. `Cargo.lock` is cargo's own.
pub fn forbidden_words() -> Result<Findings> {
    let mut findings = Vec::new();
    for path in tracked()?.iter().filter(|path| !path.ends_with("Cargo.lock")) {
        let Some(text) = text(path)? else { continue };
        for (number, line) in text.lines().enumerate() {
            for (head, tail, why) in FORBIDDEN {
                if line.contains(&format!("{head}{tail}")) {
                    findings.push(format!("{path}:{}: `{head}{tail}` is {why}", number + 1));
                }
            }
        }
    }
    Ok(findings)
}

/// `#![forbid(unsafe_code)]` stands in the crates that promise it.
pub fn unsafe_forbidden() -> Result<Findings> {
    let mut findings = Vec::new();
    for name in WITHOUT_UNSAFE {
        let path = format!("{name}/src/lib.rs");
        if !text(&path)?.unwrap_or_default().lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
            findings.push(format!("{path}: needs `#![forbid(unsafe_code)]`"));
        }
    }
    Ok(findings)
}

/// The replayable crates refuse the ambient clock and randomness through clippy.
pub fn ambient_refused() -> Result<Findings> {
    let mut findings = Vec::new();
    for name in WITHOUT_AMBIENT {
        let path = format!("{name}/clippy.toml");
        let Ok(Some(text)) = text(&path) else {
            findings.push(format!("{path}: missing; it refuses {}", AMBIENT.join(", ")));
            continue;
        };
        let rules: toml::Table = toml::from_str(&text).with_context(|| format!("in {path}"))?;
        let refused = rules.get("disallowed-methods").map(ToString::to_string).unwrap_or_default();
        for method in AMBIENT.iter().filter(|method| !refused.contains(**method)) {
            findings.push(format!("{path}: `disallowed-methods` must list {method}"));
        }
    }
    Ok(findings)
}
