//! `bucket trash ls|restore|empty`.

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, bytes, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{TrashEmptied, TrashEntry, TrashPage, TrashRestore, TrashRestored, TrashSet};

/// What a bucket's trash is asked for.
#[derive(Debug, Subcommand)]
pub enum TrashCommand {
    /// List what was removed and is kept, oldest first
    #[command(
        after_help = "A bucket gets a trash with: mooring-gateway bucket set --tenant TENANT BUCKET --trash 7d"
    )]
    Ls {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
    },
    /// Bring something back to where it was; a directory comes back with everything that was removed from it
    Restore {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
        /// The path it had (the newest comes back, if several had it), or its number from `ls`
        what: String,
        /// Into this directory instead
        #[arg(long, value_name = "DIR")]
        to: Option<String>,
    },
    /// Throw away for good what is in the trash, and give its room back
    Empty {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// Of which bucket
        bucket: BucketName,
    },
}

/// How long a trash keeps, on the command line: a time, or `off`.
pub fn keep(text: &str) -> Result<Keep, humantime::DurationError> {
    match text {
        "off" | "none" => Ok(Keep(None)),
        _ => humantime::parse_duration(text).map(|time| Keep(Some(time.as_secs().max(1)))),
    }
}

/// Seconds, or no trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep(Option<u64>);

fn path(bucket: &BucketName, rest: &str) -> String {
    format!("/v1/buckets/{}/trash{rest}", escape(bucket.as_str()))
}

/// Gives a bucket a trash, or none. `api` is the tenant's.
pub(super) async fn set(
    api: &Api,
    bucket: &BucketName,
    Keep(keep_seconds): Keep,
) -> Result<String, ApiError> {
    api.post::<_, ()>(&path(bucket, ""), &TrashSet { keep_seconds }).await?;
    Ok(match keep_seconds {
        Some(keep) => {
            let keep = humantime::format_duration(std::time::Duration::from_secs(keep));
            format!("{bucket}: what is removed is kept for {keep}")
        }
        None => format!("{bucket}: what is removed is gone; what is in the trash stays until it is emptied"),
    })
}

async fn all(api: &Api, bucket: &BucketName) -> Result<Vec<TrashEntry>, ApiError> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page: TrashPage = api.get(&path(bucket, &after)).await?;
        all.extend(page.entries);
        match page.next {
            Some(next) => after = format!("?after={next}"),
            None => break,
        }
    }
    all.sort_by(|one, two| (&one.removed, &one.path).cmp(&(&two.removed, &two.path)));
    Ok(all)
}

pub(super) async fn run(api: &Api, form: Form, command: TrashCommand) -> Result<(), ApiError> {
    match command {
        TrashCommand::Ls { tenant, bucket } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            form.print(&all(&api, &bucket).await?, |all| {
                let row = |e: &TrashEntry| {
                    let slash = if e.directory { "/" } else { "" };
                    let lost = if e.homeless { ".../" } else { "" };
                    [e.id.to_string(), e.removed.clone(), bytes(e.size), format!("{lost}{}{slash}", e.path)]
                };
                table(["number", "removed", "size", "path"], all.iter().map(row))
            })
        }
        TrashCommand::Restore { tenant, bucket, what, to } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let wanted = TrashRestore { what, into: to };
            let done: TrashRestored = api.post(&path(&bucket, "/restore"), &wanted).await?;
            form.print(&done, |d| {
                let left = match d.skipped {
                    0 => String::new(),
                    n => format!("; {n} stay in the trash, their names are taken"),
                };
                format!(
                    "/mnt/mooring/{bucket}/{} is back: {} files and directories{left}",
                    d.path, d.restored
                )
            })
        }
        TrashCommand::Empty { tenant, bucket } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let done: TrashEmptied = api.delete(&path(&bucket, "")).await?;
            form.print(&done, |d| format!("{bucket}: {} files and directories are gone for good", d.removed))
        }
    }
}
