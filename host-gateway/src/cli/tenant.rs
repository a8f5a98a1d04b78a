//! `tenant create|set|ls|rotate-key|rm`.

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{KeyRotated, QuotaUse, Tenant, TenantCreate};

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
    /// Seal what is written from now on with a new data key; what is there stays readable
    ///
    /// Nothing stops for it: open volumes go on with the new key. Earlier keys are kept for what they sealed.
    RotateKey {
        /// Whose
        name: TenantId,
    },
    /// Remove a tenant and destroy its keys: nothing that is left of its data can be read again, by anybody
    ///
    /// This holds for backups too: the keys exist nowhere else than in this installation's key ring (and in backups of
    /// that). Files are removed in the background.
    Rm {
        /// Which
        name: TenantId,
        /// Also its buckets with all files, and its VMs
        #[arg(long, alias = "force")]
        with_data: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
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
        TenantCommand::RotateKey { name } => {
            let path = format!("/v1/tenants/{}/rotate-key", escape(name.as_str()));
            let rotated: KeyRotated = api.post_empty(&path).await?;
            form.print(&rotated, |r| {
                format!("data key {} of {} seals what is written from now on", r.generation, r.tenant)
            })
        }
        TenantCommand::Rm { name, with_data, yes } => {
            if !yes {
                confirm(&name)?;
            }
            let path = format!("/v1/tenants/{}?with_data={with_data}", escape(name.as_str()));
            api.delete::<()>(&path).await?;
            form.print(&name, |n| format!("removed tenant {n}; its data keys are destroyed"))
        }
    }
}

/// What this destroys nobody brings back, so a slip of the hand must not be enough.
fn confirm(name: &TenantId) -> Result<(), ApiError> {
    let refused = |why: &str| Err(ApiError::Local(why.to_owned()));
    if !std::io::stdin().is_terminal() {
        return refused("this destroys the tenant's keys for good: add --yes to confirm");
    }
    eprint!("This destroys all data of {name} for good. Type the tenant's name to go on: ");
    let mut typed = String::new();
    let asked = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut typed));
    match asked {
        Ok(_) if typed.trim() == name.as_str() => Ok(()),
        Ok(_) => refused("nothing was removed"),
        Err(error) => refused(&format!("cannot ask: {error}")),
    }
}
