//! `key create|ls|rm`.

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{Key, KeyCreate};

/// Access keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an access key; its secret is shown once
    Create {
        /// Whose rights it carries
        #[arg(long, value_name = "TENANT")]
        tenant: TenantId,
        /// How long it lives: 12h, 30d, or `forever`
        #[arg(long, default_value = "30d")]
        ttl: String,
    },
    /// List access keys
    Ls,
    /// Remove an access key; what was signed with it is refused from now on
    Rm {
        /// Its id
        id: String,
    },
}

/// Runs a key command.
pub async fn run(api: &Api, form: Form, command: KeyCommand) -> Result<(), ApiError> {
    match command {
        KeyCommand::Create { tenant, ttl } => {
            let made: Key = api.post("/v1/keys", &KeyCreate { tenant, ttl: Some(ttl) }).await?;
            form.print(&made, |k| {
                format!(
                    "export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\nexport AWS_REGION=mooring-1\n# valid until {}",
                    k.id,
                    k.secret.as_deref().unwrap_or_default(),
                    k.until
                )
            })
        }
        KeyCommand::Ls => {
            let keys: Vec<Key> = api.get("/v1/keys").await?;
            form.print(&keys, |all| {
                table(
                    ["id", "tenant", "until"],
                    all.iter().map(|k| [k.id.clone(), k.tenant.to_string(), k.until.clone()]),
                )
            })
        }
        KeyCommand::Rm { id } => {
            api.delete::<()>(&format!("/v1/keys/{}", escape(&id))).await?;
            form.print(&id, |i| format!("removed key {i}"))
        }
    }
}
