//! What the share commands do: between the API's words and the registry's rows.
//!
//! A share is a grant as its grantee sees it. Giving stores a signed statement and swaps the grants every decision
//! looks at; taking back swaps them first, so that the next operation anywhere is refused, and then closes the door in
//! every session that had it open and waits until each confirmed or was fenced.

use std::sync::Arc;
use std::time::Instant;

use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::{Rule, decide};
use mooring_policy::grant::{Delegation, Grant, delegate};
use mooring_policy::ids::{BucketName, GrantId, ShareName, TenantId};
use mooring_policy::principal::Principal;
use mooring_policy::resource::{Prefix, Resource};
use mooring_protocol::api::{Check, Checked, Revoked, Sees, Share, ShareCreate, ShareState, Side, until_text};
use mooring_store::realm::{GrantRecord, RealmError, door_of};

use crate::api::error::ApiFailure;
use crate::api::until::until;
use crate::core::Core;

/// How long a share lives when nothing is said.
const DEFAULT_UNTIL: &str = "7d";

/// What is allowed when nothing is said.
const DEFAULT_RIGHTS: &str = "read";

/// Gives a share: of a bucket of `me`, or onwards of a share that `me` holds (`<owner>.<name>`).
pub async fn create(core: &Arc<Core>, me: &TenantId, ask: ShareCreate) -> Result<Share, ApiFailure> {
    let grant = match ask.bucket.split_once('.') {
        None => own_grant(core, me, &ask)?,
        Some((owner, name)) => onward_grant(core, me, owner, name, &ask)?,
    };
    grant.validate().map_err(ApiFailure::invalid)?;
    core.realm().tenant(&grant.grantee).map_err(|e| failure(e, me))?;
    check_prefix_exists(core, &grant).await?;
    let record = if ask.dry_run {
        GrantRecord { grant, statement: String::new(), created: core.now(), accepted: false, revoked: None }
    } else {
        let record = core.realm().grant_put(grant).await.map_err(|e| failure(e, me))?;
        core.reload_grants();
        core.doors_changed(&record.grant.grantee).await;
        tracing::info!(grant = %record.grant.id, owner = %record.grant.owner, grantee = %record.grant.grantee, "share given");
        record
    };
    Ok(describe(core, &record))
}

fn own_grant(core: &Core, me: &TenantId, ask: &ShareCreate) -> Result<Grant, ApiFailure> {
    let bucket = BucketName::try_from(ask.bucket.as_str()).map_err(ApiFailure::invalid)?;
    core.realm().bucket(me, &bucket).map_err(|e| failure(e, me))?;
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

fn onward_grant(core: &Core, me: &TenantId, owner: &str, name: &str, ask: &ShareCreate) -> Result<Grant, ApiFailure> {
    let parent = held(core, me, owner, name).ok_or_else(|| {
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
pub fn held(core: &Core, me: &TenantId, owner: &str, name: &str) -> Option<GrantRecord> {
    let now = core.now();
    let grants = core.grants();
    core.realm().grants().into_iter().find(|r| {
        r.grant.grantee == *me
            && r.grant.owner.as_str() == owner
            && r.grant.name.as_str() == name
            && grants.status(r.grant.id, now) == Some(mooring_policy::index::Status::InForce)
    })
}

fn parse_prefix(text: &str) -> Result<Prefix, ApiFailure> {
    Prefix::try_from(text).map_err(ApiFailure::invalid)
}

fn rights(ask: &ShareCreate) -> Result<ActionSet, ApiFailure> {
    ActionSet::from_rights(ask.rights.as_deref().unwrap_or(DEFAULT_RIGHTS)).map_err(ApiFailure::invalid)
}

/// The name the grantee sees: as asked, else made of the prefix's last component, else the bucket's.
fn name_for(ask: &ShareCreate, prefix: &Prefix, bucket: &str) -> Result<ShareName, ApiFailure> {
    if let Some(name) = &ask.as_ {
        return Ok(name.clone());
    }
    let text = String::from_utf8_lossy(prefix.as_bytes());
    let last = text.trim_end_matches('/').rsplit('/').next().filter(|l| !l.is_empty());
    let wanted = last.map_or_else(|| bucket.to_owned(), |l| l.to_lowercase().replace(['_', ' ', '.'], "-"));
    // A component such as `2026` is a fine name; one that is none (too short, odd letters) is put behind the bucket's.
    ShareName::try_from(wanted.as_str())
        .or_else(|_| ShareName::try_from(format!("{bucket}-{wanted}").as_str()))
        .or_else(|_| ShareName::try_from(bucket))
        .map_err(|e| ApiFailure::invalid(format_args!("{e}: name it with --as NAME")))
}

/// A misspelt prefix is found now and not by a puzzled grantee.
async fn check_prefix_exists(core: &Arc<Core>, grant: &Grant) -> Result<(), ApiFailure> {
    if grant.prefix.is_whole_bucket() {
        return Ok(());
    }
    let row = core.realm().bucket(&grant.owner, &grant.bucket).map_err(|e| failure(e, &grant.owner))?;
    let volume = core.volume(row.volume).await.map_err(ApiFailure::internal)?;
    let path = grant.prefix.as_bytes().strip_suffix(b"/").unwrap_or(grant.prefix.as_bytes());
    match volume.resolve(path).await {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiFailure::not_found(format_args!("{}/{}", grant.bucket, grant.prefix))
            .try_next(format!("mkdir -p /mnt/mooring/{}/{}", grant.bucket, grant.prefix))),
    }
}

/// Shares of `me`, given or received.
pub fn list(core: &Core, me: &TenantId, side: Side) -> Vec<Share> {
    let given = |r: &GrantRecord| gave(core, me, r);
    let received = |r: &GrantRecord| r.grant.grantee == *me;
    core.realm()
        .grants()
        .iter()
        .filter(|r| match side {
            Side::Out => given(r),
            Side::In => received(r) && r.revoked.is_none(),
            Side::All => given(r) || received(r),
        })
        .map(|r| describe(core, r))
        .collect()
}

/// Whether `me` gave it: the owner, or whoever passed it on.
fn gave(core: &Core, me: &TenantId, record: &GrantRecord) -> bool {
    record.grant.owner == *me
        || record.grant.parent.and_then(|p| core.realm().grant(p).ok()).is_some_and(|p| p.grant.grantee == *me)
}

/// One share that `me` may know of.
fn known(core: &Core, me: &TenantId, id: GrantId) -> Result<GrantRecord, ApiFailure> {
    let missing = || ApiFailure::not_found(format_args!("share {id}")).try_next("share ls");
    let record = core.realm().grant(id).map_err(|_| missing())?;
    if gave(core, me, &record) || record.grant.grantee == *me { Ok(record) } else { Err(missing()) }
}

/// Shows one share.
pub fn show(core: &Core, me: &TenantId, id: GrantId) -> Result<Share, ApiFailure> {
    known(core, me, id).map(|r| describe(core, &r))
}

/// The grantee takes it up: it is mounted from now on.
pub async fn accept(core: &Arc<Core>, me: &TenantId, id: GrantId) -> Result<Share, ApiFailure> {
    let record = known(core, me, id)?;
    if record.grant.grantee != *me {
        return Err(ApiFailure::denied("only the tenant it is for can accept a share"));
    }
    if record.revoked.is_some() || !record.grant.is_current(core.now()) {
        return Err(ApiFailure::conflict("the share is over").try_next("share ls --in"));
    }
    let record = core.realm().grant_accept(id, true).await.map_err(|e| failure(e, me))?;
    core.doors_changed(me).await;
    Ok(describe(core, &record))
}

/// The grantee gives it back.
pub async fn decline(core: &Arc<Core>, me: &TenantId, id: GrantId) -> Result<(), ApiFailure> {
    let record = known(core, me, id)?;
    if record.grant.grantee != *me {
        return Err(ApiFailure::denied("only the tenant it is for can decline a share")
            .try_next(format!("share revoke {id}")));
    }
    end(core, &record).await.map(drop)
}

/// Takes a share back, and everything that was passed on from it.
pub async fn revoke(core: &Arc<Core>, me: &TenantId, id: GrantId) -> Result<Revoked, ApiFailure> {
    let record = known(core, me, id)?;
    if !gave(core, me, &record) {
        return Err(ApiFailure::denied("only who gave a share can take it back").try_next(format!("share decline {id}")));
    }
    end(core, &record).await
}

async fn end(core: &Arc<Core>, record: &GrantRecord) -> Result<Revoked, ApiFailure> {
    let start = Instant::now();
    let id = record.grant.id;
    let below = core.grants().descendants(id);
    core.realm().grant_revoke(id).await.map_err(ApiFailure::internal)?;
    core.reload_grants();
    let mut done = Revoked { id, took_ms: 0.0, confirmed: Vec::new(), fenced: Vec::new() };
    let doors = std::iter::once(id).chain(below).map(door_of);
    for report in futures::future::join_all(doors.map(|d| core.revoke_door(d))).await {
        done.confirmed.extend(report.confirmed);
        done.fenced.extend(report.fenced);
    }
    core.doors_changed(&record.grant.grantee).await;
    let took = start.elapsed();
    core.metrics().observe_revocation(took);
    done.took_ms = took.as_secs_f64() * 1000.0;
    tracing::info!(grant = %id, took_ms = done.took_ms, fenced = ?done.fenced, "share taken back");
    Ok(done)
}

/// Decides as the doors do, and says what would change it.
pub fn check(core: &Core, me: &TenantId, ask: &Check) -> Result<Checked, ApiFailure> {
    let action: Action = ask.action.parse().map_err(ApiFailure::invalid)?;
    core.realm().bucket(me, &ask.bucket).map_err(|e| failure(e, me))?;
    let who = Principal::Tenant { tenant: ask.tenant.clone() };
    let what = match ask.key.as_str() {
        "" => Resource::bucket(me.clone(), ask.bucket.clone()),
        key => Resource::object(me.clone(), ask.bucket.clone(), key.as_bytes().to_vec()),
    };
    let decision = decide(&who, action, &what, &core.grants(), None, core.now());
    let rule = decision.rule();
    let fix = match (decision.is_allowed(), rule) {
        (true, Rule::Grant(id)) => Some(format!("share revoke {id}")),
        (true, _) => None,
        (false, _) => {
            let prefix = ask.key.rsplit_once('/').map_or("", |(p, _)| p);
            let slash = if prefix.is_empty() { "" } else { "/" };
            let rights = if matches!(action, Action::Write | Action::Delete) { "write" } else { "read" };
            Some(format!("share create {}/{prefix}{slash} --with {} --rights {rights}", ask.bucket, ask.tenant))
        }
    };
    Ok(Checked { allowed: decision.is_allowed(), rule: rule.to_string(), fix })
}

/// A registry error as the tenant may see it.
pub fn failure(error: RealmError, me: &TenantId) -> ApiFailure {
    match error {
        RealmError::NoBucket { ref owner, .. } if owner != me => ApiFailure::not_found("bucket"),
        RealmError::NoTenant(_) | RealmError::NoBucket { .. } | RealmError::NoVm { .. } | RealmError::NoGrant(_) => {
            ApiFailure::not_found(error)
        }
        RealmError::TenantExists(_)
        | RealmError::BucketExists { .. }
        | RealmError::ShareNameTaken { .. }
        | RealmError::ChannelTaken { .. }
        | RealmError::TenantInUse { .. } => ApiFailure::conflict(error.to_string()),
        other => ApiFailure::internal(other),
    }
}

/// A share as both sides see it.
fn describe(core: &Core, record: &GrantRecord) -> Share {
    let g = &record.grant;
    let standing = core.grants().status(g.id, core.now());
    let state = if record.revoked.is_some() || matches!(standing, Some(mooring_policy::index::Status::Broken(_))) {
        ShareState::Revoked
    } else if g.until.is_some_and(|u| core.now() >= u) {
        ShareState::Expired
    } else if record.accepted {
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
        created: record.created.to_string(),
        sees: Sees {
            bucket: format!("{}.{}", g.owner, g.name),
            path: format!("/mnt/mooring/shared/{}/{}", g.owner, g.name),
        },
        undo: format!("share revoke {}", g.id),
    }
}
