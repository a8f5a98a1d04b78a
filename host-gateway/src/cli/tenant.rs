//! `tenant create|set|ls|rm`.

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{QuotaUse, Tenant, TenantCreate};

use super::space::{QuotaArgs, quota_text};

/// Tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant, with a data key of its own
    Create {
        /// Lower-case letters, digits and `-`
        name: TenantId,
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// Change what all buckets of a tenant may take together; in force at once
    Set {
        /// Which
        name: TenantId,
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// List tenants
    Ls,
    /// Remove a tenant; its key is destroyed, so that what is left of its data cannot be read
    Rm {
        /// Which
        name: TenantId,
        /// Also its buckets and VMs
        #[arg(long)]
        force: bool,
    },
}

/// Runs a tenant command.
pub async fn run(api: &Api, form: Form, command: TenantCommand) -> Result<(), ApiError> {
    match command {
        TenantCommand::Create { name, quota } => {
            let made: Tenant = api.post("/v1/tenants", &TenantCreate { name, quota: quota.change() }).await?;
            form.print(&made, |t| format!("created tenant {}", t.name))
        }
        TenantCommand::Set { name, quota } => {
            if quota.change().is_empty() {
                return Err(ApiError::Local(
                    "say what to change: --quota 10G, --max-files 1000000".to_owned(),
                ));
            }
            let path = format!("/v1/tenants/{}/quota", escape(name.as_str()));
            let now: QuotaUse = api.post(&path, &quota.change()).await?;
            form.print(&now, |q| format!("{name}: {}", quota_text(q)))
        }
        TenantCommand::Ls => {
            let tenants: Vec<Tenant> = api.get("/v1/tenants").await?;
            form.print(&tenants, |all| {
                table(
                    ["name", "buckets", "vms", "created"],
                    all.iter().map(|t| {
                        [t.name.to_string(), t.buckets.to_string(), t.vms.to_string(), t.created.clone()]
                    }),
                )
            })
        }
        TenantCommand::Rm { name, force } => {
            api.delete::<()>(&format!("/v1/tenants/{}?force={force}", escape(name.as_str()))).await?;
            form.print(&name, |n| format!("removed tenant {n}; its data key is destroyed"))
        }
    }
}
