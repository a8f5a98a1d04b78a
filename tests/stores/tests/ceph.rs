//! Everything in a Ceph: a real distributed store, whose parts are killed under it.

mod apart;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use mooring_tests::ceph::Ceph;
use mooring_tests::e2e::Pattern;
use mooring_tests::store::Access;
use mooring_tests::wait::{self, Look};

/// One cluster for the whole way, because it takes long to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_in_a_ceph_survives_host_and_cluster() -> Result<()> {
    let mut ceph = Ceph::start().await?;
    ceph.bucket("moorings").await?;
    let access = Access::new("moorings", "default", ceph.key())?;
    apart::conforms(&access, &ceph.endpoint()).await?;
    let mut site = access.site(&ceph.endpoint(), &[]).await?;
    let found = ceph.sdk().get("moorings", "one/probe").await?.context("the store was not examined")?;
    let found: serde_json::Value = serde_json::from_slice(&found)?;
    ensure!(found["replaces"] == false, "Ceph refuses every If-Match; found {found}");
    site.tenant("acme", &["data"]).await?;
    let sdk = site.sdk("acme").await?;
    let lengths = [0, 3_000, 150_000, 20 << 20];
    for (number, length) in (0..).zip(lengths) {
        sdk.put("data", &format!("put/{length}"), &Pattern(number).bytes(0, length)).await?;
    }

    // The host is lost, and all of the cluster is killed.
    site.gateway.kill().await?;
    std::fs::remove_dir_all(site.gateway.data_dir())?;
    ceph.kill().await?;
    ceph.restart().await?;
    site.gateway.restart().await?;
    for (number, length) in (0..).zip(lengths) {
        let put = sdk.get("data", &format!("put/{length}")).await?.context("an object is gone")?;
        ensure!(put == Pattern(number).bytes(0, length), "the object of {length} bytes differs");
    }

    // S3 is away for a moment: a PUT waits for it, and nobody has to do anything.
    ceph.kill_gateway().await?;
    let body = Pattern(9).bytes(0, 50_000);
    let (put, back) = tokio::join!(sdk.put("data", "waited", &body), ceph.restart());
    back?;
    put.context("a PUT while the store was away")?;
    ensure!(sdk.get("data", "waited").await?.context("it was acknowledged")? == body);
    drop(site);
    class_host_says_what_is_lost(&mut ceph).await?;
    a_bucket_that_keeps_versions_is_refused(&ceph).await
}

/// A bucket that keeps versions ignores conditions there, so two hosts could write the same.
async fn a_bucket_that_keeps_versions_is_refused(ceph: &Ceph) -> Result<()> {
    ceph.bucket("versions").await?;
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let client = ceph.sdk().client;
    client.put_bucket_versioning().bucket("versions").versioning_configuration(on).send().await?;
    let access = Access::new("versions", "default", ceph.key())?;
    let Err(error) = access.site(&ceph.endpoint(), &[]).await else { anyhow::bail!("it was taken") };
    let told = format!("{error:#}");
    ensure!(told.contains("cannot hold volumes") && told.contains("keeps no versions"), "{told}");
    Ok(())
}

/// Class `host` behind a Ceph that is out: the marks are exact, and leave to lose is needed and named.
async fn class_host_says_what_is_lost(ceph: &mut Ceph) -> Result<()> {
    ceph.bucket("behind").await?;
    let access = Access::new("behind", "default", ceph.key())?;
    let mut site = access.site(&ceph.endpoint(), &[]).await?;
    site.gateway.tenant("acme").await?;
    site.gateway
        .cli(&["bucket", "create", "--tenant", "acme", "data", "--durability", "host"])
        .await?
        .ok()?;
    let sdk = site.sdk("acme").await?;
    sdk.put("data", "before", &Pattern(1).bytes(0, 70_000)).await?;
    let marks = async || -> Result<(u64, u64)> {
        let status = site.gateway.json(&["status"]).await?;
        let mark = |name: &str| status["volumes"][0][name].as_u64().context("no marks");
        Ok((mark("received")?, mark("stored")?))
    };
    let stored = wait::until("Ceph has everything", Duration::from_secs(20), || async {
        match marks().await {
            Ok((received, stored)) if received == stored => Look::Ready(stored),
            marks => Look::NotYet(format!("{marks:?}")),
        }
    })
    .await?;
    ceph.kill_gateway().await?;
    sdk.put("data", "after", &Pattern(2).bytes(0, 70_000)).await.context("class host needs no store")?;
    let (received, still) = marks().await?;
    ensure!(still == stored && received > stored, "{received}, {still}, {stored}");
    site.gateway.kill().await?;
    ceph.restart().await?;
    let refused = access.site(&ceph.endpoint(), &[]).await?;
    ensure!(refused.sdk("acme").await?.get("data", "before").await.is_err(), "taken over unasked");
    drop(refused);
    let other = access.site(&ceph.endpoint(), &["--accept-loss=acme/data"]).await?;
    let theirs = other.sdk("acme").await?;
    ensure!(theirs.get("data", "before").await?.context("it was stored")? == Pattern(1).bytes(0, 70_000));
    ensure!(theirs.get("data", "after").await?.is_none());
    let log = other.gateway.process().log().text();
    ensure!(log.contains("given up") && log.contains("stored="), "the loss is not named: {log}");
    Ok(())
}
