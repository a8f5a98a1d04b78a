//! What writing and reading cost in requests to the store and in bytes, counted in front of it: for people, and against
//! growth. `MOORING_STORE_MIB` and `MOORING_STORE_FILES` for other amounts than the small ones of every day.

mod behind;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use behind::Behind;
use mooring_stores::proxy::{Counts, Proxy};
use mooring_tests::e2e::{Pattern, work};

/// Bytes of a small file.
const SMALL: u64 = 4096;
/// Reads at random places.
const RANDOM: u64 = 200;
/// S3 requests at a time.
const AT_A_TIME: u64 = 20;

/// Counts requests from one step to the next, and prints a line for each.
struct Meter<'a> {
    proxy: &'a Proxy,
    before: Counts,
}

impl Meter<'_> {
    /// What was done since the last step, with `bytes` of whoever did it.
    fn step(&mut self, what: &str, bytes: u64) -> Cost {
        let now = self.proxy.counts();
        let Counts { puts, gets, others, sent, received, .. } = now - self.before;
        self.before = now;
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let each = |moved: u64| moved as f64 / bytes.max(1) as f64;
        println!(
            "| {what} | {:.2} | {puts} | {gets} | {others} | {:.2} ({:.2} x) | {:.2} ({:.2} x) |",
            mib(bytes),
            mib(sent),
            each(sent),
            mib(received),
            each(received),
        );
        Cost { puts, gets, sent: each(sent), received: each(received) }
    }
}

/// Requests, and bytes for each byte written or read.
struct Cost {
    puts: u64,
    gets: u64,
    sent: f64,
    received: f64,
}

fn knob(name: &str, usual: u64) -> Result<u64> {
    Ok(std::env::var(name).ok().map_or(Ok(usual), |text| text.parse())?)
}

/// Small files in a folder of their own; `fsync` after each, or never.
async fn small(folder: PathBuf, files: u64, fsync: bool) -> Result<()> {
    work(move || {
        std::fs::create_dir(&folder)?;
        for number in 0..files {
            let file = Pattern(number).write(&folder.join(number.to_string()), SMALL)?;
            if fsync {
                file.sync_all()?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_is_asked_for_is_bounded() -> Result<()> {
    let (mib, files) = (knob("MOORING_STORE_MIB", 64)?, knob("MOORING_STORE_FILES", 200)?);
    let mut behind = Behind::start(1, "store").await?;
    let patience = Duration::from_secs(60 + mib / 8);
    println!(
        "| | MiB | PUTs | GETs | others | MiB to the store | MiB from it |\n|---|---|---|---|---|---|---|"
    );
    {
        let mut vm = behind.site.machine("acme", "one").await?;
        let mount = vm.bucket("data").await?;
        written(&behind, &mount, (mib, files), patience).await?;
        vm.agent.kill().await?;
    }
    // Another host, which has nothing of it.
    behind.lose_the_host().await?;
    let mut vm = behind.site.machine("acme", "two").await?;
    let mount = vm.bucket("data").await?;
    read_back(&behind, &mount, (mib, files)).await
}

async fn written(behind: &Behind, mount: &Path, (mib, files): (u64, u64), patience: Duration) -> Result<()> {
    let mut meter = Meter { proxy: &behind.proxy, before: behind.proxy.counts() };
    let path = mount.join("large");
    work(move || Ok(Pattern(5).write(&path, mib << 20)?.sync_all()?)).await?;
    behind.all_stored(patience).await?;
    let cost = meter.step(&format!("{mib} MiB in one file, one fsync"), mib << 20);
    ensure!(cost.puts < mib / 4 + 10 && cost.sent < 1.1, "{} PUTs, {} x", cost.puts, cost.sent);

    small(mount.join("small"), files, false).await?;
    // A listing has all that was written before it.
    ensure!(behind.sdk.keys("data", "small/").await?.len() as u64 > files, "a file is missing");
    behind.all_stored(patience).await?;
    let cost = meter.step(&format!("{files} files of 4 KiB, no fsync"), files * SMALL);
    ensure!(cost.puts < files / 10 + 20, "{} PUTs", cost.puts);

    small(mount.join("synced"), files / 4, true).await?;
    let cost = meter.step(&format!("{} files of 4 KiB, an fsync each", files / 4), files / 4 * SMALL);
    ensure!(cost.puts < files / 4 * 2 + 20, "{} PUTs", cost.puts);

    let put = |number: u64| async move {
        let body = Pattern(number).bytes(0, SMALL as usize);
        behind.sdk.put("data", &format!("objects/{number}"), &body).await
    };
    for batch in 0..files / AT_A_TIME {
        futures::future::try_join_all((0..AT_A_TIME).map(|number| put(batch * AT_A_TIME + number))).await?;
    }
    let cost = meter.step(&format!("{files} S3 PUTs of 4 KiB, {AT_A_TIME} at a time"), files * SMALL);
    ensure!(cost.puts < files, "{} PUTs for {files} objects", cost.puts);
    behind.all_stored(patience).await
}

async fn read_back(behind: &Behind, mount: &Path, (mib, files): (u64, u64)) -> Result<()> {
    let mut meter = Meter { proxy: &behind.proxy, before: Counts::default() };
    meter.before = behind.proxy.counts();
    let first = mount.join("small/0");
    work(move || Ok(std::fs::metadata(&first)?.len())).await?;
    meter.step("the bucket is opened by another host", 0);
    let path = mount.join("large");
    work(move || random_reads(&path, mib << 20)).await?;
    let cost = meter.step(&format!("{RANDOM} reads of 4 KiB at random places"), RANDOM * SMALL);
    ensure!(cost.gets < RANDOM * 3 && cost.received < 40.0, "{} GETs, {} x", cost.gets, cost.received);

    let path = mount.join("large");
    work(move || Pattern(5).verify(&path, mib << 20)).await?;
    let cost = meter.step(&format!("{mib} MiB read from front to back"), mib << 20);
    // The reads before were dear enough together that packs are fetched whole now: up to as much again.
    ensure!(cost.received < 2.3 && cost.gets < mib * 12, "{} GETs, {} x", cost.gets, cost.received);

    let folder = mount.join("small");
    work(move || (0..files).try_for_each(|n| Pattern(n).verify(&folder.join(n.to_string()), SMALL))).await?;
    let cost = meter.step(&format!("{files} files of 4 KiB, one after another"), files * SMALL);
    ensure!(cost.gets < files * 3 + 20, "{} GETs", cost.gets);
    Ok(())
}

fn random_reads(path: &Path, length: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path)?;
    let mut random = fastrand::Rng::with_seed(9);
    let mut page = vec![0; SMALL as usize];
    for _ in 0..RANDOM {
        let at = random.u64(..length / SMALL) * SMALL;
        file.read_exact_at(&mut page, at)?;
        ensure!(page == Pattern(5).bytes(at, SMALL as usize), "wrong bytes at {at}");
    }
    file.metadata().map(drop).context("it is gone")
}
