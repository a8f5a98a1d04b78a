//! `/v1/buckets/{name}/trash`.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use mooring_policy::ids::BucketName;
use mooring_policy::time::Timestamp;
use mooring_protocol::api::{TrashEmptied, TrashEntry, TrashPage, TrashRestore, TrashRestored, TrashSet};
use mooring_protocol::types::{FileKind, Ino, Time};
use mooring_store::error::StoreError;
use mooring_store::realm::Bucket;
use mooring_store::volume::Trashed;
use serde::Deserialize;

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use crate::core::CoreError;
use crate::shares::{core_failure, failure};

fn text(time: Time) -> String {
    let millis = u64::try_from(time.secs).unwrap_or(0) * 1000 + u64::from(time.nanos / 1_000_000);
    Timestamp::from_millis(millis).to_string()
}

fn row(entry: Trashed) -> TrashEntry {
    TrashEntry {
        id: entry.ino.get(),
        homeless: entry.path.is_none(),
        path: String::from_utf8_lossy(entry.path.as_deref().unwrap_or(&entry.name)).into_owned(),
        directory: entry.kind == FileKind::Dir,
        size: if entry.kind == FileKind::Dir { 0 } else { entry.size },
        removed: text(entry.removed),
    }
}

async fn bucket(api: &Api, asker: &Asker, name: &BucketName) -> Result<Bucket, ApiFailure> {
    api.core.realm().bucket(asker.whole()?, name).await.map_err(failure)
}

/// Where to go on.
#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

pub(super) async fn list(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Query(After { after }): Query<After>,
) -> Result<Json<TrashPage>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let (entries, next) =
        api.core.trash(bucket.volume, after.and_then(Ino::new)).await.map_err(core_failure)?;
    let entries = entries.into_iter().map(row).collect();
    Ok(Json(TrashPage { keep_seconds: bucket.trash_seconds, entries, next: next.map(Ino::get) }))
}

pub(super) async fn set(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<TrashSet>,
) -> Result<StatusCode, ApiFailure> {
    if body.keep_seconds == Some(0) {
        return Err(ApiFailure::invalid("a trash keeps what is removed for a second at least"));
    }
    let known = bucket(&api, &asker, &name).await?;
    if known.external.is_some() {
        return Err(ApiFailure::invalid("a bucket of another S3 service has no trash"));
    }
    api.core.realm().bucket_trash(&known.owner, &name, body.keep_seconds).await.map_err(failure)?;
    api.core.reload().await.map_err(core_failure)?;
    api.core.trash_changed(known.volume).await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restore(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<TrashRestore>,
) -> Result<Json<TrashRestored>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let done = api.core.trash_restore(bucket.volume, &body.what, body.into.as_deref()).await;
    let done = done.map_err(|error| match error {
        CoreError::Volume { source: StoreError::NotFound, .. } => ApiFailure::not_found(format!(
            "{} in the trash, or the directory to put it into (see `bucket trash ls`, and restore with --to)",
            body.what
        )),
        CoreError::Volume { source: StoreError::Exists, .. } => ApiFailure::exists(format!(
            "what was called {} (restore it into another directory, with --to)",
            body.what
        )),
        other => core_failure(other),
    })?;
    let path = String::from_utf8_lossy(&done.path).into_owned();
    Ok(Json(TrashRestored { path, restored: done.restored, skipped: done.skipped }))
}

pub(super) async fn empty(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
) -> Result<Json<TrashEmptied>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let done = api.core.trash_empty(bucket.volume, None).await.map_err(core_failure)?;
    Ok(Json(TrashEmptied { removed: done.removed }))
}
