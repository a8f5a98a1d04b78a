//! `/v1/vms`: the operator's.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use mooring_policy::ids::VmId;
use mooring_protocol::api::{Channel, Vm, VmAttach};
use mooring_store::realm;

use super::asker::Asker;
use super::error::ApiFailure;
use super::{Api, Via};
use crate::shares::failure;

fn stored(channel: Channel) -> realm::Channel {
    match channel {
        Channel::Hybrid(path) => realm::Channel::Hybrid(path.into()),
        Channel::Cid(cid) => realm::Channel::Cid(cid),
        Channel::Unix(path) => realm::Channel::Unix(path.into()),
        Channel::Tcp => realm::Channel::Tcp,
    }
}

fn shown(channel: Option<realm::Channel>) -> Channel {
    match channel {
        Some(realm::Channel::Hybrid(path)) => Channel::Hybrid(path.display().to_string()),
        Some(realm::Channel::Cid(cid)) => Channel::Cid(cid),
        Some(realm::Channel::Unix(path)) => Channel::Unix(path.display().to_string()),
        Some(realm::Channel::Tcp) | None => Channel::Tcp,
    }
}

fn row(api: &Api, vm: realm::Vm) -> Vm {
    Vm {
        sessions: api.core.sessions_of(&vm.tenant, &vm.name) as u64,
        channel: shown(vm.channel),
        generation: vm.generation.get(),
        tenant: vm.tenant,
        vm: vm.name,
        gateway: vm.gateway,
    }
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<Vm>>, ApiFailure> {
    let rows = api.core.realm().vms(None).await.map_err(failure)?;
    Ok(Json(rows.into_iter().map(|vm| row(&api, vm)).collect()))
}

pub(super) async fn attach(
    State(api): State<Api>,
    via: Option<Extension<Via>>,
    Json(body): Json<VmAttach>,
) -> Result<(StatusCode, Json<Vm>), ApiFailure> {
    let own = api.core.elsewhere().map(|there| there.own().to_owned());
    // The VM runs where the operator speaks.
    let host = via.map(|Extension(Via(gateway))| gateway).or_else(|| own.clone());
    let mut before = None;
    // A VM attached again is a new boot, perhaps by another channel: what its earlier one had ends first.
    if let Ok(old) = api.core.realm().vm(&body.tenant, &body.vm).await {
        if old.gateway.is_none() || old.gateway.as_deref() == own.as_deref() {
            api.core.unlisten(&old).await;
        }
        api.core.end_vm(&body.tenant, &body.vm);
        before = old.gateway.clone().filter(|gateway| Some(gateway) != host.as_ref()).map(|_| old);
    }
    let channel = stored(body.channel);
    let made = api.core.realm().vm_attach_at(&body.tenant, &body.vm, channel, host.as_deref()).await;
    let made = made.map_err(failure)?;
    api.core.reload().await.map_err(ApiFailure::internal)?;
    if let Some(old) = before {
        // It has moved to another host: the gateway there lets go of its channel.
        api.core.unlisten(&old).await;
    }
    if let Err(error) = api.core.listen(&made).await {
        // Attached and deaf would be worse than not attached.
        api.core.realm().vm_detach(&made.tenant, &made.name).await.map_err(failure)?;
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
        return Err(ApiFailure::conflict(format!("{error}{cause}")).try_next("mooring-gateway vm ls"));
    }
    tracing::info!(tenant = %made.tenant, vm = %made.name, generation = %made.generation, "vm attached");
    Ok((StatusCode::CREATED, Json(row(&api, made))))
}

pub(super) async fn detach(
    State(api): State<Api>,
    asker: Asker,
    Path(vm): Path<VmId>,
) -> Result<StatusCode, ApiFailure> {
    let tenant = asker.tenant()?;
    let old = api.core.realm().vm(tenant, &vm).await.map_err(failure)?;
    api.gateway.detach(&old).await.map_err(crate::shares::core_failure)?;
    Ok(StatusCode::NO_CONTENT)
}
