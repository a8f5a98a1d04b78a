//! The dependency arrows: who may build on whom. The guest cannot link code that opens a store, and the
//! pure crates cannot reach up. Checked on what cargo itself says, for ordinary, build and dev dependencies.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Findings;
use crate::shell;

/// The crates each crate of the workspace may use, in the order of the layers.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mooring-policy", &[]),
    ("mooring-protocol", &["mooring-policy"]),
    ("mooring-cli", &["mooring-policy", "mooring-protocol"]),
    ("mooring-store", &["mooring-policy", "mooring-protocol"]),
    ("mooring-s3", &["mooring-policy", "mooring-protocol", "mooring-store"]),
    ("mooring-external", &["mooring-policy", "mooring-protocol", "mooring-store"]),
    ("mooring-images", &["mooring-policy", "mooring-protocol", "mooring-store"]),
    (
        "mooring-gateway",
        &[
            "mooring-policy",
            "mooring-protocol",
            "mooring-store",
            "mooring-cli",
            "mooring-s3",
            "mooring-external",
            "mooring-images",
        ],
    ),
    ("mooring-agent", &["mooring-policy", "mooring-protocol", "mooring-cli"]),
    ("mooring-guest-exec", &[]),
    ("mooring-tests", &["mooring-policy", "mooring-protocol", "mooring-guest-exec"]),
    ("mooring-stores", &["mooring-policy", "mooring-store", "mooring-tests"]),
    ("mooring-bench", &["mooring-policy", "mooring-protocol"]),
    ("mooring-fuzz", &["mooring-policy", "mooring-protocol", "mooring-store"]),
    ("xtask", &[]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<String>,
}

/// Checks every edge between crates of the workspace.
pub fn check() -> Result<Findings> {
    let text = shell::output(shell::cargo(["metadata", "--format-version=1", "--no-deps", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let exceptions = super::files::exceptions()?.arrow;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            findings.push(format!("{}: new crate; give it a row in xtask/src/tidy/arrows.rs", package.name));
            continue;
        };
        // A path marks a crate of this workspace; everything else is a library from outside.
        for used in package.dependencies.iter().filter(|d| d.path.is_some() && d.name != package.name) {
            let excepted = exceptions.iter().any(|e| e.from == package.name && e.to == used.name);
            if !allowed.contains(&used.name.as_str()) && !excepted {
                findings.push(format!(
                    "{} -> {}: against the arrows (DESIGN, Rooms); move the shared part down a layer",
                    package.name, used.name
                ));
            }
        }
    }
    Ok(findings)
}
