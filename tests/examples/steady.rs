//! The program behind `cargo xtask bench memory`: a mixed load for a long time, a thousand buckets that come and go
//! beside it, and the memory that the gateway and the agents have meanwhile. `steady MINUTES`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Sdk, Site, seed};
use mooring_tests::host::Gateway;
use mooring_tests::torture::{Load, Tally};

/// Memory the gateway may use for caches, MiB. Small, so that the bound is reached early and any growth shows.
const CACHE_MIB: &str = "128";
/// Buckets beside the one with the load. One of them is written and read a few times a second, in turn.
const BUCKETS: u32 = 1000;
/// Rows of the table.
const ROWS: u32 = 30;

#[tokio::main]
async fn main() -> Result<()> {
    let minutes = std::env::args().nth(1).context("usage: steady MINUTES")?;
    let minutes: u32 = minutes.parse().context("minutes are a number")?;
    let gateway = Gateway::start_with(&["--cache-mib", CACHE_MIB]).await?;
    let site = Site { gateway };
    site.tenant("acme", &["data"]).await?;
    let mut vms = [site.machine("acme", "one").await?, site.machine("acme", "two").await?];
    let mounts = [vms[0].bucket("data").await?, vms[1].bucket("data").await?];
    // Of another tenant: the VMs would mount them all.
    site.tenant("globex", &[]).await?;
    let (sdk, other, seed) = (site.sdk("acme").await?, site.sdk("globex").await?, seed()?);
    let mut load = Load::start(&[&mounts[0], &mounts[1]], &sdk, seed).await?;
    let mut turns = 0;
    println!("minute | operations | gateway MiB | agents MiB |");
    println!("---|---|---|---|");
    let (begun, step) = (Instant::now(), Duration::from_secs(60) * minutes / ROWS);
    let (mut rows, mut peak) = (Vec::new(), 0.0_f64);
    for row in 1..=ROWS {
        while begun.elapsed() < step * row {
            load.must_run()?;
            one_of_many(&other, turns).await?;
            turns += 1;
            peak = peak.max(memory(site.gateway.process().id())?);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let operations = load.steps() + u64::from(turns);
        let ours = memory(site.gateway.process().id())?;
        let theirs = [memory(vms[0].agent.process().id())?, memory(vms[1].agent.process().id())?];
        let minute = begun.elapsed().as_secs_f64() / 60.0;
        println!("{minute:.1} | {operations} | {ours:.0} | {:.0} and {:.0} |", theirs[0], theirs[1]);
        rows.push(ours);
    }
    let mut tally = Tally::default();
    load.check(&sdk, &mounts, &mut tally).await?;
    graph(&rows);
    let (first, second) = rows.split_at(rows.len() / 2);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    println!(
        "gateway: {:.0} MiB in the first half, {:.0} in the second, {peak:.0} at most; {} keys compared at the end",
        mean(first),
        mean(second),
        tally.compared
    );
    load.stop().await?;
    tally.must_be_zero()?;
    ensure!(mean(second) < mean(first) * 1.2, "memory grows");
    Ok(())
}

/// A bucket that is made when its turn comes first, and written and read at every turn.
async fn one_of_many(sdk: &Sdk, turn: u32) -> Result<()> {
    let bucket = format!("many-{}", turn % BUCKETS);
    if turn < BUCKETS {
        sdk.client.create_bucket().bucket(&bucket).send().await.context("making a bucket")?;
    }
    let body = format!("turn {turn}").into_bytes();
    sdk.put(&bucket, "note", &body).await?;
    ensure!(sdk.get(&bucket, "note").await? == Some(body), "{bucket} has something else");
    Ok(())
}

/// Memory a process has, MiB.
fn memory(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).context("the process has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// A picture of the rows, from 0 up.
fn graph(rows: &[f64]) {
    const HEIGHT: i32 = 8;
    let top = rows.iter().copied().fold(1.0, f64::max);
    println!("```");
    for line in (1..=HEIGHT).rev() {
        let from = top * f64::from(line) / f64::from(HEIGHT);
        let bars = rows.iter().map(|row| if *row >= from - top / 16.0 { '#' } else { ' ' });
        println!("{from:>6.0} MiB |{}", bars.collect::<String>());
    }
    println!("           +{}", "-".repeat(rows.len()));
    println!("```");
}
