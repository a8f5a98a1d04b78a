//! Limits of buckets and tenants, and what they take: what the API asks for.

use std::sync::Arc;

use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{self, BucketShow, GcAction, GcDone, GcShow, Limit, QuotaChange, QuotaUse};
use mooring_store::realm::Bucket;
use mooring_store::volume::{GcState, GcTotals, Quota, Used};

use crate::core::{Core, CoreError, CoreStatus};
use crate::metrics::BucketBytes;

/// The limits after a change.
pub fn changed(quota: Quota, change: &QuotaChange) -> Quota {
    Quota {
        bytes: change.bytes.map_or(quota.bytes, |limit| limit.0),
        files: change.files.map_or(quota.files, |limit| limit.0),
    }
}

fn shown(quota: Quota, used: Used) -> QuotaUse {
    QuotaUse {
        bytes: Limit(quota.bytes),
        files: Limit(quota.files),
        used_bytes: used.bytes(),
        used_files: used.inodes,
    }
}

/// Changes a bucket's limits: in force when this returns, for what is open too.
///
/// # Errors
/// [`CoreError`].
pub async fn bucket_quota(
    core: &Core,
    owner: &TenantId,
    name: &BucketName,
    change: &QuotaChange,
) -> Result<QuotaUse, CoreError> {
    let known = core.realm().bucket(owner, name).await?;
    if known.external.is_some() {
        return Err(CoreError::External(known.volume));
    }
    let bucket = core.realm().bucket_set_quota(owner, name, |quota| changed(quota, change)).await?;
    core.reload().await?;
    core.quota_changed(bucket.volume).await;
    tracing::info!(%owner, bucket = %name, quota = ?bucket.quota, "limits of a bucket changed");
    let (_open, volume) = core.raw_volume(bucket.volume).await?;
    Ok(shown(volume.quota(), volume.used()))
}

/// Changes a tenant's limits: in force when this returns.
///
/// # Errors
/// [`CoreError`].
pub async fn tenant_quota(core: &Core, name: &TenantId, change: &QuotaChange) -> Result<QuotaUse, CoreError> {
    let tenant = core.realm().tenant_set_quota(name, |quota| changed(quota, change)).await?;
    core.reload().await?;
    let budget = core.tenant_budget(name).await?;
    tracing::info!(tenant = %name, quota = ?tenant.quota, "limits of a tenant changed");
    Ok(shown(budget.quota(), budget.used()))
}

/// What a bucket takes.
///
/// # Errors
/// [`CoreError`].
pub async fn show(core: &Core, bucket: &Bucket, row: api::Bucket) -> Result<BucketShow, CoreError> {
    let (_open, volume) = core.raw_volume(bucket.volume).await?;
    let (space, totals) = (volume.space(), volume.gc_totals());
    let state = match volume.gc_state() {
        GcState::Idle => "idle",
        GcState::Working => "working",
        GcState::Paused => "paused",
    };
    Ok(BucketShow {
        bucket: row,
        logical_bytes: space.logical_bytes,
        files: space.inodes,
        stored_bytes: space.stored_bytes,
        dead_bytes: space.dead_bytes(),
        packs: space.packs,
        saved_by_dedup: space.saved_by_dedup(),
        saved_by_compression: space.saved_by_compression(),
        quota: shown(volume.quota(), volume.used()),
        gc: GcShow {
            state: state.to_owned(),
            freed_packs: totals.freed_packs,
            freed_bytes: totals.freed_bytes,
            moved_bytes: totals.moved_bytes,
            damaged_extents: totals.damaged_extents,
        },
    })
}

/// What the open buckets take, for metrics.
pub async fn measures(core: &Core, status: &CoreStatus) -> Vec<(BucketBytes, u64)> {
    let registry = core.registry();
    let mut all = Vec::new();
    for volume in &status.volumes {
        let (Some(bucket), Some(open)) =
            (registry.by_volume.get(&volume.volume), core.opened(volume.volume).await)
        else {
            continue;
        };
        let space = open.space();
        for (what, bytes) in [
            ("logical", space.logical_bytes),
            ("live", space.stored_bytes),
            ("dead", space.dead_bytes()),
            ("saved_by_dedup", space.saved_by_dedup()),
            ("saved_by_compression", space.saved_by_compression()),
        ] {
            let (tenant, bucket) = (bucket.owner.to_string(), bucket.name.to_string());
            all.push((BucketBytes { tenant, bucket, what }, bytes));
        }
    }
    all
}

/// Gives room back in a bucket, or says when.
///
/// # Errors
/// [`CoreError`].
pub async fn gc(core: &Arc<Core>, bucket: &Bucket, action: GcAction) -> Result<GcDone, CoreError> {
    let (_open, volume) = core.raw_volume(bucket.volume).await?;
    let done = match action {
        GcAction::Run => {
            let failed = |source| CoreError::Volume { volume: bucket.volume, source };
            volume.collect_garbage().await.map_err(failed)?
        }
        GcAction::Pause => {
            volume.pause_gc();
            GcTotals::default()
        }
        GcAction::Resume => {
            volume.resume_gc();
            GcTotals::default()
        }
    };
    Ok(GcDone {
        freed_packs: done.freed_packs,
        freed_bytes: done.freed_bytes,
        moved_bytes: done.moved_bytes,
        damaged_extents: done.damaged_extents,
    })
}
