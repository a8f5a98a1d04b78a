//! `token`.

use clap::Args;
use mooring_cli::output::Form;
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{TenantId, VmId};
use mooring_protocol::api::{Token, TokenCreate};

/// Prints a session token for a tenant, or for one of its VMs, valid for 10 minutes.
///
/// A VM attached with --tcp comes in with its token and keeps itself supplied from then on.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Whose rights it carries
    #[arg(long, value_name = "TENANT")]
    tenant: TenantId,
    /// For this VM of the tenant's, to come in with over TLS
    #[arg(long, value_name = "VM")]
    vm: Option<VmId>,
    /// Narrow it: `read:photos/2026/`; may be repeated
    #[arg(long, value_name = "RIGHTS:BUCKET/PREFIX")]
    scope: Vec<String>,
}

/// Runs the command.
pub async fn run(api: &Api, form: Form, args: TokenArgs) -> Result<(), ApiError> {
    let api = api.clone().for_tenant(Some(args.tenant.to_string()));
    let token: Token = api.post("/v1/tokens", &TokenCreate { scope: args.scope, vm: args.vm }).await?;
    form.print(&token, |t| t.token.clone())
}
