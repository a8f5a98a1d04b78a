//! Everything in an object store: a second gateway's S3 is the store. The gateway is killed, its host is lost, it moves.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Site, seed, work};
use mooring_tests::store::Store;
use mooring_tests::torture::{Load, Tally};
use mooring_tests::wait::{self, Look};

const LENGTHS: [usize; 5] = [0, 3_000, 150_000, 3 << 20, 20 << 20];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_lost_and_what_was_synced_is_not() -> Result<()> {
    let store = Store::start().await?;
    let mut site = store.site(&[]).await?;
    site.tenant("acme", &["data"]).await?;
    let sdk = site.sdk("acme").await?;
    let mut vm = site.machine("acme", "one").await?;
    let mount = vm.bucket("data").await?;
    for (number, length) in LENGTHS.into_iter().enumerate() {
        sdk.put("data", &format!("put/{length}"), &Pattern(number as u64).bytes(0, length)).await?;
        let path = mount.join(format!("synced-{length}"));
        work(move || Ok(Pattern(number as u64).write(&path, length as u64)?.sync_all()?)).await?;
    }
    vm.agent.kill().await?;
    site.gateway.kill().await?;
    std::fs::remove_dir_all(site.gateway.data_dir())?;
    site.gateway.restart().await?;
    check(&site, "two").await?;
    // Another host takes it over while the first still runs: who comes last has it.
    let other = store.site(&[]).await?;
    check(&other, "three").await?;
    let other_sdk = other.sdk("acme").await?;
    other_sdk.put("data", "from the other", b"host").await?;
    let refused = sdk.put("data", "from the first", b"host").await;
    ensure!(refused.is_err(), "the first gateway still writes");
    ensure!(other_sdk.get("data", "from the first").await?.is_none());
    Ok(())
}

/// Reads back what was put and synced, through S3 and through a mount of a new VM.
async fn check(site: &Site, name: &str) -> Result<()> {
    let sdk = site.sdk("acme").await?;
    let mut vm = site.machine("acme", name).await?;
    let mount = vm.bucket("data").await?;
    for (number, length) in LENGTHS.into_iter().enumerate() {
        let put = sdk.get("data", &format!("put/{length}")).await?.context("an object is gone")?;
        ensure!(put == Pattern(number as u64).bytes(0, length), "object of {length} bytes differs");
        let path = mount.join(format!("synced-{length}"));
        work(move || Pattern(number as u64).verify(&path, length as u64)).await?;
    }
    Ok(())
}

/// Kills in a short run.
const KILLS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_in_front_of_a_store_the_gateway_loses_nothing() -> Result<()> {
    let kills = std::env::var("MOORING_KILLS").ok().map_or(Ok(KILLS), |text| text.parse())?;
    let seed = seed()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Store::start().await?;
    let mut site = store.site(&[]).await?;
    site.tenant("acme", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let mounts: [PathBuf; 1] = [vm.bucket("data").await?];
    let sdk = site.sdk("acme").await?;
    let mut load = Load::start(&[&mounts[0]], &sdk, seed).await?;
    let mut tally = Tally::default();
    for kill in 1..=kills {
        let enough = load.steps() + random.u64(5..40);
        wait::until("some load", Duration::from_secs(60), || {
            let (ended, steps) = (load.must_run(), load.steps());
            async move {
                match ended {
                    Err(error) => Look::Ready(Err(error)),
                    Ok(()) if steps >= enough => Look::Ready(Ok(())),
                    Ok(()) => Look::NotYet(format!("{steps} operations of {enough}")),
                }
            }
        })
        .await??;
        site.gateway.kill().await?;
        site.gateway.restart().await?;
        if kill % 4 == 0 {
            load.check(&sdk, &mounts, &mut tally).await.with_context(|| format!("after kill {kill}"))?;
            tally.must_be_zero().with_context(|| format!("after kill {kill}"))?;
        }
    }
    load.stop().await?;
    println!("{kills} kills, {} operations, {} keys compared, nothing lost", load.steps(), tally.compared);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_host_acknowledges_without_the_store_and_says_what_that_costs() -> Result<()> {
    let mut store = Store::start().await?;
    let mut site = store.site(&[]).await?;
    site.gateway.tenant("acme").await?;
    let create = ["bucket", "create", "--tenant", "acme", "data", "--durability", "host"];
    site.gateway.cli(&create).await?.ok()?;
    let sdk = site.sdk("acme").await?;
    sdk.put("data", "before", &Pattern(1).bytes(0, 50_000)).await?;
    store.gateway.kill().await?;
    sdk.put("data", "without", &Pattern(2).bytes(0, 50_000)).await.context("class host needs no store")?;
    let status = site.gateway.json(&["status"]).await?;
    let volume = &status["volumes"][0];
    ensure!(volume["stored"].as_u64() < volume["received"].as_u64(), "{status}");
    ensure!(sdk.get("data", "before").await?.is_some(), "reads go on");
    // Killed without the store, and back with it: nothing is lost that this host acknowledged.
    site.gateway.kill().await?;
    store.gateway.restart().await?;
    site.gateway.restart().await?;
    let found = sdk.get("data", "without").await?.context("it was acknowledged")?;
    ensure!(found == Pattern(2).bytes(0, 50_000));
    wait::until("the store has everything", Duration::from_secs(30), || async {
        let volume = match site.gateway.json(&["status"]).await {
            Ok(status) => status["volumes"][0].clone(),
            Err(error) => return Look::NotYet(format!("{error:#}")),
        };
        match volume["stored"] == volume["received"] {
            true => Look::Ready(()),
            false => Look::NotYet(volume.to_string()),
        }
    })
    .await?;
    store.gateway.kill().await?;
    sdk.put("data", "on the host alone", b"lost with it").await?;
    site.gateway.kill().await?;
    store.gateway.restart().await?;
    // Another host is refused, and has the rest when it says so.
    let other = store.site(&[]).await?;
    let theirs = other.sdk("acme").await?;
    ensure!(theirs.get("data", "before").await.is_err(), "taken over unasked");
    ensure!(
        other.gateway.process().log().text().contains("--accept-loss"),
        "the log does not say what to do"
    );
    drop(other);
    let other = store.site(&["--accept-loss=acme/data"]).await?;
    let theirs = other.sdk("acme").await?;
    ensure!(theirs.get("data", "without").await?.is_some());
    ensure!(theirs.get("data", "on the host alone").await?.is_none());
    Ok(())
}
