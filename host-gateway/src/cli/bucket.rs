//! `bucket create|set|show|gc|ls|rm`; checks are in [`super::integrity`].

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{
    Bucket, BucketCreate, BucketShow, Durability, GcAction, GcDone, GcRequest, QuotaUse,
};

use super::space::{QuotaArgs, gc_text, quota_text, show_text};

use super::external::ExternalArgs;
use super::integrity;
use crate::settings::Settings;

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
        #[command(flatten)]
        external: Box<ExternalArgs>,
        /// With an object store: a write is durable when it is in the `store`, or on this `host`, from where it goes to
        /// the store. Fixed from here on
        #[arg(long, value_name = "store|host", default_value = "store")]
        durability: Durability,
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// Change what a bucket may take; in force at once, also where it is mounted
    Set {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        name: BucketName,
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// What a bucket takes and saves, its limits, and what is being given back
    Show {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        name: BucketName,
    },
    /// Give room back now, and wait for it; it happens by itself otherwise
    Gc {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        name: BucketName,
        /// Stop giving back by itself, until resumed or the bucket is opened again
        #[arg(long, conflicts_with = "resume")]
        pause: bool,
        /// Go on
        #[arg(long)]
        resume: bool,
    },
    /// List buckets
    Ls {
        /// Only this tenant's
        #[arg(long, value_name = "TENANT")]
        tenant: Option<TenantId>,
    },
    /// Hold all that is known of a bucket against each other: names, inodes, maps, totals, packs
    Check(integrity::CheckArgs),
    /// Read everything that is stored of a bucket now; in the background it is done every month
    Scrub(integrity::ScrubArgs),
    /// Put a bucket together again whose metadata is lost, from checkpoint, journal and packs; the gateway must be stopped
    Rebuild(integrity::RebuildArgs),
    /// List what cannot be read, and which files it hurts
    Damage(integrity::Which),
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
pub async fn run(api: &Api, settings: &Settings, form: Form, command: BucketCommand) -> Result<(), ApiError> {
    match command {
        BucketCommand::Create { tenant, name, external, durability, quota } => {
            let external = external.wanted()?;
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let wanted = BucketCreate { name, external, durability, quota: quota.change() };
            let made: Bucket = api.post("/v1/buckets", &wanted).await?;
            form.print(&made, |b| {
                let what = b.external.as_ref().map(|e| format!(", which is {}", e.url)).unwrap_or_default();
                format!(
                    "created bucket {} of {}{what}: s3://{} and /mnt/mooring/{}",
                    b.name, b.owner, b.name, b.name
                )
            })
        }
        BucketCommand::Set { tenant, name, quota } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            if quota.change().is_empty() {
                return Err(ApiError::Local(
                    "say what to change: --quota 10G, --max-files 1000000".to_owned(),
                ));
            }
            let path = format!("/v1/buckets/{}/quota", escape(name.as_str()));
            let now: QuotaUse = api.post(&path, &quota.change()).await?;
            form.print(&now, |q| format!("{name}: {}", quota_text(q)))
        }
        BucketCommand::Show { tenant, name } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let shown: BucketShow = api.get(&format!("/v1/buckets/{}", escape(name.as_str()))).await?;
            form.print(&shown, show_text)
        }
        BucketCommand::Gc { tenant, name, pause, resume } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let (action, said) = match (pause, resume) {
                (true, _) => (GcAction::Pause, Some("paused")),
                (_, true) => (GcAction::Resume, Some("resumed")),
                _ => (GcAction::Run, None),
            };
            let path = format!("/v1/buckets/{}/gc", escape(name.as_str()));
            let done: GcDone = api.post(&path, &GcRequest { action }).await?;
            form.print(&done, |d| said.map_or_else(|| gc_text(d), |said| format!("{name}: {said}")))
        }
        BucketCommand::Ls { tenant } => {
            let api = api.clone().for_tenant(tenant.map(|t| t.to_string()));
            let buckets: Vec<Bucket> = api.get("/v1/buckets").await?;
            form.print(&buckets, |all| {
                table(
                    ["owner", "name", "volume", "created", "external"],
                    all.iter().map(|b| {
                        let external = b.external.as_ref().map(|e| e.url.clone()).unwrap_or_default();
                        [
                            b.owner.to_string(),
                            b.name.to_string(),
                            b.volume.clone(),
                            b.created.clone(),
                            external,
                        ]
                    }),
                )
            })
        }
        BucketCommand::Check(args) => integrity::check(api, settings, form, args).await,
        BucketCommand::Rebuild(args) => integrity::rebuild(settings, form, args).await,
        BucketCommand::Scrub(args) => integrity::scrub(api, form, args).await,
        BucketCommand::Damage(which) => integrity::damage(api, form, which).await,
        BucketCommand::Rm { tenant, name, force } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            api.delete::<()>(&format!("/v1/buckets/{}?force={force}", escape(name.as_str()))).await?;
            form.print(&name, |n| format!("removed bucket {n}"))
        }
    }
}
