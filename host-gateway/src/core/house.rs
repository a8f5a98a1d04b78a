//! What is done from time to time, until the gateway stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::ids::TenantId;
use mooring_policy::index::Status as GrantStatus;
use mooring_policy::token;
use mooring_protocol::caps;

use super::Core;
use super::doors::Doors;
use super::registry::is_share;
use super::sessions::Sessions;

/// How often tokens of connected sessions are renewed: twice in a token's life.
const RENEW_TOKENS: Duration = Duration::from_secs(token::SESSION_LIFE.as_secs() / 2);

/// How often it is asked whether a snapshot is due.
const LOOK_FOR_SNAPSHOTS: Duration = Duration::from_secs(10);

/// How often idle volumes are looked for.
const CLOSE_IDLE: Duration = Duration::from_secs(60);

/// How often it is asked whether too many volumes are open.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How often grants that have run out are looked for.
const CLOSE_ENDED: Duration = Duration::from_millis(200);

/// Closes volumes that nobody uses, until the gateway stops. Beside the other housekeeping, which must not wait for a
/// volume that is slow to close.
pub(super) async fn keep_few_open(doors: Arc<Doors>, sessions: Arc<Sessions>) {
    let start = tokio::time::Instant::now();
    let mut idle = tokio::time::interval_at(start + CLOSE_IDLE, CLOSE_IDLE);
    let mut crowded = tokio::time::interval(LOOK_AROUND);
    crowded.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sessions.stopping().cancelled() => return,
            _ = idle.tick() => doors.volumes.close_idle().await,
            _ = crowded.tick() => {
                if doors.volumes.is_crowded() {
                    doors.volumes.close_idle().await;
                }
            }
        }
    }
}

/// Reads the registry anew after a change whose caller had left, interrupted or tired of a failing disk, and does what the
/// caller would have done: doors close and open. Until the gateway stops.
pub(super) async fn follow_changes(core: Arc<Core>) {
    let (mut changes, mut seen) = (core.realm().changes(), 0);
    loop {
        tokio::select! {
            () = core.sessions().stopping().cancelled() => return,
            more = changes.wait_for(|now| now.unattended > seen) => match more {
                Ok(now) => seen = now.unattended,
                Err(_) => return,
            },
        }
        if let Err(error) = core.reload().await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "the registry cannot be read; decisions go by what it said before");
            continue;
        }
        close_ended(&core.doors, core.sessions()).await;
        let tenants: BTreeSet<TenantId> =
            core.sessions().list().iter().filter_map(|session| session.who().tenant().cloned()).collect();
        for tenant in tenants {
            core.sessions().doors_changed(&tenant).await;
        }
        if let Err(error) = core.remove_doomed().await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "what belonged to removed buckets is still there");
        }
    }
}

/// Notices that another gateway has taken over: from then on nothing is served from here. Sessions end, so that their
/// agents drop what they cached; volumes close, and with them every cache.
pub(super) async fn watch_standing(core: Arc<Core>) {
    let standing = core.standing().clone();
    let why = tokio::select! {
        () = core.sessions().stopping().cancelled() => return,
        why = standing.until_lost() => why,
        () = core.realm().taken() => {
            let why = "another gateway has taken over the registry";
            standing.lose(why);
            why.to_owned()
        }
    };
    tracing::error!(why, "this gateway serves no more: start it again to take over in its turn");
    for session in core.sessions().list() {
        session.end(&why);
    }
    core.doors.volumes.close_all().await;
}

/// Takes the snapshots that buckets are to have by themselves, and removes those that are too many; empties trash of what
/// is too old; until the gateway stops. When one is due follows from those that are there, so that a stop in between
/// delays it and loses none.
pub(super) async fn keep_snapshots(core: Arc<Core>) {
    let mut look = tokio::time::interval(LOOK_FOR_SNAPSHOTS);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due = super::trash::Due::new();
    loop {
        tokio::select! {
            () = core.sessions().stopping().cancelled() => return,
            _ = look.tick() => {}
        }
        let registry = core.registry();
        for bucket in registry.by_volume.values() {
            if let Some(schedule) = bucket.snapshots
                && let Err(error) = core.snapshot_when_due(bucket.volume, schedule).await
            {
                let error: &dyn std::error::Error = &error;
                tracing::error!(bucket = %bucket.name, error, "a snapshot that was due could not be taken");
            }
            if let Some(keep) = bucket.trash_seconds
                && let Err(error) = core.trash_when_due(bucket.volume, keep, &mut due).await
            {
                let error: &dyn std::error::Error = &error;
                tracing::error!(bucket = %bucket.name, error, "what is old in the trash stays for now");
            }
        }
        due.retain(|volume, _| registry.by_volume.contains_key(volume));
    }
}

/// Renews tokens, closes doors whose grant has run out, until the gateway stops.
pub(super) async fn keep(doors: Arc<Doors>, sessions: Arc<Sessions>) {
    let start = tokio::time::Instant::now();
    let mut renew = tokio::time::interval_at(start + RENEW_TOKENS, RENEW_TOKENS);
    let mut ended = tokio::time::interval(CLOSE_ENDED);
    ended.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = doors.clock.now();
    loop {
        tokio::select! {
            () = sessions.stopping().cancelled() => return,
            _ = renew.tick() => sessions.renew_tokens(),
            _ = ended.tick() => {
                let now = doors.clock.now();
                let expiry = doors.registry.load().grants.next_expiry(looked);
                looked = now;
                if expiry.is_some_and(|at| at <= now) {
                    close_ended(&doors, &sessions).await;
                }
            }
        }
    }
}

/// Closes the doors of grants that have run out. Nothing is allowed behind them any more; this makes agents drop what
/// they have cached of it.
async fn close_ended(doors: &Doors, sessions: &Sessions) {
    let (registry, now) = (doors.registry.load_full(), doors.clock.now());
    let is_over = |door: &u64| {
        let grant = registry.by_door.get(door);
        grant.is_none_or(|id| registry.grants.status(*id, now) != Some(GrantStatus::InForce))
    };
    let open = sessions.list().into_iter().flat_map(|s| s.open_doors()).map(|d| d.id);
    let over: BTreeSet<u64> = open.filter(|door| is_share(*door)).filter(is_over).collect();
    for door in over {
        let closed = sessions.close_door(door, caps::FOREIGN_RECALL_DEADLINE).await;
        let tenants: BTreeSet<TenantId> = closed.iter().filter_map(|c| c.who.tenant().cloned()).collect();
        tracing::info!(door, sessions = closed.len(), "a share has run out");
        for tenant in tenants {
            sessions.doors_changed(&tenant).await;
        }
    }
}
