//! `status` and `umount`.

use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_protocol::api::ErrorInfo;

use crate::agent::AgentStatus;
use crate::doors::control::{STATUS, STOP};

pub(super) async fn run(api: &Api, form: Form) -> Result<(), ApiError> {
    let status: AgentStatus = api.get(STATUS).await?;
    form.print(&status, text)?;
    if status.ready { Ok(()) } else { Err(not_ready(&status)) }
}

fn not_ready(status: &AgentStatus) -> ApiError {
    let message = match &status.last_error {
        Some(error) if !status.connected => format!("not connected to {}: {error}", status.gateway),
        _ if !status.connected => format!("not connected to {} yet", status.gateway),
        _ => "connected, but not everything is mounted yet; the agent's log says why".to_owned(),
    };
    let info =
        ErrorInfo { code: "unavailable".to_owned(), message, try_: None, request_id: "local".to_owned() };
    ApiError::Refused { status: 503, info }
}

fn text(status: &AgentStatus) -> String {
    let link = if status.connected {
        format!("connected to {} as {}", status.gateway, status.tenant)
    } else {
        format!("not connected to {}", status.gateway)
    };
    let rows = status.mounts.iter().map(|m| {
        let access = if m.read_only { "read-only" } else { "read-write" };
        let state = if m.mounted { "mounted" } else { "unmounted" };
        let numbers = [m.open_files.to_string(), m.unsent_bytes.to_string()];
        let [open, unsent] = numbers;
        [
            m.kind.clone(),
            m.name.clone(),
            m.path.display().to_string(),
            access.to_owned(),
            state.to_owned(),
            open,
            unsent,
        ]
    });
    let (received, journalled, stored) = status.watermarks;
    format!(
        "{link}\n{}\nnot handed over: {} bytes (lost if this guest dies now)\n\
         handed over, operations: {received} received, {journalled} journalled, {stored} stored",
        table(["kind", "name", "path", "access", "state", "open", "unsent"], rows),
        status.unsent_bytes,
    )
}

pub(super) async fn umount(api: &Api, form: Form) -> Result<(), ApiError> {
    let status: AgentStatus = api.post_empty(STOP).await?;
    form.print(&status, |_| "everything handed over and unmounted".to_owned())
}
