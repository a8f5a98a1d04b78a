//! `/v1/buckets`.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use mooring_policy::ids::BucketName;
use mooring_protocol::api::{
    Bucket, BucketClone, BucketCreate, BucketShow, Durability, GcDone, GcRequest, QuotaChange, QuotaUse,
};
use mooring_store::realm;
use mooring_store::volume::Quota;
use serde::Deserialize;

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use super::external;
use crate::buckets;
use crate::core::clones::clone_bucket;
use crate::shares::{core_failure, failure};
use crate::space;

fn row(b: &realm::Bucket) -> Bucket {
    Bucket {
        owner: b.owner.clone(),
        name: b.name.clone(),
        volume: b.volume.to_string(),
        created: b.created.to_string(),
        within: b.within.map(|volume| volume.to_string()),
        external: b.external.clone().map(external::shown),
    }
}

pub(super) async fn list(State(api): State<Api>, asker: Asker) -> Result<Json<Vec<Bucket>>, ApiFailure> {
    let rows = api.core.realm().buckets(asker.tenant_if_any()).await.map_err(failure)?;
    Ok(Json(rows.iter().map(row).collect()))
}

pub(super) async fn create(
    State(api): State<Api>,
    asker: Asker,
    Json(body): Json<BucketCreate>,
) -> Result<(StatusCode, Json<Bucket>), ApiFailure> {
    let me = asker.whole()?;
    let class = match body.durability {
        Durability::Store => realm::Durability::Store,
        Durability::Host => realm::Durability::Host,
    };
    if !body.quota.is_empty() && !asker.is_operator() {
        return Err(ApiFailure::denied("limits are the operator's to set"));
    }
    if !body.quota.is_empty() && body.external.is_some() {
        return Err(ApiFailure::invalid("a bucket of another S3 service is limited there"));
    }
    let made = match body.external {
        None => buckets::create(&api.core, me, &body.name, class).await.map_err(core_failure)?,
        Some(wanted) if asker.is_operator() => {
            let attach = external::wanted(wanted).await?;
            buckets::attach(&api.core, me, &body.name, attach).await.map_err(core_failure)?
        }
        Some(_) => {
            return Err(ApiFailure::denied(
                "external buckets are attached by the operator: mooring-gateway bucket create --external",
            ));
        }
    };
    if !body.quota.is_empty() {
        space::bucket_quota(&api.core, me, &body.name, &body.quota).await.map_err(core_failure)?;
    }
    Ok((StatusCode::CREATED, Json(row(&made))))
}

pub(super) async fn clone(
    State(api): State<Api>,
    asker: Asker,
    Path(source): Path<BucketName>,
    Json(body): Json<BucketClone>,
) -> Result<(StatusCode, Json<Bucket>), ApiFailure> {
    let me = asker.whole()?;
    if !body.quota.is_empty() && !asker.is_operator() {
        return Err(ApiFailure::denied("limits are the operator's to set"));
    }
    let quota = space::changed(Quota::default(), &body.quota);
    let made = clone_bucket(&api.core, me, &source, body.snapshot, (&body.name, quota)).await;
    Ok((StatusCode::CREATED, Json(row(&made.map_err(core_failure)?))))
}

pub(super) async fn show(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
) -> Result<Json<BucketShow>, ApiFailure> {
    let found = api.core.realm().bucket(asker.whole()?, &name).await.map_err(failure)?;
    Ok(Json(space::show(&api.core, &found, row(&found)).await.map_err(core_failure)?))
}

pub(super) async fn quota(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<QuotaChange>,
) -> Result<Json<QuotaUse>, ApiFailure> {
    let me = asker.whole()?;
    Ok(Json(space::bucket_quota(&api.core, me, &name, &body).await.map_err(core_failure)?))
}

pub(super) async fn gc(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Json(body): Json<GcRequest>,
) -> Result<Json<GcDone>, ApiFailure> {
    let found = api.core.realm().bucket(asker.whole()?, &name).await.map_err(failure)?;
    Ok(Json(space::gc(&api.core, &found, body.action).await.map_err(core_failure)?))
}

#[derive(Deserialize)]
pub(super) struct Force {
    #[serde(default)]
    force: bool,
}

pub(super) async fn remove(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<BucketName>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, ApiFailure> {
    let me = asker.whole()?;
    let found = api.core.realm().bucket(me, &name).await.map_err(failure)?;
    // What is in another service stays there.
    if !force
        && found.external.is_none()
        && !api.core.is_empty(found.volume).await.map_err(ApiFailure::internal)?
    {
        return Err(ApiFailure::conflict(format!("bucket {name} has files"))
            .try_next(format!("mooring-gateway bucket rm --tenant {me} {name} --force")));
    }
    buckets::remove(&api.core, me, &name).await.map_err(core_failure)?;
    Ok(StatusCode::NO_CONTENT)
}
