//! `up`: the agent itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use super::PROGRAM;
use super::settings::{LogFormat, Settings};
use crate::agent::Agent;
use crate::doors::{control, credentials, pipe};

pub(super) fn run(settings: Settings, config: Option<&Path>, control: &Path) -> ExitCode {
    match start(settings, config, control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PROGRAM}: {error:#}");
            ExitCode::from(mooring_cli::FAILED)
        }
    }
}

fn start(settings: Settings, config: Option<&Path>, control: &Path) -> anyhow::Result<()> {
    let settings = settings.over_file(config)?;
    start_log(&settings)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(serve(&settings, control));
    // A notification that waits in the kernel for a mount that is in use must not keep the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: &Settings, control: &Path) -> anyhow::Result<()> {
    let s3 = settings.s3_address()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let agent = Agent::start(settings.agent());
    let stop = Arc::new(Notify::new());
    control::open(agent.clone(), control, stop.clone()).await?;
    if let Some(address) = s3 {
        let s3 = pipe::open(agent.remote().clone(), address).await?;
        let files = credentials::Files::in_dir(control.parent().unwrap_or(Path::new("/")));
        let at =
            credentials::open(agent.remote().clone(), settings.credentials_address(), s3, &files).await?;
        tracing::info!(%s3, credentials = %at, environment = %files.environment.display(), "S3 is offered");
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        () = stop.notified() => tracing::info!("asked to unmount"),
    }
    agent.stop().await;
    let _ = std::fs::remove_file(control);
    tracing::info!("everything is handed over and unmounted");
    Ok(())
}

fn start_log(settings: &Settings) -> anyhow::Result<()> {
    let directives = settings.log.as_deref().unwrap_or("info,fuser=error");
    let filter =
        EnvFilter::try_new(directives).with_context(|| format!("log = {directives:?} makes no sense"))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A logger that is there already stays.
    let _already = match settings.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}
