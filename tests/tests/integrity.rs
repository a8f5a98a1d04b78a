//! Damage on the disk: an error for the bytes it hit and nothing else, named to whoever can act, found without being read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Sdk, Site};
use mooring_tests::guest::Status;
use mooring_tests::wait::{self, Look};
use serde_json::Value;

const KIB: usize = 1 << 10;

/// Bytes that do not pack, so that they lie in the pack as long as they are.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

fn packs(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "pack") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// A site whose bucket has `hit` and `beside`, one bit of `hit` turned on the disk. Returns the pack it is in.
async fn damaged() -> Result<(Site, Sdk, PathBuf)> {
    let mut site = Site::with_acme().await?;
    let sdk = site.sdk("acme").await?;
    sdk.put("data", "beside", &noise(2, 300 * KIB)).await?;
    sdk.put("data", "folder/hit", &noise(1, 900 * KIB)).await?;
    let check = ["bucket", "check", "--tenant", "acme", "data", "--data"];
    let clean = site.gateway.json(&check).await?;
    ensure!(clean["total"] == 0 && clean["bytes_read"].as_u64() > Some(1_200 * 1024), "{clean}");
    site.gateway.stop().await?;
    let pack = packs(&site.gateway.data_dir())?.into_iter().next().context("no pack")?;
    let mut bytes = fs::read(&pack)?;
    ensure!(bytes.len() > 1_200 * KIB, "the objects are not in {}", pack.display());
    // `hit` was written last: it ends before the footer.
    let at = bytes.len() - 200 * KIB;
    bytes[at] ^= 4;
    fs::File::options().write(true).open(&pack)?.write_all_at(&bytes[at..=at], at as u64)?;
    site.gateway.restart().await?;
    Ok((site, sdk, pack))
}

fn called(pack: &Path) -> Result<String> {
    let stem = pack.file_stem().context("a name")?.to_string_lossy().into_owned();
    Ok(stem.split_once('-').context("an epoch and an id")?.1.to_owned())
}

async fn known(site: &Site) -> Result<Vec<Value>> {
    let status = site.gateway.json(&["status"]).await?;
    Ok(status["damage"].as_array().context("no list of damage")?.clone())
}

#[tokio::test]
async fn damage_is_an_error_for_its_bytes_named_and_over_when_they_are_written_anew() -> Result<()> {
    let (site, sdk, pack) = damaged().await?;
    let id = called(&pack)?;
    ensure!(known(&site).await?.is_empty());
    // The beginning is whole and can be read; all of it never comes as if it were.
    let part = sdk.client.get_object().bucket("data").key("folder/hit").range("bytes=0-99999").send().await?;
    ensure!(part.body.collect().await?.to_vec() == noise(1, 900 * KIB)[..100_000]);
    for _ in 0..3 {
        ensure!(sdk.get("data", "folder/hit").await.is_err(), "damaged bytes were served");
    }
    ensure!(sdk.get("data", "beside").await?.as_deref() == Some(&noise(2, 300 * KIB)[..]));

    let damage = known(&site).await?;
    let [only] = &damage[..] else { anyhow::bail!("{damage:?}") };
    ensure!(only["bucket"] == "data" && only["pack"] == id.as_str(), "{only}");
    ensure!(only["paths"] == serde_json::json!(["/folder/hit"]), "{only}");
    let log = site.gateway.process().log().text();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("stored bytes are damaged")).collect();
    ensure!(told.len() == 1 && told[0].contains(&id) && told[0].contains("/folder/hit"), "{told:#?}");

    let check = ["bucket", "check", "--tenant", "acme", "data"];
    site.gateway.cli(&check).await?.ok()?;
    let checked = site.gateway.cli(&[&check[..], &["--data"]].concat()).await?;
    ensure!(checked.status == Status::Code(1));
    checked.fails_with("/folder/hit")?.fails_with(&id)?;

    sdk.put("data", "folder/hit", &noise(3, 900 * KIB)).await?;
    ensure!(sdk.get("data", "folder/hit").await?.as_deref() == Some(&noise(3, 900 * KIB)[..]));
    wait::until("the damage to be over", Duration::from_secs(30), || async {
        match known(&site).await {
            Ok(known) if known.is_empty() => Look::Ready(()),
            other => Look::NotYet(format!("{other:?}")),
        }
    })
    .await?;
    site.gateway.cli(&[&check[..], &["--data"]].concat()).await?.ok().map(drop)
}

#[tokio::test]
async fn a_scrub_finds_what_nobody_reads_and_a_stopped_gateways_data_can_be_checked() -> Result<()> {
    let (mut site, _, pack) = damaged().await?;
    let scrub = site.gateway.cli(&["bucket", "scrub", "--tenant", "acme", "data", "--rate", "100"]).await?;
    ensure!(scrub.status == Status::Code(1));
    scrub.fails_with("1 damaged")?;
    let listed = site.gateway.json(&["bucket", "damage", "--tenant", "acme", "data"]).await?;
    ensure!(listed[0]["paths"] == serde_json::json!(["/folder/hit"]), "{listed}");

    let folder = site.gateway.data_dir();
    let folder = folder.to_str().context("a path that is text")?;
    let check = ["bucket", "check", "--tenant", "acme", "data", "--data", "--offline", "--data-dir", folder];
    site.gateway.cli(&check).await?.fails_with("in use by process")?;
    site.gateway.stop().await?;
    site.gateway.cli(&check).await?.fails_with("/folder/hit")?.fails_with(&called(&pack)?)?;
    // Nothing there is that could be mended.
    site.gateway.cli(&[&check[..], &["--repair"]].concat()).await?.fails_with("1 findings")?;
    site.gateway.restart().await?;
    Ok(())
}

#[tokio::test]
async fn a_pattern_is_written_and_checked_while_it_changes() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let writing = tokio::task::spawn_blocking(move || -> Result<()> {
        for round in 0..20 {
            let file = data.join(format!("f{}", round % 5));
            Pattern(round).write(&file, 700_000)?.sync_all()?;
            fs::rename(&file, data.join("moved"))?;
        }
        Ok(())
    });
    let mut checks = 0;
    while checks < 3 || !writing.is_finished() {
        site.gateway.cli(&["bucket", "check", "--tenant", "acme", "data", "--data"]).await?.ok()?;
        checks += 1;
    }
    writing.await?
}

#[tokio::test]
async fn a_bucket_without_its_metadata_is_refused_and_rebuilt() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let sdk = site.sdk("acme").await?;
    for number in 0..20 {
        sdk.put("data", &format!("folder/{number}"), &noise(number, 10 * KIB * number as usize)).await?;
    }
    site.gateway.stop().await?;
    let tenants = site.gateway.data_dir().join("tenants/acme");
    let volume = fs::read_dir(&tenants)?.next().context("no volume")??.path();
    fs::remove_dir_all(volume.join("meta"))?;

    // It is no empty bucket, however often it is asked for.
    site.gateway.restart().await?;
    for _ in 0..2 {
        ensure!(sdk.keys("data", "").await.is_err());
        ensure!(sdk.put("data", "new", b"new").await.is_err());
    }
    ensure!(
        site.gateway.process().log().text().contains("bucket rebuild"),
        "the log does not say what to do"
    );
    let folder = site.gateway.data_dir();
    let rebuild = ["bucket", "rebuild", "--tenant", "acme", "data", "--data-dir"];
    let rebuild = [&rebuild[..], &[folder.to_str().context("a path that is text")?]].concat();
    site.gateway.cli(&rebuild).await?.fails_with("in use by process")?;
    site.gateway.stop().await?;
    let done = site.gateway.json(&rebuild).await?;
    ensure!(done["journal"] == true && done["findings"] == 0 && done["lost"] == 0, "{done}");

    site.gateway.restart().await?;
    ensure!(sdk.keys("data", "").await?.len() == 20);
    for number in 0..20 {
        let wanted = noise(number, 10 * KIB * number as usize);
        ensure!(sdk.get("data", &format!("folder/{number}")).await?.as_deref() == Some(&wanted[..]));
    }
    sdk.put("data", "new", b"new").await.map(drop)
}
