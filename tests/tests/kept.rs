//! What is kept beside the files themselves: removed files in the trash, older versions of objects, and copies that share
//! the bytes of their source.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use mooring_tests::e2e::{Machine, Pattern, Sdk, Site, same_trees, work};
use mooring_tests::wait::{self, Look};
use serde_json::Value;

const MIB: u64 = 1 << 20;

struct One {
    site: Site,
    data: PathBuf,
    sdk: Sdk,
    _vm: Machine,
}

async fn one() -> Result<One> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let sdk = site.sdk("acme").await?;
    Ok(One { site, data, sdk, _vm: vm })
}

impl One {
    async fn bucket(&self, words: &[&str], rest: &[&str]) -> Result<Value> {
        self.site.gateway.json(&[&["bucket"], words, &["--tenant", "acme", "data"], rest].concat()).await
    }

    /// What is in the trash.
    async fn trash(&self) -> Result<Vec<String>> {
        let all = self.bucket(&["trash", "ls"], &[]).await?;
        let path = |entry: &Value| entry["path"].as_str().unwrap_or_default().to_owned();
        let mut paths: Vec<_> = all.as_array().context("a list")?.iter().map(path).collect();
        paths.sort();
        Ok(paths)
    }

    async fn stored(&self) -> Result<u64> {
        let shown = self.bucket(&["show"], &[]).await?;
        let number = |of: &str| shown[of].as_u64().with_context(|| format!("{of} in {shown}"));
        Ok(number("stored_bytes")? + number("dead_bytes")?)
    }
}

fn furnish(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("album/deep"))?;
    fs::write(root.join("album/large"), Pattern(1).bytes(0, 2 << 20))?;
    fs::write(root.join("album/deep/small"), "a few bytes")?;
    Ok(std::os::unix::fs::symlink("deep/small", root.join("album/short"))?)
}

#[tokio::test]
async fn what_was_removed_is_in_the_trash_and_comes_back() -> Result<()> {
    let one = one().await?;
    let (data, copy) = (one.data.clone(), tempfile::tempdir()?);
    work({
        let (data, copy) = (data.clone(), copy.path().to_owned());
        move || {
            fs::write(data.join("before"), "removed while there was no trash")?;
            fs::remove_file(data.join("before"))?;
            furnish(&data).and_then(|()| furnish(&copy))
        }
    })
    .await?;
    one.bucket(&["set"], &["--trash", "7d"]).await?;
    work({
        let data = data.clone();
        move || {
            fs::remove_dir_all(data.join("album"))?;
            fs::write(data.join("safe"), "first")?;
            // As programs write that mean to lose nothing.
            fs::write(data.join("safe.new"), "second")?;
            fs::rename(data.join("safe.new"), data.join("safe"))?;
            ensure!(!data.join("album").exists());
            Ok(())
        }
    })
    .await?;
    one.sdk.put("data", "object", b"an object").await?;
    one.sdk.delete("data", "object").await?;
    let expected =
        ["album", "album/deep", "album/deep/small", "album/large", "album/short", "object", "safe"];
    ensure!(one.trash().await? == expected, "{:?}", one.trash().await?);

    // It lives through a restart of the gateway.
    let mut one = one;
    one.site.gateway.kill().await?;
    one.site.gateway.restart().await?;
    let back = one.bucket(&["trash", "restore"], &["album"]).await?;
    ensure!(back["restored"] == 5, "{back}");
    work({
        let (data, copy) = (data.clone(), copy.path().to_owned());
        move || same_trees(&copy.join("album"), &data.join("album"))
    })
    .await?;
    one.bucket(&["trash", "restore"], &["object"]).await?;
    ensure!(one.sdk.get("data", "object").await?.as_deref() == Some(b"an object".as_slice()));
    let taken = ["bucket", "trash", "restore", "--tenant", "acme", "data", "safe"];
    one.site.gateway.cli(&taken).await?.fails_with("--to")?;
    one.bucket(&["trash", "restore"], &["safe", "--to", "album/deep"]).await?;
    work({
        let data = data.clone();
        move || {
            ensure!(fs::read_to_string(data.join("album/deep/safe"))? == "first");
            ensure!(fs::read_to_string(data.join("safe"))? == "second");
            Ok(fs::remove_file(data.join("safe"))?)
        }
    })
    .await?;
    ensure!(one.trash().await? == ["safe"]);
    ensure!(one.bucket(&["trash", "empty"], &[]).await?["removed"] == 1);
    ensure!(one.trash().await?.is_empty());

    // What is too old goes by itself.
    one.bucket(&["set"], &["--trash", "1s"]).await?;
    work(move || Ok(fs::remove_file(data.join("album/large"))?)).await?;
    wait::until("the trash is emptied by itself", Duration::from_secs(40), || async {
        match one.trash().await {
            Ok(left) => Look::if_true(left.is_empty(), format!("{left:?}")),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await
}

#[tokio::test]
async fn snapshots_are_versions_of_objects() -> Result<()> {
    let one = one().await?;
    let (sdk, data) = (&one.sdk, one.data.clone());
    for (round, text) in ["first", "second", "second", "third"].iter().enumerate() {
        if round != 2 {
            sdk.put("data", "doc/changing", text.as_bytes()).await?;
        }
        if round == 0 {
            sdk.put("data", "doc/same", b"never changed").await?;
            sdk.put("data", "doc/short-lived", b"soon gone").await?;
        }
        if round < 3 {
            one.bucket(&["snapshot", "create"], &[&format!("s{round}")]).await?;
        }
        if round == 1 {
            work({
                let data = data.clone();
                move || Ok(fs::remove_file(data.join("doc/short-lived"))?)
            })
            .await?;
        }
    }
    let expected = [
        ("doc/changing", "null", true),
        ("doc/changing", "s2", false),
        ("doc/changing", "s0", false),
        ("doc/same", "null", true),
        ("doc/short-lived", "s1", false),
    ];
    for page in [1000, 3, 2, 1] {
        let (mut seen, mut marker) = (Vec::new(), (None, None));
        loop {
            let ask = sdk.client.list_object_versions().bucket("data").prefix("doc/").max_keys(page);
            let ask = ask.set_key_marker(marker.0.clone()).set_version_id_marker(marker.1.clone());
            let got = ask.send().await?;
            ensure!(got.versions().len() <= page as usize);
            for version in got.versions() {
                let (key, id) = (version.key().unwrap_or_default(), version.version_id().unwrap_or_default());
                seen.push((key.to_owned(), id.to_owned(), version.is_latest() == Some(true)));
            }
            if got.is_truncated() != Some(true) {
                break;
            }
            marker =
                (got.next_key_marker().map(str::to_owned), got.next_version_id_marker().map(str::to_owned));
            ensure!(seen.len() < 20, "pages of {page} do not end: {seen:?}");
        }
        let expected = expected.map(|(key, id, latest)| (key.to_owned(), id.to_owned(), latest));
        ensure!(seen == expected, "in pages of {page}: {seen:?}");
    }
    // Each is what its name reads.
    for (version, text) in [("s2", "second"), ("s0", "first")] {
        let got =
            sdk.client.get_object().bucket("data").key("doc/changing").version_id(version).send().await?;
        ensure!(&got.body.collect().await?.to_vec()[..] == text.as_bytes(), "{version}");
    }
    let folders = sdk.client.list_object_versions().bucket("data").delimiter("/").send().await?;
    let folders: Vec<_> = folders.common_prefixes().iter().filter_map(|p| p.prefix()).collect();
    ensure!(folders == ["doc/"], "{folders:?}");
    Ok(())
}

/// An object of 1 GiB is copied at both doors, and nothing of it is stored again.
#[tokio::test]
async fn copies_of_a_large_object_store_nothing() -> Result<()> {
    const PART: u64 = 64 * MIB;
    const PARTS: i32 = 16;
    let one = one().await?;
    let (client, data) = (&one.sdk.client, one.data.clone());
    work({
        let data = data.clone();
        move || Ok(Pattern(7).write(&data.join("part"), PART)?.sync_all()?)
    })
    .await?;
    let upload = client.create_multipart_upload().bucket("data").key("large").send().await?;
    let id = upload.upload_id().context("an upload")?;
    let mut parts = Vec::new();
    for number in 1..=PARTS {
        let part = client.upload_part_copy().bucket("data").key("large").upload_id(id).part_number(number);
        let part = part.copy_source("data/part").send().await?;
        let etag = part.copy_part_result().and_then(|result| result.e_tag()).map(str::to_owned);
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let done = client.complete_multipart_upload().bucket("data").key("large").upload_id(id);
    done.multipart_upload(parts).send().await?;
    let stored = one.stored().await?;
    ensure!(stored < 2 * PART, "{stored} bytes are stored for one part");

    let begun = Instant::now();
    client.copy_object().bucket("data").key("copy").copy_source("data/large").send().await?;
    let in_s3 = begun.elapsed();
    let begun = Instant::now();
    work({
        let data = data.clone();
        move || {
            let (from, to) = (data.join("large"), data.join("cp"));
            let done = std::process::Command::new("cp").arg("--reflink=auto").args([from, to]).status()?;
            ensure!(done.success(), "{done}");
            Ok(())
        }
    })
    .await?;
    let in_mount = begun.elapsed();
    eprintln!("1 GiB copied in {in_s3:?} through S3, in {in_mount:?} in the mount");
    let now = one.stored().await?;
    ensure!(now == stored, "{} bytes were stored again", now - stored);
    work(move || {
        for copy in ["copy", "cp"] {
            let file = fs::File::open(data.join(copy))?;
            ensure!(file.metadata()?.len() == PART * PARTS as u64, "{copy}");
            for at in [0, PART - 4096, PART * 5 + 12_344, PART * PARTS as u64 - 100_000] {
                let mut bytes = vec![0; 100_000];
                let read = file.read_at(&mut bytes, at)?;
                let first = (PART - at % PART).min(read as u64) as usize;
                Pattern(7).check(at % PART, &bytes[..first])?;
                Pattern(7).check(0, &bytes[first..read])?;
            }
        }
        // Each is written alone.
        fs::OpenOptions::new().write(true).open(data.join("cp"))?.write_all_at(b"changed", PART)?;
        let mut bytes = vec![0; 4096];
        fs::File::open(data.join("large"))?.read_at(&mut bytes, PART)?;
        Pattern(7).check(0, &bytes)
    })
    .await
}
