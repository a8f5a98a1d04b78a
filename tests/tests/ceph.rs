//! Everything in a Ceph: a real distributed store, whose parts are killed under it.

use anyhow::{Context, Result, ensure};
use mooring_tests::Gateway;
use mooring_tests::ceph::Ceph;
use mooring_tests::e2e::{Pattern, Site};

/// One cluster for the whole way, because it takes long to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_in_a_ceph_survives_host_and_cluster() -> Result<()> {
    let mut ceph = Ceph::start().await?;
    ceph.bucket("moorings").await?;
    let kept = tempfile::tempdir()?;
    let path = |name: &str| kept.path().join(name).to_string_lossy().into_owned();
    private(&path("credentials"), &ceph)?;
    let arguments = [
        "--store-url=s3://moorings/one".to_owned(),
        format!("--store-endpoint={}", ceph.endpoint()),
        "--store-allow-http".to_owned(),
        "--store-region=default".to_owned(),
        format!("--store-credentials={}", path("credentials")),
        format!("--master-key={}", path("master.key")),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut site = Site { gateway: Gateway::start_with(&arguments).await? };
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
    Ok(())
}

/// A bucket that keeps versions ignores conditions there, so two hosts could write the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_a_ceph_that_keeps_versions_is_refused() -> Result<()> {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let ceph = Ceph::start().await?;
    ceph.bucket("versions").await?;
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let client = ceph.sdk().client;
    client.put_bucket_versioning().bucket("versions").versioning_configuration(on).send().await?;
    let kept = tempfile::tempdir()?;
    let credentials = kept.path().join("credentials").to_string_lossy().into_owned();
    private(&credentials, &ceph)?;
    let arguments = [
        "--store-url=s3://versions/one",
        &format!("--store-endpoint={}", ceph.endpoint()),
        "--store-allow-http",
        "--store-region=default",
        &format!("--store-credentials={credentials}"),
    ];
    let Err(error) = Gateway::start_with(&arguments).await else { anyhow::bail!("it was taken") };
    let told = format!("{error:#}");
    ensure!(told.contains("cannot hold volumes") && told.contains("keeps no versions"), "{told}");
    Ok(())
}

fn private(path: &str, ceph: &Ceph) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let key = ceph.key();
    let (id, secret) = (&key.access_key_id, &key.secret_access_key);
    Ok(write!(file, "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")?)
}
