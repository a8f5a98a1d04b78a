//! Builds the guest images ahead of the tests that boot them.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use mooring_images::guest::{GuestImage, GuestSpec, KernelSeries};

use crate::shell;

/// Options of `cargo xtask guest`.
#[derive(clap::Args)]
pub struct Args {
    /// Also build the guest with the oldest supported kernel.
    #[arg(long)]
    floor: bool,
}

/// `cargo xtask guest`
pub fn run(args: &Args) -> Result<ExitCode> {
    let series: &[_] =
        if args.floor { &[KernelSeries::V6_12, KernelSeries::V6_1] } else { &[KernelSeries::V6_12] };
    for series in series {
        let began = Instant::now();
        let image = build(*series)?;
        println!("guest with Linux {} ({:.1} s)", image.release, began.elapsed().as_secs_f64());
        for path in [&image.kernel, &image.initrd, &image.root] {
            let size = path.metadata().with_context(|| format!("reading {}", path.display()))?.len();
            println!("    {:>6.1} MiB  {}", size as f64 / f64::from(1 << 20), path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the guest the demo boots.
pub fn ensure_default() -> Result<()> {
    build(KernelSeries::V6_12).map(drop)
}

/// Builds every guest the tests boot.
pub fn ensure() -> Result<()> {
    for series in [KernelSeries::V6_12, KernelSeries::V6_1] {
        build(series)?;
    }
    Ok(())
}

fn build(kernel: KernelSeries) -> Result<GuestImage> {
    let cache = shell::target_dir().join("guest");
    let python_lock = shell::root().join("tests/python.lock");
    let spec = GuestSpec { kernel, cache, python_lock };
    GuestImage::build(&spec).with_context(|| format!("building the guest with {}", kernel.name()))
}
