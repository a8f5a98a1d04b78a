//! The figures in a VM. The VM is the tests': the program that boots it and runs the workloads in it is an example of
//! the harness.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Sources, limited, program};
use crate::{guest, programs, setup, shell};

/// Seconds that all of it may take.
const LIMIT: u64 = 1500;

/// Builds the image, the programs that run in it, and the one that boots it.
pub fn build() -> Result<()> {
    setup::ensure()?;
    programs::guest()?;
    programs::guest_bench()?;
    guest::ensure_default()?;
    shell::run(shell::cargo([
        "build",
        "--locked",
        "--release",
        "-p",
        "mooring-tests",
        "--example",
        "guest_figures",
    ]))
}

/// Boots a VM and measures in it.
pub fn measure(dir: &Path, quick: bool, sources: &Sources) -> Result<Vec<PathBuf>> {
    let sheets = dir.join("guest");
    fs::create_dir_all(&sheets).with_context(|| format!("cannot create {}", sheets.display()))?;
    let mut command = limited(LIMIT, &program("examples/guest_figures"));
    command.arg(&sheets).arg(&sources.tarball).arg(&sources.bundle);
    if quick {
        command.arg("--quick");
    }
    let ended = command.status().context("cannot start the figures in a VM")?;
    let found: Vec<PathBuf> = ["mooring", "disk", "vsock"]
        .iter()
        .map(|name| sheets.join(format!("{name}.json")))
        .filter(|sheet| sheet.exists())
        .collect();
    ensure!(!found.is_empty(), "no figures came out of the VM: {ended}");
    if !ended.success() {
        eprintln!("the figures in the VM stopped early: {ended}");
    }
    Ok(found)
}
