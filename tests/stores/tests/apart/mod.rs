//! A store of the harness, opened here.

use anyhow::Result;
use mooring_policy::rng::SystemRandom;
use mooring_store::backend::{Backing, StoreConfig};
use mooring_store::conformance;
use mooring_tests::store::Access;

/// Runs the suite of all stores on this one.
pub async fn conforms(access: &Access, endpoint: &str) -> Result<()> {
    let (url, region, key) = access.parts();
    let config = StoreConfig {
        url,
        endpoint: Some(endpoint.to_owned()),
        region: Some(region),
        credentials: Some((key.access_key_id, key.secret_access_key)),
        allow_http: true,
        virtual_hosted: false,
    };
    let backing = Backing::open(&config)?.probed(&SystemRandom).await?;
    let dir = tempfile::tempdir()?;
    conformance::on_store(&backing, dir.path()).await;
    Ok(())
}
