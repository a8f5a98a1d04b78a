//! `/v1/buckets/{name}/check`, `/scrub`, `/damage`: the operator's.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use mooring_policy::ids::BucketName;
use mooring_protocol::api::{CheckReport, CheckStart, Damage, Job, ScrubReport, ScrubStart};
use mooring_store::realm::Bucket;

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use crate::integrity;
use crate::shares::{core_failure, failure};

async fn bucket(api: &Api, asker: &Asker, name: &BucketName) -> Result<Bucket, ApiFailure> {
    let found = api.core.realm().bucket(asker.whole()?, name).await;
    let found = found.map_err(|e| failure(e).try_next("mooring-gateway bucket ls"))?;
    match found.external {
        Some(_) => {
            Err(ApiFailure::invalid(format!("bucket {name} is kept by another store, which checks it")))
        }
        None => Ok(found),
    }
}

pub(super) async fn check(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<CheckStart>,
) -> Result<(StatusCode, Json<Job<CheckReport>>), ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let job =
        api.gateway.integrity().check(&api.core, bucket.volume, body.data).await.map_err(core_failure)?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

pub(super) async fn checked(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
) -> Result<Json<Job<CheckReport>>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let job = api.gateway.integrity().checked(bucket.volume).await;
    let next = format!("mooring-gateway bucket check --tenant {} {name}", bucket.owner);
    job.map(Json).ok_or_else(|| ApiFailure::not_found(format!("a check of {name}")).try_next(next))
}

pub(super) async fn scrub(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<ScrubStart>,
) -> Result<(StatusCode, Json<Job<ScrubReport>>), ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let job =
        api.gateway.integrity().scrub(&api.core, bucket.volume, body.rate).await.map_err(core_failure)?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

pub(super) async fn scrubbed(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
) -> Result<Json<Job<ScrubReport>>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let job = api.gateway.integrity().scrubbed(bucket.volume).await;
    let next = format!("mooring-gateway bucket scrub --tenant {} {name}", bucket.owner);
    job.map(Json).ok_or_else(|| ApiFailure::not_found(format!("a scrub of {name}")).try_next(next))
}

pub(super) async fn damage(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
) -> Result<Json<Vec<Damage>>, ApiFailure> {
    let bucket = bucket(&api, &asker, &name).await?;
    let (_open, engine) = api.core.engine(bucket.volume).await.map_err(core_failure)?;
    let found = engine.damages().await.map_err(ApiFailure::internal)?;
    Ok(Json(found.into_iter().map(|found| integrity::damage(&bucket, found)).collect()))
}
