//! Gateway and agent are killed at bad moments. What was promised is there; what goes on goes on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Pattern, Site, lock_range, locked_by, work};
use mooring_tests::guest::Status;
use mooring_tests::wait::{self, Look};
use mooring_tests::{artifacts, host};

const MIB: u64 = 1 << 20;

/// Bytes that the agent has and the gateway has not.
async fn unsent(vm: &Machine) -> Result<u64> {
    let status = vm.cli(&["--json", "status"]).await?.ok()?.text()?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    status["unsent_bytes"].as_u64().with_context(|| format!("no unsent_bytes in {status}"))
}

#[tokio::test]
async fn a_copy_outlives_the_gateway() -> Result<()> {
    const LENGTH: u64 = 96 * MIB;
    let mut site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let disk = tempfile::tempdir()?;
    let source = disk.path().join("source");
    Pattern(3).write(&source, LENGTH)?;

    let (from, to) = (source.clone(), data.join("copy"));
    let copy = tokio::spawn(work(move || {
        fs::copy(from, &to)?;
        Ok(File::open(&to)?.sync_all()?)
    }));
    for part in [1u64, 3] {
        let path = data.join("copy");
        wait::until("a part of the copy", Duration::from_secs(60), || async {
            let done = fs::metadata(&path).map_or(0, |meta| meta.len());
            Look::if_true(done > part * LENGTH / 5, format!("{done} bytes"))
        })
        .await?;
        ensure!(!copy.is_finished(), "the copy was too quick for this test");
        site.gateway.kill().await?;
        let back = site.gateway.restart().await?;
        println!("killed after {part}/5; ready again after {:.0} ms", back.as_secs_f64() * 1000.0);
    }
    copy.await??;
    let path = data.join("copy");
    work(move || Pattern(3).verify(&path, LENGTH)).await?;
    // And as seen by who was not there.
    let mut other = site.machine("acme", "two").await?;
    let path = other.bucket("data").await?.join("copy");
    work(move || Pattern(3).verify(&path, LENGTH)).await
}

#[tokio::test]
async fn a_killed_vm_loses_nothing_older_than_a_second() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let into = data.clone();
    work(move || {
        Pattern(1).write(&into.join("synced"), 5 * MIB + 7)?.sync_all()?;
        Pattern(2).write(&into.join("aged"), 3 * MIB)?;
        fs::rename(into.join("synced"), into.join("renamed"))?;
        Ok(())
    })
    .await?;
    let written = Instant::now();
    // The promise is about time, so here time is what is waited for.
    wait::until("the second to pass", Duration::from_secs(5), || async {
        Look::if_true(written.elapsed() > Duration::from_millis(1100), "not yet")
    })
    .await?;
    ensure!(unsent(&vm).await? == 0, "after more than a second the agent still holds writes back");
    let held = OpenOptions::new().append(true).open(data.join("aged"))?;
    work(move || {
        Pattern(3).write(&data.join("late"), MIB)?;
        (&held).write_all(&Pattern(2).bytes(3 * MIB, 1 << 20)).context("appending")
    })
    .await?;
    vm.agent.kill().await?;

    let mut other = site.machine("acme", "two").await?;
    let data = other.bucket("data").await?;
    work(move || {
        Pattern(1).verify(&data.join("renamed"), 5 * MIB + 7).context("what was synced")?;
        let aged = fs::read(data.join("aged"))?;
        ensure!(aged.len() as u64 >= 3 * MIB, "what was older than a second: {} bytes", aged.len());
        Pattern(2).check(0, &aged).context("what was older than a second, and what came later")?;
        match fs::read(data.join("late")) {
            Ok(late) => Pattern(3).check(0, &late).context("a late file may be short, never wrong"),
            Err(_) => Ok(()),
        }
    })
    .await
}

#[tokio::test]
async fn close_sync_keeps_what_was_closed() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine_with("acme", "one", &["--close", "sync"]).await?;
    let data = vm.bucket("data").await?;
    for number in 0..20 {
        fs::write(data.join(format!("closed-{number}")), Pattern(number).bytes(0, 10_000))?;
    }
    vm.agent.kill().await?;
    let mut other = site.machine("acme", "two").await?;
    let data = other.bucket("data").await?;
    work(move || (0..20).try_for_each(|n| Pattern(n).verify(&data.join(format!("closed-{n}")), 10_000))).await
}

#[tokio::test]
async fn killed_again_and_again_the_gateway_loses_no_synced_file() -> Result<()> {
    const KILLS: u32 = 6;
    let mut site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let (stop, synced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (data, stop, synced) = (data.clone(), stop.clone(), synced.clone());
        tokio::spawn(work(move || {
            while !stop.load(Ordering::SeqCst) {
                let number = synced.load(Ordering::SeqCst);
                let folder = data.join(format!("folder-{}", number / 50));
                fs::create_dir_all(&folder)?;
                let temporary = folder.join("temporary");
                Pattern(number).write(&temporary, 1 + number * 997 % 300_000)?.sync_all()?;
                fs::rename(&temporary, folder.join(format!("file-{number}")))?;
                File::open(&folder)?.sync_all()?;
                synced.store(number + 1, Ordering::SeqCst);
            }
            Ok(())
        }))
    };
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let before = synced.load(Ordering::SeqCst);
        wait::until("some load", Duration::from_secs(30), || async {
            let now = synced.load(Ordering::SeqCst);
            Look::if_true(now > before + 10 || load.is_finished(), format!("{} files", now - before))
        })
        .await?;
        site.gateway.kill().await?;
        slowest = slowest.max(site.gateway.restart().await?);
    }
    stop.store(true, Ordering::SeqCst);
    load.await?.context("the load met an error")?;
    let count = synced.load(Ordering::SeqCst);
    println!("{KILLS} kills, {count} files; slowest start {:.0} ms", slowest.as_secs_f64() * 1000.0);

    // Only the disk's word counts, not a cache's.
    vm.agent.kill().await?;
    site.gateway.kill().await?;
    site.gateway.restart().await?;
    let mut other = site.machine("acme", "two").await?;
    let data = other.bucket("data").await?;
    work(move || {
        (0..count).try_for_each(|number| {
            let path = data.join(format!("folder-{}/file-{number}", number / 50));
            Pattern(number).verify(&path, 1 + number * 997 % 300_000)
        })
    })
    .await
}

#[tokio::test]
async fn locks_and_open_files_live_through_a_restart() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    let open = |folder: &std::path::Path, name: &str| {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(name))
    };
    let (locked, ghost, theirs) = (open(&here, "locked")?, open(&here, "ghost")?, open(&there, "locked")?);
    lock_range(&locked, 0, 10, false)?;
    ghost.write_all_at(b"before ", 0)?;
    fs::remove_file(here.join("ghost"))?;

    site.gateway.kill().await?;
    site.gateway.restart().await?;

    work(move || {
        ghost.write_all_at(b"after", 7)?;
        ghost.sync_all().context("an unlinked file that was open")?;
        let mut bytes = [0; 12];
        ghost.read_exact_at(&mut bytes, 0)?;
        ensure!(&bytes == b"before after", "{}", String::from_utf8_lossy(&bytes));
        ensure!(ghost.metadata()?.nlink_is_zero(), "its name came back");
        ensure!(locked_by(&theirs, 0, 1)?.is_some(), "the lock was lost");
        drop(locked);
        lock_range(&theirs, 0, 10, false).context("and it can be given back")
    })
    .await
}

trait Unlinked {
    fn nlink_is_zero(&self) -> bool;
}

impl Unlinked for fs::Metadata {
    fn nlink_is_zero(&self) -> bool {
        std::os::unix::fs::MetadataExt::nlink(self) == 0
    }
}

#[tokio::test]
async fn told_to_stop_the_agent_hands_everything_over() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    work(move || {
        for number in 0..200 {
            Pattern(number).write(&data.join(format!("file-{number}")), 20_000)?;
        }
        Ok(())
    })
    .await?;
    let ended = vm.agent.stop().await?;
    ensure!(ended.success(), "{ended}");
    ensure!(vm.agent.mounts().is_empty(), "left mounted: {:?}", vm.agent.mounts());

    let sdk = site.sdk("acme").await?;
    ensure!(sdk.keys("data", "").await?.len() == 200);
    for number in [0, 99, 199] {
        let bytes = sdk.get("data", &format!("file-{number}")).await?.context("lost")?;
        ensure!(bytes == Pattern(number).bytes(0, 20_000), "file-{number} is not what was written");
    }
    Ok(())
}

#[tokio::test]
async fn told_to_stop_the_gateway_ends_cleanly_and_comes_back() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    fs::write(data.join("note"), "kept")?;
    let ended = site.gateway.stop().await?;
    ensure!(ended.success(), "{ended}");
    site.gateway.restart().await?;
    work(move || {
        let kept = fs::read(data.join("note"))?;
        ensure!(kept == b"kept", "{kept:?}");
        Ok(fs::write(data.join("more"), "and on")?)
    })
    .await
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_is_refused() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut second = Command::new(artifacts::host_program("mooring-gateway")?);
    let socket = site.gateway.data_dir().with_file_name("second.sock");
    second.arg("--admin-socket").arg(socket).arg("serve").arg("--data-dir").arg(site.gateway.data_dir());
    second.args(["--s3", "off"]);
    let refused = host::run(second).await?;
    ensure!(refused.status == Status::Code(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(told.contains("another") && told.contains(&*site.gateway.data_dir().to_string_lossy()), "{told}");
    site.gateway.cli(&["status"]).await?.ok()?;
    Ok(())
}
