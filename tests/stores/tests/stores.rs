//! A store that fails in every way, under a gateway that keeps everything there.

mod behind;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use behind::Behind;
use mooring_stores::proxy::{Fault, Rules};
use mooring_tests::e2e::{Pattern, seed, work};
use mooring_tests::torture::{Load, Tally};
use mooring_tests::wait::{self, Look};

/// All of the faults together, in a short run; `MOORING_FAULT_SECONDS` for a long one.
const FAULT_SECONDS: u64 = 30;
/// How soon everything is well again when a fault is over.
const RECOVERY: Duration = Duration::from_secs(5);
/// Requests a second that a gateway may make of a store that is out: what is tried again, with pauses.
const PATIENT: u64 = 100;
/// What faults may add to the memory of a gateway, KiB.
const EXTRA_KIB: u64 = 256 << 10;

/// What goes wrong, one after another.
fn phases() -> Vec<(&'static str, Rules)> {
    use Fault::{Answer, CutAnswer, CutRequest, Hang, Lose, Short, Wrong};
    vec![
        ("500, 503, 429", Rules::of(Answer(500), 0.2).and(Answer(503), 0.2).and(Answer(429), 0.2)),
        ("no answer", Rules::of(Hang, 0.2)),
        ("lost answers", Rules::of(Lose, 0.4)),
        ("resets", Rules::of(CutRequest, 0.3).and(CutAnswer, 0.2)),
        ("short and wrong bytes", Rules::of(Short, 0.25).and(Wrong, 0.25)),
        ("slow", Rules::default().slow(300 << 10)),
        (
            "all of it",
            Rules::of(Answer(503), 0.2).and(Hang, 0.05).and(Lose, 0.1).and(Wrong, 0.1).slow(2 << 20),
        ),
        ("out", Rules::out()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_store_cost_no_acknowledged_byte_and_are_over_when_they_end() -> Result<()> {
    let seconds =
        std::env::var("MOORING_FAULT_SECONDS").ok().map_or(Ok(FAULT_SECONDS), |text| text.parse())?;
    let seed = seed()?;
    let mut behind = Behind::start(seed, "store").await?;
    let mut vm = behind.site.machine("acme", "one").await?;
    let mounts: [PathBuf; 1] = [vm.bucket("data").await?];
    let (sdk, known) = (behind.sdk.clone(), Pattern(77).bytes(0, 300_000));
    let path = mounts[0].join("known");
    work(move || Ok(Pattern(77).write(&path, 300_000)?.sync_all()?)).await?;
    std::fs::remove_file(mounts[0].join("known"))?;
    let mut load = Load::start(&[&mounts[0]], &sdk, seed).await?;
    let before = behind.rss_kib()?;
    let phases = phases();
    let each = Duration::from_secs(seconds) / phases.len() as u32;
    for (what, rules) in phases {
        let counts = behind.proxy.counts();
        let out = rules.out;
        behind.proxy.set(rules);
        let began = Instant::now();
        while began.elapsed() < each {
            // Names and bytes that are known here are there whatever the store does.
            let listed = tokio::time::timeout(Duration::from_secs(2), sdk.head("data", "still/0001")).await;
            listed.with_context(|| format!("{what}: a known name took too long"))??.context("it is gone")?;
            load.must_run().with_context(|| what.to_owned())?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let seen = behind.proxy.counts() - counts;
        println!("{what}: {} requests, {} faults", seen.requests(), seen.faults);
        ensure!(seen.faults > 0 || seen.requests() == 0 || !out, "{what}: nothing went wrong");
        if out {
            let most = PATIENT * (each.as_secs() + 1);
            ensure!(seen.faults < most, "{} attempts in {each:?} at a store that is out", seen.faults);
        }
        behind.proxy.set(Rules::default());
        let ended = Instant::now();
        let put = wait::until("a PUT after the fault", RECOVERY, || async {
            Look::when_ok(sdk.put("data", "recovered", &known[..50_000]).await)
        });
        put.await.with_context(|| what.to_owned())?;
        sdk.delete("data", "recovered").await?;
        println!("{what}: well again after {:.1} s", ended.elapsed().as_secs_f64());
        ensure!(ended.elapsed() < RECOVERY, "{what}: well again after {:?} only", ended.elapsed());
    }
    let mut tally = Tally::default();
    load.check(&sdk, &mounts, &mut tally).await?;
    tally.must_be_zero()?;
    load.stop().await?;
    let after = behind.rss_kib()?;
    ensure!(after < before + EXTRA_KIB, "memory went from {before} KiB to {after} KiB");
    behind.all_stored(Duration::from_secs(20)).await?;
    // What the store has is all of it.
    vm.agent.kill().await?;
    behind.lose_the_host().await?;
    let mut tally = Tally::default();
    load.check(&sdk, &[], &mut tally).await?;
    tally.must_be_zero().context("read back from the store alone")?;
    println!(
        "{} operations, {} keys compared, nothing lost; {before} KiB, then {after} KiB",
        load.steps(),
        tally.compared
    );
    Ok(())
}

/// Bytes of each object that is read back.
const LENGTHS: [usize; 6] = [0, 900, 40_000, 300_000, 2 << 20, 9 << 20];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_and_missing_bytes_of_a_store_never_reach_a_reader() -> Result<()> {
    let seed = seed()?;
    let mut behind = Behind::start(seed, "store").await?;
    let sdk = behind.sdk.clone();
    let object = |number: usize| {
        (format!("o/{number}"), Pattern(number as u64).bytes(0, LENGTHS[number % 6] + number))
    };
    for number in 0..24 {
        let (key, bytes) = object(number);
        sdk.put("data", &key, &bytes).await?;
    }
    behind.lose_the_host().await?;
    behind.proxy.set(Rules::of(Fault::Wrong, 0.3).and(Fault::Short, 0.1).and(Fault::Answer(500), 0.1));
    let (mut right, mut refused) = (0, 0);
    for round in 0..3 {
        for number in 0..24 {
            let (key, bytes) = object(number);
            match sdk.get("data", &key).await {
                Ok(found) => {
                    ensure!(found.context("it is gone")? == bytes, "{key} is wrong in round {round}");
                    right += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{right} read right, {refused} refused, {} faults", behind.proxy.counts().faults);
    ensure!(right > 0 && behind.proxy.counts().faults > 20);
    // And nothing of it stays.
    behind.proxy.set(Rules::default());
    for number in 0..24 {
        let (key, bytes) = object(number);
        ensure!(sdk.get("data", &key).await?.context("it is gone")? == bytes, "{key} is wrong");
    }
    let found = behind.site.gateway.json(&["bucket", "damage", "--tenant", "acme", "data"]).await?;
    ensure!(found.as_array().is_none_or(Vec::is_empty), "still named as damaged: {found}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_class_host_are_exact_while_the_store_is_out() -> Result<()> {
    let mut behind = Behind::start(seed()?, "host").await?;
    let sdk = behind.sdk.clone();
    sdk.put("data", "before", &Pattern(1).bytes(0, 60_000)).await?;
    behind.all_stored(Duration::from_secs(10)).await?;
    let (_, _, stored) = behind.marks().await?;
    behind.proxy.set(Rules::out());
    for number in 0..5 {
        sdk.put("data", &format!("out/{number}"), &Pattern(number).bytes(0, 60_000)).await?;
        let (received, journalled, still) = behind.marks().await?;
        ensure!(still == stored, "{still} is said to be stored, and nothing can be since {stored}");
        ensure!(journalled == received && received > stored, "{received}, {journalled}, {stored}");
    }
    // The host is lost: what is said not to be stored is what is missing, and all of it.
    behind.site.gateway.kill().await?;
    std::fs::remove_dir_all(behind.site.gateway.data_dir())?;
    behind.proxy.set(Rules::default());
    behind.site.gateway.restart().await?;
    ensure!(sdk.get("data", "before").await.is_err(), "opened though a host may have more");
    let log = behind.site.gateway.process().log().text();
    ensure!(log.contains("--accept-loss") && log.contains("behind record"), "{log}");
    let other = behind.store.access.site(&behind.proxy.endpoint(), &["--accept-loss=acme/data"]).await?;
    let theirs = other.sdk("acme").await?;
    ensure!(theirs.get("data", "before").await?.context("it was stored")? == Pattern(1).bytes(0, 60_000));
    ensure!(theirs.keys("data", "out/").await?.is_empty());
    let log = other.gateway.process().log().text();
    ensure!(log.contains("given up"), "the loss is not named: {log}");
    Ok(())
}
