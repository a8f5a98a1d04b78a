//! `bucket create|ls|rm`.

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{Bucket, BucketCreate};

/// Buckets.
#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// Make a bucket; it appears in the tenant's VMs at once
    Create {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// 3 to 63 lower-case letters, digits and `-`
        name: BucketName,
    },
    /// List buckets
    Ls {
        /// Only this tenant's
        #[arg(long, value_name = "TENANT")]
        tenant: Option<TenantId>,
    },
    /// Remove a bucket
    Rm {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        name: BucketName,
        /// Also when it has files
        #[arg(long)]
        force: bool,
    },
}

/// Runs a bucket command.
pub async fn run(api: &Api, form: Form, command: BucketCommand) -> Result<(), ApiError> {
    match command {
        BucketCommand::Create { tenant, name } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let made: Bucket = api.post("/v1/buckets", &BucketCreate { name }).await?;
            form.print(&made, |b| {
                format!(
                    "created bucket {} of {}: s3://{} and /mnt/mooring/{}",
                    b.name, b.owner, b.name, b.name
                )
            })
        }
        BucketCommand::Ls { tenant } => {
            let api = api.clone().for_tenant(tenant.map(|t| t.to_string()));
            let buckets: Vec<Bucket> = api.get("/v1/buckets").await?;
            form.print(&buckets, |all| {
                table(
                    ["owner", "name", "volume", "created"],
                    all.iter().map(|b| {
                        [b.owner.to_string(), b.name.to_string(), b.volume.clone(), b.created.clone()]
                    }),
                )
            })
        }
        BucketCommand::Rm { tenant, name, force } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            api.delete::<()>(&format!("/v1/buckets/{}?force={force}", escape(name.as_str()))).await?;
            form.print(&name, |n| format!("removed bucket {n}"))
        }
    }
}
