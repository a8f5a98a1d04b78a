//! The program behind `cargo xtask bench --only guest`: `guest_figures SHEETS TARBALL BUNDLE [--quick]`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use mooring_tests::figures::{self, Job, Scale};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let mut path =
        || words.next().map(PathBuf::from).context("usage: guest_figures SHEETS TARBALL BUNDLE [--quick]");
    let (sheets, tarball, bundle) = (path()?, path()?, path()?);
    let scale = if words.any(|word| word == "--quick") { Scale::QUICK } else { Scale::FULL };
    let job = Job { sheets, tarball, bundle, scale };
    // Dropping the work ends all it has started, so that nothing is left also when it is told to end.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        taken = figures::take(&job) => taken,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
    }
}
