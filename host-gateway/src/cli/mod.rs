//! The command line: one enum whose doc comments are the help. Every command but `serve` and `completion` is a client
//! of the admin API.

mod bucket;
mod external;
mod integrity;
mod key;
mod snapshot;
mod space;
mod status;
mod tenant;
mod token;
mod trash;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use mooring_cli::output::Form;
use mooring_cli::share::ShareCommand;
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::TenantId;

use crate::settings::Settings;

/// Storage that outlives the VM: the host side.
///
/// Fronts one object store per tenant and serves it to their VMs as files and as S3. A VM is known by its channel; it
/// needs no secret. First steps:
///
///   mooring-gateway serve &
///   mooring-gateway tenant create acme
///   mooring-gateway bucket create --tenant acme photos
///   mooring-gateway vm attach --tenant acme vm1 --hybrid /run/vm1/vsock.sock
///
/// and in the VM: mooring-agent up
#[derive(Debug, Parser)]
#[command(name = "mooring-gateway", version, verbatim_doc_comment)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not allowed.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Configuration file [default: /etc/mooring/gateway.toml, if there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// The operator's unix socket [default: /run/mooring/admin.sock]
    #[arg(long, env = "MOORING_ADMIN_SOCKET", value_name = "PATH", global = true)]
    admin_socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Box<Settings>),
    /// Tenants: who owns buckets and VMs
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Buckets of a tenant
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    /// VMs and the channels they are known by
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Shares between tenants, with a tenant's rights
    Share {
        /// Whose rights to use
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        #[command(subcommand)]
        command: ShareCommand,
    },
    /// A short-lived token for a tenant's tools outside VMs
    Token(token::TokenArgs),
    /// Static S3 access keys for tools outside VMs; and the keys that data is sealed with
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// What the gateway is doing, and what would be lost now
    Status,
    /// Shell completion, to be sourced
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("mooring-gateway: cannot start threads: {e}");
            return ExitCode::from(mooring_cli::FAILED);
        }
    };
    match cli.command {
        Command::Serve(flags) => serve(&runtime, *flags, cli.admin_socket, cli.config),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mooring-gateway", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        command => {
            let result =
                runtime.block_on(client(command, cli.admin_socket, cli.config, Form::from_flag(cli.json)));
            mooring_cli::finish("mooring-gateway", result)
        }
    }
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    mut flags: Settings,
    admin_socket: Option<PathBuf>,
    config: Option<PathBuf>,
) -> ExitCode {
    flags.admin_socket = admin_socket;
    let outcome = flags
        .with_file(config.as_deref())
        .map_err(crate::serve::ServeError::from)
        .and_then(|settings| runtime.block_on(crate::serve::serve(settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mooring-gateway: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(c) = cause {
                eprintln!("  because: {c}");
                cause = c.source();
            }
            ExitCode::from(mooring_cli::FAILED)
        }
    }
}

async fn client(
    command: Command,
    admin_socket: Option<PathBuf>,
    config: Option<PathBuf>,
    form: Form,
) -> Result<(), ApiError> {
    let settings = Settings { admin_socket, ..Settings::default() }
        .with_file(config.as_deref())
        .map_err(|e| ApiError::Local(e.to_string()))?;
    let api = Api::unix("mooring-gateway", &settings.admin_socket());
    match command {
        Command::Tenant(c) => tenant::run(&api, form, c).await,
        Command::Bucket(c) => bucket::run(&api, &settings, form, c).await,
        Command::Vm(c) => vm::run(&api, form, c).await,
        Command::Share { tenant, command } => {
            mooring_cli::share::run(&api.for_tenant(Some(tenant.to_string())), form, command).await
        }
        Command::Token(args) => token::run(&api, form, args).await,
        Command::Key(c) => key::run(&api, form, c).await,
        Command::Status => status::run(&api, form).await,
        Command::Serve(_) | Command::Completion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
