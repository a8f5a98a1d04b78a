//! The gateway is killed at random moments under a mixed load, and everything it acknowledged is there.
//!
//! `MOORING_KILLS=1000 cargo test -p mooring-tests --test torture -- --nocapture` is the long run (without a time limit);
//! `MOORING_SEED` repeats the choices of a run, not the moments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Site, seed};
use mooring_tests::torture::{Load, Tally};
use mooring_tests::wait::{self, Look};

/// Kills in a short run.
const KILLS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_the_gateway_loses_nothing() -> Result<()> {
    let kills = match std::env::var("MOORING_KILLS") {
        Ok(text) => text.parse().with_context(|| format!("MOORING_KILLS={text} is no number"))?,
        Err(_) => KILLS,
    };
    let seed = seed()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let mounts = [one.bucket("data").await?, two.bucket("data").await?];
    let sdk = site.sdk("acme").await?;
    let mut load = Load::start(&[&mounts[0], &mounts[1]], &sdk, seed).await?;
    let (mut tally, mut slowest, mut checks) = (Tally::default(), Duration::ZERO, 0);
    for kill in 1..=kills {
        some_load(&mut load, random.u64(1..100)).await?;
        site.gateway.kill().await?;
        if random.u32(0..6) == 0 {
            // Dies again while it starts. Here the moment is what is wanted, so nothing is waited for.
            site.gateway.launch()?;
            tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
            site.gateway.kill().await?;
        }
        slowest = slowest.max(site.gateway.restart().await?);
        if kill % (kills / 100).clamp(3, 10) == 0 {
            some_load(&mut load, random.u64(1..30)).await?;
            load.check(&sdk, &mounts, &mut tally).await.with_context(|| format!("after kill {kill}"))?;
            tally.must_be_zero().with_context(|| format!("after kill {kill}"))?;
            checks += 1;
            println!(
                "{kill} kills, {} operations, {} keys compared, nothing lost",
                load.steps(),
                tally.compared
            );
        }
    }
    load.stop().await?;
    // Only the disk's word counts, not a cache's.
    one.agent.kill().await?;
    two.agent.kill().await?;
    site.gateway.kill().await?;
    site.gateway.restart().await?;
    let mut other = site.machine("acme", "three").await?;
    load.check(&sdk, &[other.bucket("data").await?], &mut tally).await?;
    println!(
        "{kills} kills, {} operations, {} checks, {} keys compared: acknowledged bytes lost {}, torn files {}, \
         wrong listings {}; slowest start {:.0} ms",
        load.steps(),
        checks + 1,
        tally.compared,
        tally.bytes_lost,
        tally.torn_files,
        tally.wrong_listings,
        slowest.as_secs_f64() * 1000.0
    );
    ensure!(load.steps() > kills * 5, "there was hardly any load: {} operations", load.steps());
    tally.must_be_zero()
}

/// Waits until so many more operations were begun: a moment that no clock chose.
async fn some_load(load: &mut Load, more: u64) -> Result<()> {
    let enough = load.steps() + more;
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
    .await?
}
