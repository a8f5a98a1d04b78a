//! `/v1/buckets/{name}/snapshots` and `/v1/buckets/{name}/schedule`.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use mooring_policy::ids::{BucketName, VolumeId};
use mooring_policy::time::Timestamp;
use mooring_protocol::api::{Snapshot, SnapshotCreate, SnapshotSchedule};
use mooring_store::api::SnapshotInfo;
use mooring_store::realm::Schedule;

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use crate::core::views;
use crate::shares::{core_failure, failure};

/// Bytes of a block that files are counted in.
const BLOCK: u64 = 4096;

fn row(info: SnapshotInfo) -> Snapshot {
    let millis =
        u64::try_from(info.created.secs).unwrap_or(0) * 1000 + u64::from(info.created.nanos / 1_000_000);
    Snapshot {
        name: info.name,
        created: Timestamp::from_millis(millis).to_string(),
        files: info.inodes,
        bytes: info.blocks.saturating_mul(BLOCK),
    }
}

async fn volume(api: &Api, asker: &Asker, bucket: &BucketName) -> Result<VolumeId, ApiFailure> {
    Ok(api.core.realm().bucket(asker.whole()?, bucket).await.map_err(failure)?.volume)
}

pub(super) async fn list(
    State(api): State<Api>,
    asker: Asker,
    Path(bucket): Path<BucketName>,
) -> Result<Json<Vec<Snapshot>>, ApiFailure> {
    let volume = volume(&api, &asker, &bucket).await?;
    let all = api.core.snapshots(volume).await.map_err(core_failure)?;
    Ok(Json(all.into_iter().map(row).collect()))
}

pub(super) async fn create(
    State(api): State<Api>,
    asker: Asker,
    Path(bucket): Path<BucketName>,
    Json(body): Json<SnapshotCreate>,
) -> Result<(StatusCode, Json<Snapshot>), ApiFailure> {
    let volume = volume(&api, &asker, &bucket).await?;
    let name = body.name.unwrap_or_else(|| views::name_at("snap", api.core.now()));
    let made = api.core.snapshot_create(volume, &name).await.map_err(core_failure)?;
    Ok((StatusCode::CREATED, Json(row(made))))
}

pub(super) async fn remove(
    State(api): State<Api>,
    asker: Asker,
    Path((bucket, name)): Path<(BucketName, String)>,
) -> Result<StatusCode, ApiFailure> {
    let volume = volume(&api, &asker, &bucket).await?;
    api.core.snapshot_remove(volume, &name).await.map_err(core_failure)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restore(
    State(api): State<Api>,
    asker: Asker,
    Path((bucket, name)): Path<(BucketName, String)>,
) -> Result<StatusCode, ApiFailure> {
    let volume = volume(&api, &asker, &bucket).await?;
    api.core.snapshot_restore(volume, &name).await.map_err(core_failure)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn schedule(
    State(api): State<Api>,
    asker: Asker,
    Path(bucket): Path<BucketName>,
) -> Result<Json<Option<SnapshotSchedule>>, ApiFailure> {
    let bucket = api.core.realm().bucket(asker.whole()?, &bucket).await.map_err(failure)?;
    let told = |s: Schedule| SnapshotSchedule { every_seconds: s.every_seconds, keep: s.keep };
    Ok(Json(bucket.snapshots.map(told)))
}

pub(super) async fn set_schedule(
    State(api): State<Api>,
    asker: Asker,
    Path(bucket): Path<BucketName>,
    Json(body): Json<Option<SnapshotSchedule>>,
) -> Result<StatusCode, ApiFailure> {
    let me = asker.whole()?;
    if body.as_ref().is_some_and(|s| s.every_seconds < 60 || s.keep == 0) {
        return Err(ApiFailure::invalid(
            "a schedule takes a snapshot every minute at most, and keeps one at least",
        ));
    }
    let schedule = body.map(|s| Schedule { every_seconds: s.every_seconds, keep: s.keep });
    api.core.realm().bucket_schedule(me, &bucket, schedule).await.map_err(failure)?;
    api.core.reload().await.map_err(core_failure)?;
    Ok(StatusCode::NO_CONTENT)
}
