//! The command line.

pub mod settings;
mod status;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use mooring_cli::output::Form;
use mooring_cli::share::{self, ShareCommand};
use mooring_cli::{Api, ApiError, finish};

use settings::Settings;

const PROGRAM: &str = "mooring-agent";

/// Mounts this VM's buckets, offers them as S3 on localhost, and shares them with other tenants
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, arg_required_else_help = true)]
struct Cli {
    /// The agent's control socket
    #[arg(long, global = true, env = "MOORING_CONTROL", default_value = settings::DEFAULT_CONTROL, value_name = "PATH")]
    control: PathBuf,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect to the gateway and mount every bucket and accepted share, until told to end
    ///
    /// Users who want S3 source the file `env` beside the control socket: `. /run/mooring/env; aws s3 ls`.
    Up {
        /// Settings file [default: /etc/mooring/agent.toml, if it is there]
        #[arg(long, env = "MOORING_AGENT_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Say how the connection and the mounts are; fails until everything is mounted
    Status,
    /// Hand everything over, unmount, and end the running agent
    Umount,
    #[command(subcommand)]
    Share(ShareCommand),
    /// Print completions for a shell, to be sourced
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let form = Form::from_flag(cli.json);
    match cli.command {
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Up { config, settings } => up::run(*settings, config.as_deref(), &cli.control),
        Command::Status => ask(|api| async move { status::run(&api, form).await }, &cli.control),
        Command::Umount => ask(|api| async move { status::umount(&api, form).await }, &cli.control),
        Command::Share(command) => {
            ask(|api| async move { share::run(&api, form, command).await }, &cli.control)
        }
    }
}

/// Runs a command that asks the running agent.
fn ask<F, Fut>(command: F, control: &std::path::Path) -> ExitCode
where
    F: FnOnce(Api) -> Fut,
    Fut: Future<Output = Result<(), ApiError>>,
{
    // `status | head` ends quietly, like any other program in a pipe.
    // SAFETY: the default action is restored before this process has any other thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => finish(PROGRAM, runtime.block_on(command(Api::unix(PROGRAM, control)))),
        Err(error) => {
            eprintln!("{PROGRAM}: cannot start: {error}");
            ExitCode::from(mooring_cli::FAILED)
        }
    }
}
