//! `status`.

use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_protocol::api::GatewayStatus;

use super::integrity::damage_table;

/// Runs the command.
pub async fn run(api: &Api, form: Form) -> Result<(), ApiError> {
    let status: GatewayStatus = api.get("/v1/status").await?;
    form.print(&status, text)
}

fn text(s: &GatewayStatus) -> String {
    let volumes = table(
        ["bucket", "volume", "operations", "lost with gateway", "lost with host", "leases"],
        s.volumes.iter().map(|v| {
            [
                format!("{}/{}", v.owner, v.bucket),
                v.volume.clone(),
                v.received.to_string(),
                v.received.saturating_sub(v.journalled).to_string(),
                v.received.saturating_sub(v.stored).to_string(),
                v.leases.to_string(),
            ]
        }),
    );
    let sessions = table(
        ["session", "state", "handles", "doors", "in flight", "requests"],
        s.sessions.iter().map(|v| {
            [
                v.who.clone(),
                v.state.clone(),
                v.handles.to_string(),
                v.doors.to_string(),
                v.in_flight.to_string(),
                v.requests.to_string(),
            ]
        }),
    );
    let damage = match &s.damage[..] {
        [] => String::new(),
        all => format!("\n\ndamaged: these bytes cannot be read\n{}", damage_table(all)),
    };
    let home = s.home.as_ref().map(|home| {
        let others = match &home.connected[..] {
            [] => "no other gateway is connected".to_owned(),
            some => format!("connected: {}", some.join(", ")),
        };
        format!("\nhome is {} (epoch {}); {others}", home.gateway, home.epoch)
    });
    let copies = s.cache_disk.map(|copies| {
        let mib = |bytes: u64| bytes >> 20;
        format!("\ncopies of what the store has: {} of {} MiB", mib(copies.bytes), mib(copies.bound))
    });
    let copies = copies.unwrap_or_default();
    let lost = s.lost.as_ref().map(|why| format!("\nNOTHING IS SERVED: {why}"));
    let (home, lost) = (home.unwrap_or_default(), lost.unwrap_or_default());
    format!(
        "mooring-gateway {}, up {} s{home}{copies}{lost}\n\nopen volumes\n{volumes}\n\nsessions\n{sessions}{damage}",
        s.version, s.uptime_s
    )
}
