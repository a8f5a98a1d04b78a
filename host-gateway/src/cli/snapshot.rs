//! `bucket snapshot create|ls|rm|restore|schedule`.

use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::BucketName;
use mooring_protocol::api::{Snapshot, SnapshotCreate, SnapshotSchedule};

use super::bucket::SnapshotCommand;

fn path(bucket: &BucketName, rest: &str) -> String {
    format!("/v1/buckets/{}/{rest}", escape(bucket.as_str()))
}

fn one(bucket: &BucketName, name: &str) -> String {
    path(bucket, &format!("snapshots/{}", escape(name)))
}

/// Bytes for eyes.
fn size(bytes: u64) -> String {
    mooring_cli::output::bytes(bytes)
}

pub(super) async fn run(api: &Api, form: Form, command: SnapshotCommand) -> Result<(), ApiError> {
    match command {
        SnapshotCommand::Create { tenant, bucket, name } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let made: Snapshot = api.post(&path(&bucket, "snapshots"), &SnapshotCreate { name }).await?;
            form.print(&made, |s| {
                format!("took snapshot {} of {bucket}: /mnt/mooring/{bucket}/.snapshots/{}", s.name, s.name)
            })
        }
        SnapshotCommand::Ls { tenant, bucket } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let all: Vec<Snapshot> = api.get(&path(&bucket, "snapshots")).await?;
            form.print(&all, |all| {
                let row =
                    |s: &Snapshot| [s.name.clone(), s.created.clone(), s.files.to_string(), size(s.bytes)];
                table(["name", "created", "files", "size"], all.iter().map(row))
            })
        }
        SnapshotCommand::Rm { tenant, bucket, name } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            api.delete::<()>(&one(&bucket, &name)).await?;
            form.print(&name, |n| format!("removed snapshot {n} of {bucket}"))
        }
        SnapshotCommand::Restore { tenant, bucket, name } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            api.post_empty::<()>(&format!("{}/restore", one(&bucket, &name))).await?;
            form.print(&name, |n| format!("{bucket} is what it was in snapshot {n}"))
        }
        SnapshotCommand::Schedule { tenant, bucket, every, keep, off } => {
            let api = api.clone().for_tenant(Some(tenant.to_string()));
            let wanted = every.zip(keep);
            if off || wanted.is_some() {
                let schedule =
                    wanted.map(|(every, keep)| SnapshotSchedule { every_seconds: every.as_secs(), keep });
                api.post::<_, ()>(&path(&bucket, "schedule"), &schedule).await?;
            }
            let now: Option<SnapshotSchedule> = api.get(&path(&bucket, "schedule")).await?;
            form.print(&now, |now| match now {
                None => format!("{bucket}: no snapshots by itself"),
                Some(s) => {
                    let every = humantime::format_duration(std::time::Duration::from_secs(s.every_seconds));
                    format!("{bucket}: a snapshot every {every}, {} of them kept", s.keep)
                }
            })
        }
    }
}
