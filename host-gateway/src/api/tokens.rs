//! `/v1/tokens`, `/v1/credentials`, `/v1/keys`.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use mooring_policy::access::AccessKey;
use mooring_protocol::api::{Credentials, Key, KeyCreate, Token, TokenCreate, until_text};

use super::Api;
use super::asker::Asker;
use super::error::ApiFailure;
use super::until::until;
use crate::shares::failure;
use crate::tokens;

/// How long an access key lives when nothing is said.
const DEFAULT_TTL: &str = "30d";

pub(super) async fn create(
    State(api): State<Api>,
    asker: Asker,
    Json(body): Json<TokenCreate>,
) -> Result<Json<Token>, ApiFailure> {
    let asked = tokens::parse_scope(asker.tenant()?, &body.scope).map_err(ApiFailure::invalid)?;
    // A narrowed token cannot make one that is narrowed otherwise.
    let scope = match (asker.scope(), asked) {
        (None, asked) => asked,
        (Some(have), None) => Some(have.clone()),
        (Some(_), Some(_)) => return Err(ApiFailure::denied("a narrowed token cannot be narrowed again")),
    };
    let principal = match body.vm {
        None => asker.principal(),
        Some(vm) => asker.vm(&api, vm).await?,
    };
    let (token, session) = tokens::mint(&api.core, principal, scope).await.map_err(ApiFailure::internal)?;
    Ok(Json(Token { token, until: session.expires.to_string() }))
}

pub(super) async fn credentials(
    State(api): State<Api>,
    asker: Asker,
) -> Result<Json<Credentials>, ApiFailure> {
    asker.tenant()?;
    let minted = tokens::mint(&api.core, asker.principal(), asker.scope().cloned()).await;
    let (token, session) = minted.map_err(ApiFailure::internal)?;
    let made = api.gateway.credential_key().mint(&session);
    Ok(Json(Credentials {
        access_key_id: made.access_key_id,
        secret_access_key: made.secret.expose().to_owned(),
        token,
        expiration: made.expires.to_string(),
    }))
}

fn row(key: &AccessKey, secret: bool) -> Key {
    Key {
        id: key.id.clone(),
        secret: secret.then(|| key.secret.expose().to_owned()),
        tenant: key.tenant.clone(),
        until: until_text(key.until),
    }
}

pub(super) async fn keys(State(api): State<Api>) -> Result<Json<Vec<Key>>, ApiFailure> {
    let mut rows = Vec::new();
    for tenant in api.core.realm().tenants().await.map_err(failure)? {
        let keys = api.core.realm().access_keys(&tenant.name).await.map_err(failure)?;
        rows.extend(keys.iter().map(|k| row(k, false)));
    }
    Ok(Json(rows))
}

pub(super) async fn key_create(
    State(api): State<Api>,
    Json(body): Json<KeyCreate>,
) -> Result<(StatusCode, Json<Key>), ApiFailure> {
    let until =
        until(body.ttl.as_deref().unwrap_or(DEFAULT_TTL), api.core.now()).map_err(ApiFailure::invalid)?;
    let key = AccessKey::generate(api.core.random(), body.tenant.clone(), None, until);
    api.core.realm().access_key_put(&key).await.map_err(failure)?;
    Ok((StatusCode::CREATED, Json(row(&key, true))))
}

pub(super) async fn key_rm(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, ApiFailure> {
    api.core.realm().access_key_rm(&id).await.map_err(|e| failure(e).try_next("mooring-gateway key ls"))?;
    Ok(StatusCode::NO_CONTENT)
}
