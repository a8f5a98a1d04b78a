//! What the share commands do: between the API's words and the registry's rows.
//!
//! A share is a grant as its grantee sees it. Giving stores a signed statement and swaps the grants every decision
//! looks at; taking back swaps them first, so that the next operation anywhere is refused, and then closes the door in
//! every session that had it open and waits until each confirmed or was fenced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::{Rule, decide};
use mooring_policy::grant::{Delegation, Grant, delegate};
use mooring_policy::ids::{BucketName, GrantId, ShareName, TenantId};
use mooring_policy::index::{GrantIndex, Status as Standing};
use mooring_policy::principal::Principal;
use mooring_policy::resource::{Prefix, Resource};
use mooring_policy::token::sign_grant;
use mooring_protocol::api::{
    Check, Checked, Revoked, Sees, Share, ShareCreate, ShareState, Side, until_text,
};
use mooring_store::error::StoreError;
use mooring_store::realm::{GrantRow, RealmError};

use crate::api::error::ApiFailure;
use crate::api::until::until;
use crate::core::registry::door_of;
use crate::core::{Core, CoreError, to_the_end};
use crate::gateway::Gateway;

/// How long a share lives when nothing is said.
const DEFAULT_UNTIL: &str = "7d";

/// What is allowed when nothing is said.
const DEFAULT_RIGHTS: &str = "read";

/// Gives a share: of a bucket of `me`, or onwards of a share that `me` holds (`<owner>.<name>`).
pub async fn create(core: &Arc<Core>, me: &TenantId, ask: ShareCreate) -> Result<Share, ApiFailure> {
    let grant = match ask.bucket.split_once('.') {
        None => own_grant(core, me, &ask).await?,
        Some((owner, name)) => onward_grant(core, me, owner, name, &ask).await?,
    };
    grant.validate().map_err(ApiFailure::invalid)?;
    core.realm().tenant(&grant.grantee).await.map_err(failure)?;
    check_prefix_exists(core, &grant).await?;
    check_name_is_free(core, &grant).await?;
    let row = if ask.dry_run {
        GrantRow { grant, statement: String::new(), accepted: None, revoked: None }
    } else {
        let registry = core.registry();
        let statement =
            sign_grant(&registry.keys, core.token_realm(), &grant).map_err(ApiFailure::internal)?;
        let row = core.realm().grant_put(grant, statement).await.map_err(failure)?;
        core.reload().await.map_err(ApiFailure::internal)?;
        tracing::info!(grant = %row.grant.id, owner = %row.grant.owner, grantee = %row.grant.grantee, "share given");
        row
    };
    Ok(describe(core, &row))
}

async fn own_grant(core: &Core, me: &TenantId, ask: &ShareCreate) -> Result<Grant, ApiFailure> {
    let bucket = BucketName::try_from(ask.bucket.as_str()).map_err(ApiFailure::invalid)?;
    core.realm().bucket(me, &bucket).await.map_err(failure)?;
    let prefix = parse_prefix(&ask.prefix)?;
    let now = core.now();
    Ok(Grant {
        id: GrantId::random(core.random()),
        owner: me.clone(),
        grantee: ask.with.clone(),
        name: name_for(ask, &prefix, bucket.as_str())?,
        bucket,
        prefix,
        actions: rights(ask)?,
        not_before: now,
        until: until(ask.until.as_deref().unwrap_or(DEFAULT_UNTIL), now).map_err(ApiFailure::invalid)?,
        depth: ask.reshare,
        parent: None,
        note: ask.note.clone(),
    })
}

async fn onward_grant(
    core: &Core,
    me: &TenantId,
    owner: &str,
    name: &str,
    ask: &ShareCreate,
) -> Result<Grant, ApiFailure> {
    let parent = held(core, me, owner, name).await?.ok_or_else(|| {
        ApiFailure::not_found(format_args!("share {}", ask.bucket)).try_next("share ls --in")
    })?;
    let prefix = parent.grant.prefix.child(&parse_prefix(&ask.prefix)?).map_err(ApiFailure::invalid)?;
    let now = core.now();
    // Without a word about time it lasts as long as what it is cut from.
    let until = match ask.until.as_deref() {
        None | Some("forever") => None,
        Some(text) => until(text, now).map_err(ApiFailure::invalid)?,
    };
    let cut = Delegation {
        id: GrantId::random(core.random()),
        grantee: ask.with.clone(),
        name: name_for(ask, &prefix, name)?,
        prefix,
        actions: rights(ask)?,
        not_before: now,
        until,
        depth: ask.reshare,
        note: ask.note.clone(),
    };
    delegate(&parent.grant, cut).map_err(|e| ApiFailure::denied(e.to_string()))
}

/// The share `me` holds under these names, if it is in force.
async fn held(core: &Core, me: &TenantId, owner: &str, name: &str) -> Result<Option<GrantRow>, ApiFailure> {
    let (registry, now) = (core.registry(), core.now());
    let rows = core.realm().grants_of_grantee(me).await.map_err(failure)?;
    Ok(rows.into_iter().find(|r| {
        r.grant.owner.as_str() == owner
            && r.accepted.as_ref().unwrap_or(&r.grant.name).as_str() == name
            && registry.grants.status(r.grant.id, now) == Some(Standing::InForce)
    }))
}

/// A grantee tells shares of one owner apart by their names.
async fn check_name_is_free(core: &Core, grant: &Grant) -> Result<(), ApiFailure> {
    match held(core, &grant.grantee, grant.owner.as_str(), grant.name.as_str()).await? {
        None => Ok(()),
        Some(_) => Err(ApiFailure::conflict(format!(
            "tenant {} already has a share of {} named {}: name this one with --as NAME",
            grant.grantee, grant.owner, grant.name
        ))),
    }
}

fn parse_prefix(text: &str) -> Result<Prefix, ApiFailure> {
    Prefix::try_from(text).map_err(ApiFailure::invalid)
}

fn rights(ask: &ShareCreate) -> Result<ActionSet, ApiFailure> {
    ActionSet::from_rights(ask.rights.as_deref().unwrap_or(DEFAULT_RIGHTS)).map_err(ApiFailure::invalid)
}

/// The name the grantee sees: as asked, else the bucket's and the prefix's last component: `photos-2026`.
fn name_for(ask: &ShareCreate, prefix: &Prefix, bucket: &str) -> Result<ShareName, ApiFailure> {
    if let Some(name) = &ask.as_ {
        return Ok(name.clone());
    }
    let text = String::from_utf8_lossy(prefix.as_bytes());
    let last = text.trim_end_matches('/').rsplit('/').next().filter(|l| !l.is_empty());
    let wanted = last.map_or_else(|| bucket.to_owned(), |l| format!("{bucket}-{}", l.to_lowercase()));
    // A component with letters that no bucket may have leaves the bucket's name alone.
    ShareName::try_from(wanted.replace(['_', ' ', '.'], "-").as_str())
        .or_else(|_| ShareName::try_from(bucket))
        .map_err(|e| ApiFailure::invalid(format_args!("{e}: name it with --as NAME")))
}

/// A misspelt prefix is found now and not by a puzzled grantee.
async fn check_prefix_exists(core: &Arc<Core>, grant: &Grant) -> Result<(), ApiFailure> {
    if grant.prefix.is_whole_bucket() {
        return Ok(());
    }
    let row = core.realm().bucket(&grant.owner, &grant.bucket).await.map_err(failure)?;
    let volume = core.volume(row.volume).await.map_err(ApiFailure::internal)?;
    let path = grant.prefix.as_bytes().strip_suffix(b"/").unwrap_or(grant.prefix.as_bytes());
    match volume.store().resolve(path).await {
        Ok(_) => Ok(()),
        Err(StoreError::NotFound | StoreError::NotDir) => {
            Err(ApiFailure::not_found(format_args!("directory {}/{}", grant.bucket, grant.prefix))
                .try_next(format!("mkdir -p /mnt/mooring/{}/{}", grant.bucket, grant.prefix)))
        }
        Err(other) => Err(ApiFailure::internal(other)),
    }
}

/// Shares of `me`, given or received, in the order they began.
pub async fn list(core: &Core, me: &TenantId, side: Side) -> Result<Vec<Share>, ApiFailure> {
    let registry = core.registry();
    let mut rows = core.realm().grants().await.map_err(failure)?;
    rows.retain(|r| {
        let given = gave(&registry.grants, me, &r.grant);
        let received = r.grant.grantee == *me && r.revoked.is_none();
        match side {
            Side::Out => given,
            Side::In => received,
            Side::All => given || received,
        }
    });
    rows.sort_by_key(|r| (r.grant.not_before, r.grant.id));
    Ok(rows.iter().map(|r| describe(core, r)).collect())
}

/// Whether `me` gave it: the owner, or whoever passed it on.
fn gave(grants: &GrantIndex, me: &TenantId, grant: &Grant) -> bool {
    grant.owner == *me || grant.parent.and_then(|p| grants.get(p)).is_some_and(|p| p.grantee == *me)
}

/// One share that `me` may know of.
async fn known(core: &Core, me: &TenantId, id: GrantId) -> Result<GrantRow, ApiFailure> {
    let missing = || ApiFailure::not_found(format_args!("share {id}")).try_next("share ls");
    let row = match core.realm().grant(id).await {
        Ok(row) => row,
        Err(RealmError::NoSuchGrant(_)) => return Err(missing()),
        Err(other) => return Err(failure(other)),
    };
    if gave(&core.registry().grants, me, &row.grant) || row.grant.grantee == *me {
        Ok(row)
    } else {
        Err(missing())
    }
}

/// Shows one share.
pub async fn show(core: &Core, me: &TenantId, id: GrantId) -> Result<Share, ApiFailure> {
    known(core, me, id).await.map(|r| describe(core, &r))
}

/// The grantee takes it up: it is a bucket and a directory from now on.
pub async fn accept(core: &Arc<Core>, me: &TenantId, id: GrantId) -> Result<Share, ApiFailure> {
    let row = known(core, me, id).await?;
    if row.grant.grantee != *me {
        return Err(ApiFailure::denied("only the tenant it is for can accept a share"));
    }
    if row.revoked.is_some() || !row.grant.is_current(core.now()) {
        return Err(ApiFailure::conflict("the share is over").try_next("share ls --in"));
    }
    let row = core.realm().grant_accept(id, Some(row.grant.name.clone())).await.map_err(failure)?;
    core.reload().await.map_err(ApiFailure::internal)?;
    core.doors_changed(me).await;
    Ok(describe(core, &row))
}

/// The grantee gives it back.
pub async fn decline(gateway: &Arc<Gateway>, me: &TenantId, id: GrantId) -> Result<(), ApiFailure> {
    let row = known(&gateway.core, me, id).await?;
    if row.grant.grantee != *me {
        return Err(ApiFailure::denied("only the tenant it is for can decline a share")
            .try_next(format!("share revoke {id}")));
    }
    end(gateway, id).await.map(drop)
}

/// Takes a share back, and everything that was passed on from it.
pub async fn revoke(gateway: &Arc<Gateway>, me: &TenantId, id: GrantId) -> Result<Revoked, ApiFailure> {
    let core = &gateway.core;
    let row = known(core, me, id).await?;
    if !gave(&core.registry().grants, me, &row.grant) {
        return Err(ApiFailure::denied("only who gave a share can take it back")
            .try_next(format!("share decline {id}")));
    }
    end(gateway, id).await
}

/// Ends a grant everywhere. Goes on though who asked goes away: half a revocation is none.
async fn end(gateway: &Arc<Gateway>, id: GrantId) -> Result<Revoked, ApiFailure> {
    let gateway = Arc::clone(gateway);
    to_the_end(async move { revoke_everywhere(&gateway, id).await }).await
}

async fn revoke_everywhere(gateway: &Gateway, id: GrantId) -> Result<Revoked, ApiFailure> {
    let core = &gateway.core;
    let start = Instant::now();
    let ended = core.realm().grant_revoke(id).await.map_err(failure)?;
    core.reload().await.map_err(ApiFailure::internal)?;
    let mut done = Revoked { id, took_ms: 0.0, confirmed: Vec::new(), fenced: Vec::new() };
    let closing = ended.iter().map(|r| core.revoke_door(door_of(r.grant.id)));
    let reports = futures::future::join_all(closing).await;
    for closed in reports.into_iter().flat_map(|r| r.sessions) {
        let side = if closed.confirmed { &mut done.confirmed } else { &mut done.fenced };
        side.push(closed.who.principal.to_string());
    }
    let took = start.elapsed();
    gateway.metrics().observe_revocation(took);
    done.took_ms = took.as_secs_f64() * 1000.0;
    for tenant in ended.iter().map(|r| &r.grant.grantee).collect::<BTreeSet<_>>() {
        core.doors_changed(tenant).await;
    }
    tracing::info!(grant = %id, took_ms = done.took_ms, fenced = ?done.fenced, "share taken back");
    Ok(done)
}

/// Decides as the doors do, and says what would change it.
pub async fn check(core: &Core, me: &TenantId, ask: &Check) -> Result<Checked, ApiFailure> {
    let action: Action = ask.action.parse().map_err(ApiFailure::invalid)?;
    core.realm().bucket(me, &ask.bucket).await.map_err(failure)?;
    let who = Principal::Tenant { tenant: ask.tenant.clone() };
    let what = match ask.key.as_str() {
        "" => Resource::bucket(me.clone(), ask.bucket.clone()),
        key => Resource::object(me.clone(), ask.bucket.clone(), key.as_bytes().to_vec()),
    };
    let decision = decide(&who, action, &what, &core.registry().grants, None, core.now());
    let rule = decision.rule();
    let fix = match (decision.is_allowed(), rule) {
        (true, Rule::Grant(id)) => Some(format!("share revoke {id}")),
        (true, _) => None,
        (false, _) => {
            let prefix = ask.key.rsplit_once('/').map_or("", |(p, _)| p);
            let slash = if prefix.is_empty() { "" } else { "/" };
            let rights = if matches!(action, Action::Write | Action::Delete) { "write" } else { "read" };
            Some(format!(
                "share create {}/{prefix}{slash} --with {} --rights {rights}",
                ask.bucket, ask.tenant
            ))
        }
    };
    Ok(Checked { allowed: decision.is_allowed(), rule: rule.to_string(), fix })
}

/// A registry error as the one who asks may see it.
pub fn failure(error: RealmError) -> ApiFailure {
    match error {
        RealmError::NoSuchTenant(_)
        | RealmError::NoSuchBucket(..)
        | RealmError::NoSuchVm(..)
        | RealmError::NoSuchGrant(_)
        | RealmError::NoSuchKey(_) => ApiFailure::not_found(error),
        RealmError::TenantExists(_)
        | RealmError::BucketExists(..)
        | RealmError::GrantExists(_)
        | RealmError::ChannelInUse { .. }
        | RealmError::TenantNotEmpty { .. } => ApiFailure::conflict(error.to_string()),
        RealmError::InDoubt(_) => ApiFailure::unavailable(
            "the gateway's disk fails or is full; the change is made once it is well: look before you repeat it",
            error,
        ),
        RealmError::Meta(ref meta) if meta.may_pass() => ApiFailure::unavailable(
            "the gateway's disk fails or is full; nothing was changed: try again when it is well",
            error,
        ),
        other => ApiFailure::internal(other),
    }
}

/// A failure of the core as the one who asks may see it.
pub fn core_failure(error: CoreError) -> ApiFailure {
    match error {
        CoreError::Realm(error) => failure(error),
        external @ CoreError::External(_) => ApiFailure::invalid(external),
        none @ CoreError::NoSuchSnapshot { .. } => ApiFailure::not_found(none),
        CoreError::Volume { source: full @ StoreError::QuotaExceeded, .. } => {
            ApiFailure::conflict(full.to_string())
        }
        CoreError::Volume { source: StoreError::NotFound, .. } => ApiFailure::not_found("that name"),
        CoreError::Volume { source: StoreError::Exists, .. } => ApiFailure::exists("that name"),
        CoreError::Volume { source: StoreError::Invalid(why) | StoreError::Unsupported(why), .. } => {
            ApiFailure::invalid(why)
        }
        busy @ CoreError::Busy { .. } => ApiFailure::conflict(busy.to_string()),
        other => ApiFailure::internal(other),
    }
}

/// A share as both sides see it.
fn describe(core: &Core, row: &GrantRow) -> Share {
    let (g, now) = (&row.grant, core.now());
    let broken = matches!(core.registry().grants.status(g.id, now), Some(Standing::Broken(_)));
    let state = if row.revoked.is_some() || broken {
        ShareState::Revoked
    } else if g.until.is_some_and(|u| now >= u) {
        ShareState::Expired
    } else if row.accepted.is_some() {
        ShareState::Accepted
    } else {
        ShareState::Offered
    };
    Share {
        id: g.id,
        owner: g.owner.clone(),
        bucket: g.bucket.clone(),
        prefix: g.prefix.to_string(),
        with: g.grantee.clone(),
        rights: g.actions.to_string(),
        until: until_text(g.until),
        name: g.name.clone(),
        note: g.note.clone(),
        reshare: g.depth,
        state,
        created: g.not_before.to_string(),
        sees: Sees {
            bucket: format!("{}.{}", g.owner, g.name),
            path: format!("/mnt/mooring/shared/{}/{}", g.owner, g.name),
        },
        undo: format!("share revoke {}", g.id),
    }
}
