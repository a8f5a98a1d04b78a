//! Buckets of other S3 services: from the registry's row to something that is served, and kept fresh.
//!
//! Others change such a bucket without telling anybody. Mounts cache under leases all the same: every half refresh time
//! what they cache is taken back, as a change by somebody here would take it back, but for open files whose content is
//! asked after and found unchanged. With the other half, for which the bucket itself believes what it was told, a change
//! is seen everywhere after the refresh time at the latest.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use mooring_external::{External, Look, Options, Place};
use mooring_policy::time::Clock;
use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;
use mooring_store::error::StoreError;
use mooring_store::realm::{Bucket, Realm};
use mooring_store::realm::{External as Row, RealmError};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::coherent::{Coherent, Patience};
use super::error::CoreError;

/// Inodes taken back in one step.
const AT_ONCE: usize = 64;
/// Such steps at once.
const STEPS: usize = 8;

/// Where a row says that the bucket is.
pub fn place(row: &Row, secret: Zeroizing<String>) -> Place {
    Place {
        endpoint: row.endpoint.clone(),
        region: row.region.clone(),
        bucket: row.bucket.clone(),
        prefix: row.prefix.clone(),
        path_style: row.path_style,
        access_key: row.access_key.clone(),
        secret,
    }
}

fn look(row: &Row) -> Look {
    Look {
        read_only: row.read_only,
        refresh: Duration::from_millis(row.refresh_ms),
        uid: row.owner.0,
        gid: row.owner.1,
        file_mode: row.modes.0,
        dir_mode: row.modes.1,
        spool_bytes: row.spool_bytes,
    }
}

/// Opens the bucket of a row; `None` when it is one of our own.
pub(super) async fn open(
    realm: &Realm,
    bucket: &Bucket,
    dir: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<External>>, CoreError> {
    let Some(row) = &bucket.external else { return Ok(None) };
    let secret = realm.external_secret(bucket).await?;
    let secret = secret.ok_or_else(|| RealmError::NoSuchBucket(bucket.owner.clone(), bucket.name.clone()))?;
    let external = External::open(Options {
        volume: bucket.volume,
        place: place(row, secret),
        look: look(row),
        spool: dir.join("spool"),
        hash: realm.tenant_key(&bucket.owner).await?.hash_key(),
        clock: clock.clone(),
    });
    external.map(Some).map_err(|source| CoreError::Volume { volume: bucket.volume, source })
}

/// Takes back, in time, what mounts have cached and nobody can vouch for.
pub(super) async fn keep_fresh(coherent: Weak<Coherent>, external: Arc<External>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(external.refresh() / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(coherent) = coherent.upgrade() else { return };
        let doubtful = external.doubtful(coherent.leased()).await;
        let steps: Vec<Vec<Ino>> = doubtful.chunks(AT_ONCE).map(<[Ino]>::to_vec).collect();
        let steps = steps.into_iter().map(|some| take_back(coherent.clone(), some));
        futures::stream::iter(steps).buffer_unordered(STEPS).collect::<()>().await;
    }
}

async fn take_back(coherent: Arc<Coherent>, inos: Vec<Ino>) {
    loop {
        match coherent.change(None, &inos, &Patience::longest()).await {
            Err(Status::Stale) => tokio::task::yield_now().await,
            Ok(pass) => return drop(pass),
            Err(status) => {
                tracing::warn!(volume = %coherent.id(), %status, "what mounts cache could not be taken back now");
                return;
            }
        }
    }
}

/// What the other store says to somebody who attaches a bucket, in a sentence with what to change.
pub fn refusal(url: &str, error: &StoreError) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(c) = cause {
        said = c.to_string();
        // The client's own words below this are for the log.
        if c.is::<mooring_external::RemoteError>() {
            break;
        }
        cause = c.source();
    }
    let change = match error {
        StoreError::AccessDenied(_) => {
            "check --access-key, its secret and --region, and that the key may list the bucket"
        }
        StoreError::Unavailable(_) => "check --endpoint, and that this host reaches it",
        _ => "check the bucket's name, --endpoint and --region",
    };
    format!("{url} cannot be used: {said}; {change}")
}
