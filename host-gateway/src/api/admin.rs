//! Tenants, status, metrics: the operator's.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{GatewayStatus, QuotaChange, QuotaUse, Tenant, TenantCreate};
use mooring_store::realm;
use serde::Deserialize;

use super::Api;
use super::error::ApiFailure;
use crate::shares::{core_failure, failure};
use crate::space;

async fn row(api: &Api, t: realm::Tenant) -> Result<Tenant, ApiFailure> {
    let buckets = api.core.realm().buckets(Some(&t.name)).await.map_err(failure)?.len() as u64;
    let vms = api.core.realm().vms(Some(&t.name)).await.map_err(failure)?.len() as u64;
    Ok(Tenant { name: t.name, created: t.created.to_string(), buckets, vms })
}

pub(super) async fn tenants(State(api): State<Api>) -> Result<Json<Vec<Tenant>>, ApiFailure> {
    let mut rows = Vec::new();
    for tenant in api.core.realm().tenants().await.map_err(failure)? {
        rows.push(row(&api, tenant).await?);
    }
    Ok(Json(rows))
}

pub(super) async fn tenant_create(
    State(api): State<Api>,
    Json(body): Json<TenantCreate>,
) -> Result<(StatusCode, Json<Tenant>), ApiFailure> {
    let made = api.core.realm().tenant_create(&body.name).await.map_err(failure)?;
    api.core.reload().await.map_err(core_failure)?;
    if !body.quota.is_empty() {
        space::tenant_quota(&api.core, &body.name, &body.quota).await.map_err(core_failure)?;
    }
    tracing::info!(tenant = %made.name, "tenant created");
    Ok((StatusCode::CREATED, Json(row(&api, made).await?)))
}

#[derive(Deserialize)]
pub(super) struct WithData {
    #[serde(default)]
    with_data: bool,
}

pub(super) async fn tenant_rm(
    State(api): State<Api>,
    Path(name): Path<TenantId>,
    Query(WithData { with_data }): Query<WithData>,
) -> Result<StatusCode, ApiFailure> {
    if with_data {
        for vm in api.core.realm().vms(Some(&name)).await.map_err(failure)? {
            api.gateway.detach(&vm).await.map_err(core_failure)?;
        }
    }
    let removed = api.core.realm().tenant_rm(&name, with_data).await;
    let volumes =
        removed.map_err(|e| failure(e).try_next(format!("mooring-gateway tenant rm {name} --with-data")))?;
    api.core.reload().await.map_err(core_failure)?;
    tracing::info!(tenant = %name, volumes = volumes.len(), "tenant removed, its keys destroyed");
    api.core.remove_later(volumes);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn tenant_quota(
    State(api): State<Api>,
    Path(name): Path<TenantId>,
    Json(body): Json<QuotaChange>,
) -> Result<Json<QuotaUse>, ApiFailure> {
    Ok(Json(space::tenant_quota(&api.core, &name, &body).await.map_err(core_failure)?))
}

pub(super) async fn status(State(api): State<Api>) -> Json<GatewayStatus> {
    Json(api.gateway.status().await)
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<String, ApiFailure> {
    api.gateway.scrape().await.map_err(ApiFailure::internal)
}

pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}
