//! The program behind `cargo xtask demo`: tells the story and ends with a table. Its exit status is the verdict.

use std::process::ExitCode;

use anyhow::Result;
use mooring_tests::story::{self, Scale, Teller};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let scale = if std::env::args().any(|word| word == "--small") { Scale::TEST } else { Scale::DEMO };
    let mut teller = Teller::default();
    let told = told_or_interrupted(scale, &mut teller).await;
    println!("\n{}", teller.table());
    match told {
        Ok(()) => {
            println!("\nAll of it worked.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nIt did not work: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends early when it is told to. Dropping the story ends all it has started, so that also then nothing is left.
async fn told_or_interrupted(scale: Scale, teller: &mut Teller) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        told = story::tell(scale, teller) => told,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
    }
}
