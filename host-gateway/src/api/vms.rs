//! `/v1/vms`: the operator's.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use mooring_policy::ids::VmId;
use mooring_protocol::api::{Channel, Vm, VmAttach};
use mooring_store::realm::VmRecord;

use super::asker::Asker;
use super::error::ApiFailure;
use super::Api;
use crate::shares::failure;

fn row(api: &Api, vm: VmRecord) -> Vm {
    let sessions = api.core.sessions_of(&vm.tenant, &vm.vm) as u64;
    Vm {
        sessions,
        channel: vm.channel.unwrap_or(Channel::Tcp),
        generation: vm.generation.get(),
        tenant: vm.tenant,
        vm: vm.vm,
    }
}

pub(super) async fn list(State(api): State<Api>) -> Json<Vec<Vm>> {
    Json(api.core.realm().vms().into_iter().map(|vm| row(&api, vm)).collect())
}

pub(super) async fn attach(
    State(api): State<Api>,
    Json(body): Json<VmAttach>,
) -> Result<(StatusCode, Json<Vm>), ApiFailure> {
    // A VM attached again is a new boot: what its earlier one had open ends first.
    api.core.end_vm(&body.tenant, &body.vm).await;
    let attached = api.core.realm().vm_attach(&body.tenant, &body.vm, body.channel).await;
    let made = attached.map_err(|e| failure(e, &body.tenant))?;
    api.core.listen(&made).await.map_err(|e| ApiFailure::conflict(format!("cannot listen for the VM: {e}")))?;
    tracing::info!(tenant = %made.tenant, vm = %made.vm, generation = %made.generation, "vm attached");
    Ok((StatusCode::CREATED, Json(row(&api, made))))
}

pub(super) async fn detach(
    State(api): State<Api>,
    asker: Asker,
    Path(vm): Path<VmId>,
) -> Result<StatusCode, ApiFailure> {
    let tenant = asker.tenant()?;
    let gone = api.core.realm().vm_detach(tenant, &vm).await.map_err(|e| failure(e, tenant))?;
    api.core.unlisten(&gone).await;
    api.core.end_vm(tenant, &vm).await;
    tracing::info!(%tenant, %vm, "vm detached");
    Ok(StatusCode::NO_CONTENT)
}
