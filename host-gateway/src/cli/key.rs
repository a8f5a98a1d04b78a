//! `key create|ls|rm`: static access keys. `key show|rotate-master`: the keys that data is sealed with.

use clap::Subcommand;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::TenantId;
use mooring_protocol::api::{Key, KeyCreate, MasterKeyRotate, MasterKeyRotated, MasterKeyStatus};

/// Access keys, and the keys that data is sealed with.
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
    /// Show which master key wraps which data keys; never a key itself
    Show,
    /// Wrap all data keys with another master key, while everything goes on
    ///
    /// It happens in one step: at any moment, also after a crash, one master key opens everything, the old one or the
    /// new one. Name the new one in the gateway's settings before its next start (both, if you like: master_key and
    /// more_master_keys). The old one is not needed any more, but for backups from before.
    RotateMaster {
        /// Place of the new key as the gateway sees it: a file, `env:NAME` or `command:LINE`
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Make a new key in that file first
        #[arg(long)]
        generate: bool,
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
        KeyCommand::Show => {
            let status: MasterKeyStatus = api.get("/v1/master-key").await?;
            form.print(&status, show)
        }
        KeyCommand::RotateMaster { to, generate } => {
            let to = absolute(&to)?;
            let done: MasterKeyRotated =
                api.post("/v1/master-key", &MasterKeyRotate { to, generate }).await?;
            form.print(&done, |d| {
                format!(
                    "master key {} ({}) wraps all {} keys; {} is not needed any more\nname it in the gateway's settings before its next start: master_key = \"{}\"",
                    d.id, d.place, d.keys, d.before, d.place
                )
            })
        }
    }
}

/// The gateway has another working directory than who types here.
fn absolute(to: &str) -> Result<String, ApiError> {
    let is_place = ["env:", "command:", "file:/"].iter().any(|kind| to.starts_with(kind));
    if is_place {
        return Ok(to.to_owned());
    }
    let path = std::path::absolute(to.strip_prefix("file:").unwrap_or(to));
    let path = path.map_err(|error| ApiError::Local(format!("`{to}`: {error}")))?;
    Ok(format!("file:{}", path.display()))
}

fn show(status: &MasterKeyStatus) -> String {
    let at_hand = status.at_hand.iter().map(|key| {
        let used = if key.id == status.id { "wraps all keys" } else { "not needed" };
        [key.id.clone(), used.to_owned(), key.place.clone()]
    });
    let keys = status.keys.iter().map(|key| {
        [
            key.tenant.as_ref().map_or_else(|| "(registry)".to_owned(), ToString::to_string),
            key.generation.to_string(),
            if key.current { "seals and opens" } else { "opens" }.to_owned(),
            key.made.clone(),
            key.master.clone(),
        ]
    });
    let masters = table(["master key", "use", "place"], at_hand);
    format!("{masters}\n\n{}", table(["owner", "data key", "use", "made", "wrapped by"], keys))
}
