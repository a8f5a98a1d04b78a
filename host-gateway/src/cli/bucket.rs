//! `bucket create|clone|set|show|gc|ls|rm`; checks are in [`super::integrity`].

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{
    Bucket, BucketClone, BucketCreate, BucketShow, Durability, GcAction, GcDone, GcRequest, QuotaUse,
};

use super::space::{QuotaArgs, gc_text, quota_text, show_text};

use super::external::ExternalArgs;
use super::integrity;
use super::trash::{Keep, TrashCommand};
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
    /// Make a bucket that shows what another shows now or did in a snapshot; takes a moment, whatever the size
    ///
    /// Nothing is copied: both share what they have in common, and each is written for itself from then on. The clone has
    /// a name, limits, snapshots and shares of its own, and stays when its source is removed. It counts at once as what it
    /// shows.
    #[command(after_help = "Examples:\n  \
                            mooring-gateway bucket clone --tenant acme photos photos-test\n  \
                            mooring-gateway bucket clone --tenant acme photos@daily-1 photos-then\n\n\
                            A clone belongs to the tenant of its source. To another tenant, or into a bucket that was\n\
                            made on its own, files are copied: rsync in a mount, or aws s3 sync.")]
    Clone {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which bucket, or which snapshot of one
        #[arg(value_name = "BUCKET[@SNAPSHOT]", value_parser = source)]
        source: Source,
        /// What the clone is called: 3 to 63 lower-case letters, digits and `-`
        name: BucketName,
        #[command(flatten)]
        quota: QuotaArgs,
    },
    /// Change what a bucket may take and what becomes of removed files; in force at once, also where it is mounted
    Set {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which
        name: BucketName,
        #[command(flatten)]
        quota: QuotaArgs,
        /// Keep what is removed or replaced for so long, such as `7d`, or not: `off`; it counts as long as it is kept
        #[arg(long, value_name = "TIME|off", value_parser = super::trash::keep)]
        trash: Option<Keep>,
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
    /// States of a bucket that are kept
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// What was removed and is kept for a while
    #[command(subcommand)]
    Trash(TrashCommand),
}

/// A bucket, or a snapshot of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    bucket: BucketName,
    snapshot: Option<String>,
}

fn source(text: &str) -> Result<Source, String> {
    let (bucket, snapshot) = match text.split_once('@') {
        Some((_, "")) => return Err("name the snapshot behind the @".to_owned()),
        Some((bucket, snapshot)) => (bucket, Some(snapshot.to_owned())),
        None => (text, None),
    };
    let bucket = bucket.parse::<BucketName>().map_err(|error| error.to_string())?;
    Ok(Source { bucket, snapshot })
}

/// What is told of a bucket's snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep a bucket as it is now; takes a moment, whatever the size
    #[command(after_help = "In a mount: ls /mnt/mooring/BUCKET/.snapshots/NAME\n\
                            In S3:      aws s3 cp s3://BUCKET/.snapshots/NAME/KEY .\n\
                            or:         aws s3api get-object --bucket BUCKET --key KEY --version-id NAME FILE")]
    Create {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
        /// Its name [default: snap- and the time]
        name: Option<String>,
    },
    /// List a bucket's snapshots, oldest first
    Ls {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
    },
    /// Forget a snapshot; the room it alone takes is given back in the background
    Rm {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
        /// Which
        name: String,
    },
    /// Make a bucket what it was, at once and as a whole; what is newer than the snapshot is lost
    #[command(
        after_help = "To be able to go back: mooring-gateway bucket snapshot create --tenant TENANT BUCKET before"
    )]
    Restore {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Which bucket
        bucket: BucketName,
        /// To which snapshot
        name: String,
    },
    /// Take snapshots by itself; shows the schedule when nothing is set
    Schedule {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
        /// How often, such as `15m`, `1h` or `1d`
        #[arg(long, value_name = "TIME", requires = "keep", value_parser = humantime::parse_duration)]
        every: Option<std::time::Duration>,
        /// How many are kept
        #[arg(long, value_name = "N", requires = "every")]
        keep: Option<u32>,
        /// No more snapshots by itself; those that are there stay
        #[arg(long, conflicts_with_all = ["every", "keep"])]
        off: bool,
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
        BucketCommand::Clone { tenant, source, name, quota } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let Source { bucket, snapshot } = source;
            let path = format!("/v1/buckets/{}/clone", escape(bucket.as_str()));
            let made: Bucket = api
                .post(&path, &BucketClone { name, snapshot: snapshot.clone(), quota: quota.change() })
                .await?;
            let then = snapshot.map(|name| format!(" as it was in snapshot {name}")).unwrap_or_default();
            form.print(&made, |b| {
                let name = &b.name;
                format!("cloned {bucket}{then} to bucket {name}: s3://{name} and /mnt/mooring/{name}")
            })
        }
        BucketCommand::Set { tenant, name, quota, trash } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            if let Some(keep) = trash {
                let said = super::trash::set(&api, &name, keep).await?;
                if quota.change().is_empty() {
                    return form.print(&(), |()| said);
                }
            }
            if quota.change().is_empty() {
                return Err(ApiError::Local(
                    "say what to change: --quota 10G, --max-files 1000000, --trash 7d".to_owned(),
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
        BucketCommand::Snapshot(command) => super::snapshot::run(api, form, command).await,
        BucketCommand::Trash(command) => super::trash::run(api, form, command).await,
        BucketCommand::Rm { tenant, name, force } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            api.delete::<()>(&format!("/v1/buckets/{}?force={force}", escape(name.as_str()))).await?;
            form.print(&name, |n| format!("removed bucket {n}"))
        }
    }
}
