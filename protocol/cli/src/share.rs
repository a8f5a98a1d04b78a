//! `share create|ls|show|accept|decline|revoke|check`, the same in the guest and on the host.

use clap::{Args, Subcommand};
use mooring_policy::ids::{BucketName, GrantId, ShareName, TenantId};
use mooring_protocol::api::{Check, Checked, Revoked, Share, ShareCreate, ShareState};

use crate::client::{Api, ApiError, escape};
use crate::output::{Form, table};

/// Share a bucket or a prefix with another tenant, and take it back at once.
#[derive(Clone, Debug, Subcommand)]
pub enum ShareCommand {
    /// Give another tenant access to a bucket or a prefix
    ///
    /// A prefix is whole path components: `photos/2026` never covers `photos/2026-private`. The other tenant sees it
    /// at once as a bucket and, once accepted, as a directory. `revoke` takes it back everywhere.
    #[command(after_help = "Example: share create photos/2026/ --with globex --until 7d")]
    Create(Create),
    /// List shares given and received
    Ls {
        /// Only those given
        #[arg(long, conflicts_with = "incoming")]
        out: bool,
        /// Only those received
        #[arg(long = "in")]
        incoming: bool,
    },
    /// Show one share
    Show {
        /// Its id, or enough of its beginning
        id: String,
    },
    /// Accept a share: it appears as a bucket and under /mnt/mooring/shared/
    Accept {
        /// Its id, or enough of its beginning
        id: String,
    },
    /// Decline a share, or give an accepted one back
    Decline {
        /// Its id, or enough of its beginning
        id: String,
    },
    /// Take a share back; returns when nobody can use it any more
    Revoke {
        /// Its id, or enough of its beginning
        id: String,
    },
    /// Say whether a tenant may do something now, by which rule, and what would change it
    #[command(after_help = "Example: share check globex read photos/2026/a.jpg")]
    Check {
        /// Who would do it
        tenant: TenantId,
        /// read, write, list, delete or share
        action: String,
        /// BUCKET or BUCKET/KEY
        target: String,
    },
}

/// Arguments of `share create`.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// BUCKET or BUCKET/PREFIX/
    pub target: String,
    /// The tenant it is for
    #[arg(long, value_name = "TENANT")]
    pub with: TenantId,
    /// read, write, list, delete, or several with commas
    #[arg(long, default_value = "read")]
    pub rights: String,
    /// 90s, 15m, 12h, 7d, a date, a moment, or `forever` [default: 7d; of a share passed on, as long as that lasts]
    #[arg(long, value_name = "UNTIL")]
    pub until: Option<String>,
    /// The name the other tenant sees [default: the prefix's last component]
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<ShareName>,
    /// How many times it may be passed on
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub reshare: u8,
    /// A word for both sides
    #[arg(long, default_value = "")]
    pub note: String,
    /// Check everything and say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs a share command against the API.
pub async fn run(api: &Api, form: Form, command: ShareCommand) -> Result<(), ApiError> {
    match command {
        ShareCommand::Create(args) => create(api, form, args).await,
        ShareCommand::Ls { out, incoming } => {
            let side = if out {
                "out"
            } else if incoming {
                "in"
            } else {
                "all"
            };
            let shares: Vec<Share> = api.get(&format!("/v1/shares?side={side}")).await?;
            form.print(&shares, |s| list(s))
        }
        ShareCommand::Show { id } => {
            let share = find(api, &id).await?;
            form.print(&share, describe)
        }
        ShareCommand::Accept { id } => {
            let id = find(api, &id).await?.id;
            let share: Share = api.post_empty(&format!("/v1/shares/{id}/accept")).await?;
            form.print(&share, |s| {
                format!("accepted: {} is at s3://{} and {}", s.name, s.sees.bucket, s.sees.path)
            })
        }
        ShareCommand::Decline { id } => {
            let id = find(api, &id).await?.id;
            api.post_empty::<()>(&format!("/v1/shares/{id}/decline")).await?;
            form.print(&id, |id| format!("declined {id}"))
        }
        ShareCommand::Revoke { id } => {
            let id = find(api, &id).await?.id;
            let done: Revoked = api.delete(&format!("/v1/shares/{id}")).await?;
            form.print(&done, revoked)
        }
        ShareCommand::Check { tenant, action, target } => check(api, form, tenant, action, &target).await,
    }
}

async fn create(api: &Api, form: Form, args: Create) -> Result<(), ApiError> {
    let (bucket, prefix) = split(&args.target);
    let body = ShareCreate {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        with: args.with,
        rights: Some(args.rights),
        until: args.until,
        as_: args.name,
        note: args.note,
        reshare: args.reshare,
        dry_run: args.dry_run,
    };
    let share: Share = api.post("/v1/shares", &body).await?;
    form.print(&share, |s| {
        let verb = if args.dry_run { "would share" } else { "shared" };
        format!(
            "{verb} {}/{} with {} ({}) until {}\n  they see   s3://{} and, once accepted, {}\n  id         {}\n  take back  {}",
            s.bucket, s.prefix, s.with, s.rights, s.until, s.sees.bucket, s.sees.path, s.id, s.undo
        )
    })
}

async fn check(
    api: &Api,
    form: Form,
    tenant: TenantId,
    action: String,
    target: &str,
) -> Result<(), ApiError> {
    let (bucket, key) = split(target);
    let bucket = BucketName::try_from(bucket).map_err(|e| ApiError::Local(format!("{bucket}: {e}")))?;
    let answer: Checked =
        api.post("/v1/shares/check", &Check { tenant, action, bucket, key: key.to_owned() }).await?;
    form.print(&answer, |a| {
        let fix = a.fix.as_ref().map(|f| format!("\n  to change it: {f}")).unwrap_or_default();
        format!("{}: {}{fix}", if a.allowed { "allowed" } else { "denied" }, a.rule)
    })
}

/// The share with this id, or the only one whose id begins so.
async fn find(api: &Api, id: &str) -> Result<Share, ApiError> {
    if GrantId::try_from(id).is_ok() {
        return api.get(&format!("/v1/shares/{}", escape(id))).await;
    }
    let shares: Vec<Share> = api.get("/v1/shares?side=all").await?;
    let mut hits = shares.into_iter().filter(|s| s.id.to_string().starts_with(id));
    match (hits.next(), hits.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(ApiError::Local(format!("no share's id begins with {id}: see `share ls`"))),
        (Some(_), Some(_)) => {
            Err(ApiError::Local(format!("several shares' ids begin with {id}: give more of it")))
        }
    }
}

fn split(target: &str) -> (&str, &str) {
    target.split_once('/').unwrap_or((target, ""))
}

fn state(state: ShareState) -> &'static str {
    match state {
        ShareState::Offered => "offered",
        ShareState::Accepted => "accepted",
        ShareState::Expired => "expired",
        ShareState::Revoked => "revoked",
    }
}

fn list(shares: &[Share]) -> String {
    table(
        ["id", "owner", "what", "with", "rights", "until", "state"],
        shares.iter().map(|s| {
            [
                s.id.to_string(),
                s.owner.to_string(),
                format!("{}/{}", s.bucket, s.prefix),
                s.with.to_string(),
                s.rights.clone(),
                s.until.clone(),
                state(s.state).to_owned(),
            ]
        }),
    )
}

fn describe(s: &Share) -> String {
    let row = |k: &str, v: String| format!("{k:<10} {v}");
    let mut lines = vec![
        row("id", s.id.to_string()),
        row("what", format!("{}/{}", s.bucket, s.prefix)),
        row("owner", s.owner.to_string()),
        row("with", s.with.to_string()),
        row("rights", s.rights.clone()),
        row("until", s.until.clone()),
        row("state", state(s.state).to_owned()),
        row("sees", format!("s3://{} and {}", s.sees.bucket, s.sees.path)),
        row("take back", s.undo.clone()),
    ];
    if !s.note.is_empty() {
        lines.push(row("note", s.note.clone()));
    }
    lines.join("\n")
}

fn revoked(done: &Revoked) -> String {
    let mut text = format!("revoked {} in {:.1} ms", done.id, done.took_ms);
    if !done.confirmed.is_empty() {
        text.push_str(&format!("\n  confirmed: {}", done.confirmed.join(", ")));
    }
    if !done.fenced.is_empty() {
        text.push_str(&format!("\n  did not answer and were cut off: {}", done.fenced.join(", ")));
    }
    text
}
