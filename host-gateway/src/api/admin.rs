//! Tenants, status, metrics: the operator's.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{GatewayStatus, Tenant, TenantCreate};
use mooring_store::realm::TenantRecord;

use super::Api;
use super::buckets::Force;
use super::error::ApiFailure;
use crate::buckets;
use crate::shares::failure;

fn row(api: &Api, t: TenantRecord) -> Tenant {
    let vms = api.core.realm().vms().iter().filter(|v| v.tenant == t.name).count() as u64;
    let buckets = api.core.realm().buckets(Some(&t.name)).len() as u64;
    Tenant { name: t.name, created: t.created.to_string(), buckets, vms }
}

pub(super) async fn tenants(State(api): State<Api>) -> Json<Vec<Tenant>> {
    Json(api.core.realm().tenants().into_iter().map(|t| row(&api, t)).collect())
}

pub(super) async fn tenant_create(
    State(api): State<Api>,
    Json(body): Json<TenantCreate>,
) -> Result<(StatusCode, Json<Tenant>), ApiFailure> {
    let made = api.core.realm().tenant_create(&body.name).await.map_err(|e| failure(e, &body.name))?;
    tracing::info!(tenant = %made.name, "tenant created");
    Ok((StatusCode::CREATED, Json(row(&api, made))))
}

pub(super) async fn tenant_rm(
    State(api): State<Api>,
    Path(name): Path<TenantId>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, ApiFailure> {
    if force {
        for vm in api.core.realm().vms().into_iter().filter(|v| v.tenant == name) {
            api.core.realm().vm_detach(&name, &vm.vm).await.map_err(|e| failure(e, &name))?;
            api.core.unlisten(&vm).await;
            api.core.end_vm(&name, &vm.vm).await;
        }
        for bucket in api.core.realm().buckets(Some(&name)) {
            buckets::remove(&api.core, &name, &bucket.name).await.map_err(ApiFailure::internal)?;
        }
    }
    api.core.realm().tenant_rm(&name).await.map_err(|e| {
        failure(e, &name).try_next(format!("mooring-gateway tenant rm {name} --force"))
    })?;
    api.core.reload_grants();
    tracing::info!(tenant = %name, "tenant removed, its data key destroyed");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn status(State(api): State<Api>) -> Json<GatewayStatus> {
    Json(api.core.status().await)
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<String, ApiFailure> {
    api.core.metrics().text().map_err(ApiFailure::internal)
}

pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}
