//! `/v1/shares`.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use mooring_policy::ids::GrantId;
use mooring_protocol::api::{Check, Checked, Revoked, Share, ShareCreate, Side};
use serde::Deserialize;

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use crate::shares;

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    side: Side,
}

pub(super) async fn list(
    State(api): State<Api>,
    asker: Asker,
    Query(Which { side }): Query<Which>,
) -> Result<Json<Vec<Share>>, ApiFailure> {
    shares::list(&api.core, asker.tenant()?, side).await.map(Json)
}

pub(super) async fn create(
    State(api): State<Api>,
    asker: Asker,
    Json(body): Json<ShareCreate>,
) -> Result<(StatusCode, Json<Share>), ApiFailure> {
    Ok((StatusCode::CREATED, Json(shares::create(&api.core, asker.whole()?, body).await?)))
}

pub(super) async fn show(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<GrantId>,
) -> Result<Json<Share>, ApiFailure> {
    shares::show(&api.core, asker.tenant()?, id).await.map(Json)
}

pub(super) async fn accept(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<GrantId>,
) -> Result<Json<Share>, ApiFailure> {
    shares::accept(&api.core, asker.whole()?, id).await.map(Json)
}

pub(super) async fn decline(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<GrantId>,
) -> Result<StatusCode, ApiFailure> {
    shares::decline(&api.gateway, asker.whole()?, id).await.map(|()| StatusCode::NO_CONTENT)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<GrantId>,
) -> Result<Json<Revoked>, ApiFailure> {
    shares::revoke(&api.gateway, asker.whole()?, id).await.map(Json)
}

pub(super) async fn check(
    State(api): State<Api>,
    asker: Asker,
    Json(body): Json<Check>,
) -> Result<Json<Checked>, ApiFailure> {
    shares::check(&api.core, asker.tenant()?, &body).await.map(Json)
}
