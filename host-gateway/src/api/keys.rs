//! `/v1/master-key`, `/v1/tenants/{name}/rotate-key`: the operator's.

use axum::Json;
use axum::extract::{Path, State};
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{
    DataKey, KeyRotated, MasterKeyPlace, MasterKeyRotate, MasterKeyRotated, MasterKeyStatus,
};
use mooring_store::seal::MasterKey;

use super::Api;
use super::error::ApiFailure;
use crate::master::{Source, SourceError};
use crate::shares::failure;

pub(super) async fn show(State(api): State<Api>) -> Json<MasterKeyStatus> {
    let realm = api.core.realm();
    let (id, at_hand) = realm.masters();
    let keys = realm.key_list().into_iter().map(|key| DataKey {
        tenant: key.tenant,
        generation: key.generation.0,
        current: key.current,
        made: key.made.to_string(),
        master: key.master,
    });
    let at_hand = at_hand.into_iter().map(|(id, place)| MasterKeyPlace { id, place });
    Json(MasterKeyStatus { id, at_hand: at_hand.collect(), keys: keys.collect() })
}

fn unusable(source: &Source, error: &SourceError) -> ApiFailure {
    ApiFailure::invalid(format!("{source}: {error}"))
}

pub(super) async fn rotate_master(
    State(api): State<Api>,
    Json(body): Json<MasterKeyRotate>,
) -> Result<Json<MasterKeyRotated>, ApiFailure> {
    let source: Source = body.to.parse().map_err(ApiFailure::invalid)?;
    if body.generate {
        let Source::File(path) = &source else {
            return Err(ApiFailure::invalid("a new key can be made in a file only"));
        };
        MasterKey::create(path, api.core.random()).map_err(|error| unusable(&source, &error.into()))?;
    }
    let key = source.read().await.map_err(|error| unusable(&source, &error))?;
    let (before, _) = api.core.realm().masters();
    let keys = api.core.realm().rotate_master(key, &source.to_string()).await.map_err(failure)?;
    let (id, _) = api.core.realm().masters();
    tracing::info!(before, id, place = %source, keys, "another master key wraps everything");
    Ok(Json(MasterKeyRotated { id, place: source.to_string(), before, keys: keys as u64 }))
}

pub(super) async fn rotate_tenant(
    State(api): State<Api>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<KeyRotated>, ApiFailure> {
    let generation = api.core.realm().tenant_rotate_key(&tenant).await.map_err(failure)?;
    tracing::info!(%tenant, %generation, "a new data key seals what is written");
    Ok(Json(KeyRotated { tenant, generation: generation.0 }))
}
