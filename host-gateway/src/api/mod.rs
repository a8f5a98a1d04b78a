//! The HTTP API of docs/api.md. A handler converts: it takes apart what was asked, calls one function of the gateway,
//! and writes the answer. Who asks comes from the channel (or a bearer token on TCP) as an extension of the request;
//! only the operator's socket has `?tenant=`.

mod admin;
mod asker;
mod buckets;
pub mod error;
mod external;
mod integrity;
mod keys;
mod shares;
mod snapshots;
mod tokens;
mod trash;
pub mod until;
mod vms;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use crate::core::Core;
use crate::gateway::Gateway;
pub use asker::Asker;

/// Largest body of a request, bytes: the API takes words, not data.
const MAX_BODY: usize = 64 << 10;

/// The operator came in at another gateway, of this name.
#[derive(Clone, Debug)]
pub struct Via(pub String);

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Its core.
    pub core: Arc<Core>,
}

impl Api {
    fn new(gateway: Arc<Gateway>) -> Api {
        Api { core: Arc::clone(&gateway.core), gateway }
    }
}

/// What a tenant may ask: on VMs' channels and, with a token, on TCP.
pub fn tenant_router(gateway: Arc<Gateway>) -> Router {
    routes().layer(DefaultBodyLimit::max(MAX_BODY)).with_state(Api::new(gateway))
}

/// What the operator may ask besides.
pub fn admin_router(gateway: Arc<Gateway>) -> Router {
    routes()
        .route("/v1/tenants", get(admin::tenants).post(admin::tenant_create))
        .route("/v1/tenants/{name}", delete(admin::tenant_rm))
        .route("/v1/tenants/{name}/quota", post(admin::tenant_quota))
        .route("/v1/buckets/{name}/quota", post(buckets::quota))
        .route("/v1/buckets/{name}/gc", post(buckets::gc))
        .route("/v1/tenants/{name}/rotate-key", post(keys::rotate_tenant))
        .route("/v1/master-key", get(keys::show).post(keys::rotate_master))
        .route("/v1/vms", get(vms::list).post(vms::attach))
        .route("/v1/vms/{vm}", delete(vms::detach))
        .route("/v1/keys", get(tokens::keys).post(tokens::key_create))
        .route("/v1/keys/{id}", delete(tokens::key_rm))
        .route("/v1/buckets/{name}/check", get(integrity::checked).post(integrity::check))
        .route("/v1/buckets/{name}/scrub", get(integrity::scrubbed).post(integrity::scrub))
        .route("/v1/buckets/{name}/damage", get(integrity::damage))
        .route("/v1/status", get(admin::status))
        .route("/metrics", get(admin::metrics))
        .route("/healthz", get(admin::health))
        .layer(axum::Extension(Asker::operator()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api::new(gateway))
}

fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/whoami", get(asker::whoami))
        .route("/v1/buckets", get(buckets::list).post(buckets::create))
        .route("/v1/buckets/{name}", get(buckets::show).delete(buckets::remove))
        .route("/v1/buckets/{name}/clone", post(buckets::clone))
        .route("/v1/buckets/{name}/snapshots", get(snapshots::list).post(snapshots::create))
        .route("/v1/buckets/{name}/snapshots/{snapshot}", delete(snapshots::remove))
        .route("/v1/buckets/{name}/snapshots/{snapshot}/restore", post(snapshots::restore))
        .route("/v1/buckets/{name}/trash", get(trash::list).post(trash::set).delete(trash::empty))
        .route("/v1/buckets/{name}/trash/restore", post(trash::restore))
        .route("/v1/buckets/{name}/schedule", get(snapshots::schedule).post(snapshots::set_schedule))
        .route("/v1/shares", get(shares::list).post(shares::create))
        .route("/v1/shares/check", post(shares::check))
        .route("/v1/shares/{id}", get(shares::show).delete(shares::revoke))
        .route("/v1/shares/{id}/accept", post(shares::accept))
        .route("/v1/shares/{id}/decline", post(shares::decline))
        .route("/v1/tokens", post(tokens::create))
        .route("/v1/credentials", get(tokens::credentials))
        .fallback(asker::nothing)
}
