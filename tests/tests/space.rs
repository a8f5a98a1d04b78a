//! Limits at both doors, what `bucket show` tells, and room that comes back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use mooring_tests::e2e::{Site, code, refused, work};
use mooring_tests::guest::Status;
use mooring_tests::wait::{self, Look};
use rustix::io::Errno;
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Bytes that do not compress and are like no others.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

async fn limit(site: &Site, what: &[&str], limits: &[&str]) -> Result<Value> {
    site.gateway.json(&[what, limits].concat()).await
}

fn number(value: &Value, of: &str) -> Result<u64> {
    value.pointer(of).and_then(Value::as_u64).with_context(|| format!("no number {of} in {value}"))
}

#[tokio::test]
async fn a_limit_holds_at_both_doors_and_changes_at_once() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let sdk = site.sdk("acme").await?;
    let set = ["bucket", "set", "--tenant", "acme", "data"];
    let answer = limit(&site, &set, &["--quota", "8M"]).await?;
    ensure!(number(&answer, "/bytes")? == 8 * MIB as u64, "{answer}");

    let into = data.clone();
    work(move || {
        let space = rustix::fs::statvfs(into.as_path())?;
        let total = space.f_blocks * space.f_frsize;
        ensure!(total == 8 * MIB as u64, "statfs says {total}");
        write(&into.join("fits"), &noise(1, 6 * MIB))?;
        refused("4 MiB more", write(&into.join("more"), &noise(2, 4 * MIB)), Errno::DQUOT)?;
        fs::remove_file(into.join("more"))?;
        // What takes nothing more goes on.
        write(&into.join("fits"), &noise(3, 6 * MIB)).context("overwriting")
    })
    .await?;
    let body = ByteStream::from(noise(4, 4 * MIB));
    let put = sdk.client.put_object().bucket("data").key("object").body(body).send().await;
    let error = put.err().context("a PUT went over the limit")?;
    ensure!(code(&error) == "QuotaExceeded", "{}", code(&error));
    ensure!(error.raw_response().is_some_and(|answer| answer.status().as_u16() == 403));
    ensure!(sdk.head("data", "object").await?.is_none(), "half an object");

    limit(&site, &set, &["--quota", "none"]).await?;
    sdk.put("data", "object", &noise(4, 4 * MIB)).await?;
    // Lower than what is there: nothing is lost, and deleting helps.
    limit(&site, &set, &["--quota", "5M"]).await?;
    let into = data.clone();
    work(move || {
        ensure!(fs::read(into.join("fits"))? == noise(3, 6 * MIB));
        refused("a new file", write(&into.join("new"), &noise(5, MIB)), Errno::DQUOT)?;
        fs::remove_file(into.join("fits"))?;
        Ok(())
    })
    .await?;
    sdk.put("data", "small", &noise(6, MIB / 2)).await?;

    let answer = limit(&site, &set, &["--quota", "none", "--max-files", "10"]).await?;
    let (used, left) = (number(&answer, "/used_files")?, 10);
    let into = data.clone();
    work(move || {
        for file in used..left {
            File::create_new(into.join(format!("file{file}")))?.sync_all()?;
        }
        let one_more = File::create_new(into.join("one more")).and_then(|file| file.sync_all());
        refused("one more", one_more, Errno::DQUOT)
    })
    .await?;
    let wrong = site.gateway.cli(&[&set[..], &["--quota", "much"]].concat()).await?;
    ensure!(wrong.status == Status::Code(2), "{wrong:?}");
    let nothing = site.gateway.cli(&set).await?;
    ensure!(nothing.status == Status::Code(1), "{nothing:?}");
    Ok(())
}

#[tokio::test]
async fn a_tenants_limit_is_over_all_its_buckets_and_lives_through_a_restart() -> Result<()> {
    let mut site = Site::start().await?;
    site.gateway.cli(&["tenant", "create", "acme", "--quota", "6M"]).await?.ok()?;
    for bucket in ["one", "two"] {
        site.gateway.bucket("acme", bucket).await?;
    }
    let sdk = site.sdk("acme").await?;
    sdk.put("one", "a", &noise(1, 4 * MIB)).await?;
    let over = async |key: &str| {
        let body = ByteStream::from(noise(2, 4 * MIB));
        let put = sdk.client.put_object().bucket("two").key(key).body(body).send().await;
        let error = put.err().context("a PUT went over the tenant's limit")?;
        ensure!(code(&error) == "QuotaExceeded", "{}", code(&error));
        anyhow::Ok(())
    };
    over("b").await?;
    site.gateway.kill().await?;
    site.gateway.restart().await?;
    // The answer comes when all buckets are counted, also those that nobody has opened.
    let answer = limit(&site, &["tenant", "set", "acme"], &["--max-files", "1000"]).await?;
    ensure!(number(&answer, "/used_bytes")? >= 4 * MIB as u64, "{answer}");
    ensure!(number(&answer, "/bytes")? == 6 * MIB as u64, "{answer}");
    over("b").await?;
    sdk.delete("one", "a").await?;
    sdk.put("two", "b", &noise(2, 4 * MIB)).await?;
    // A bucket that is gone counts no more.
    site.gateway.cli(&["bucket", "rm", "--tenant", "acme", "--force", "two"]).await?.ok()?;
    sdk.put("one", "c", &noise(3, 5 * MIB)).await.map(drop)
}

/// Bytes of all pack files.
fn packs(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let each = entries.flatten().map(|entry| {
        let path = entry.path();
        let pack = path.extension().is_some_and(|ending| ending == "pack" || ending == "open");
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => packs(&path),
            Ok(meta) if pack => meta.len(),
            _ => 0,
        }
    });
    each.sum()
}

#[tokio::test]
async fn room_comes_back_and_is_shown() -> Result<()> {
    const FILE: usize = 4 * MIB;
    let site = Site::with_acme().await?;
    let sdk = site.sdk("acme").await?;
    let show = ["bucket", "show", "--tenant", "acme", "data"];
    for file in 0..6 {
        sdk.put("data", &format!("file{file}"), &noise(file, FILE)).await?;
    }
    sdk.put("data", "again", &noise(0, FILE)).await?;
    sdk.put("data", "text", &b"the same again and again ".repeat(FILE / 25)).await?;
    let shown = site.gateway.json(&show).await?;
    let all = |of: &str| number(&shown, of);
    ensure!(all("/logical_bytes")?.abs_diff(8 * FILE as u64) < 8192, "{shown}");
    ensure!(all("/saved_by_dedup")? >= FILE as u64, "{shown}");
    ensure!(all("/saved_by_compression")? > FILE as u64 / 2, "{shown}");
    let live = all("/stored_bytes")?;
    ensure!(live > 6 * FILE as u64 && live < 7 * FILE as u64, "{shown}");
    ensure!(all("/files")? == 9 && all("/packs")? >= 1, "{shown}");
    let told = site.gateway.cli(&show).await?.ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(told.contains("quota") && told.contains("32.0 MiB") | told.contains("32 MiB"), "{told}");

    for file in 1..6 {
        sdk.delete("data", &format!("file{file}")).await?;
    }
    let (dir, least) = (site.gateway.data_dir(), 2 * FILE as u64);
    wait::until("the room to come back", Duration::from_secs(30), || {
        let used = packs(&dir);
        async move { if used < least { Look::Ready(()) } else { Look::NotYet(format!("{used} bytes of packs")) } }
    })
    .await?;
    let shown = site.gateway.json(&show).await?;
    ensure!(number(&shown, "/gc/freed_bytes")? > 4 * FILE as u64, "{shown}");
    ensure!(sdk.get("data", "again").await?.is_some_and(|bytes| bytes == noise(0, FILE)));

    // Paused nothing goes; asked all of it, before the answer.
    let gc = ["bucket", "gc", "--tenant", "acme", "data"];
    site.gateway.cli(&[&gc[..], &["--pause"]].concat()).await?.ok()?;
    sdk.delete("data", "file0").await?;
    sdk.delete("data", "again").await?;
    let shown = site.gateway.json(&show).await?;
    ensure!(shown.pointer("/gc/state").is_some_and(|state| state == "paused"), "{shown}");
    ensure!(number(&shown, "/dead_bytes")? >= FILE as u64, "{shown}");
    let done = site.gateway.json(&gc).await?;
    ensure!(number(&done, "/freed_bytes")? >= FILE as u64, "{done}");
    ensure!(packs(&dir) < FILE as u64, "{} bytes of packs are left", packs(&dir));
    let left = sdk.get("data", "text").await?.context("the text is there")?;
    ensure!(left.len() == FILE / 25 * 25 && left.starts_with(b"the same"));
    Ok(())
}
