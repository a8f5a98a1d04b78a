//! A bucket cloned: two from then on, which share what they have in common and nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Pattern, Site, same_trees, work};
use serde_json::Value;

const LARGE: u64 = 3 << 20;

struct Two {
    site: Site,
    vm: Machine,
    data: PathBuf,
}

async fn start() -> Result<Two> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    Ok(Two { site, vm, data })
}

impl Two {
    async fn clone(&self, source: &str, name: &str) -> Result<Value> {
        self.site.gateway.json(&["bucket", "clone", "--tenant", "acme", source, name]).await
    }

    async fn show(&self, name: &str) -> Result<Value> {
        self.site.gateway.json(&["bucket", "show", "--tenant", "acme", name]).await
    }

    async fn sound(&self, name: &str) -> Result<()> {
        self.site.gateway.cli(&["bucket", "check", "--tenant", "acme", name, "--data"]).await?.ok().map(drop)
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.site.gateway.cli(&["bucket", "rm", "--tenant", "acme", name, "--force"]).await?.ok().map(drop)
    }
}

fn number(value: &Value, of: &str) -> Result<u64> {
    value.pointer(of).and_then(Value::as_u64).with_context(|| format!("no number {of} in {value}"))
}

#[tokio::test]
async fn a_clone_and_its_source_go_their_own_ways() -> Result<()> {
    let mut two = start().await?;
    let (data, kept) = (two.data.clone(), tempfile::tempdir()?);
    let (into, copy) = (data.clone(), kept.path().to_owned());
    work(move || {
        for root in [&into, &copy] {
            fs::create_dir_all(root.join("album/deep"))?;
            Pattern(1).write(&root.join("album/large"), LARGE)?;
            fs::write(root.join("album/deep/small"), "a few bytes")?;
        }
        // Not synced, and nobody has looked: it is in the clone all the same.
        File::create(into.join("fresh"))?.write_all(b"just written")?;
        Ok(fs::write(copy.join("fresh"), "just written")?)
    })
    .await?;
    let made = two.clone("data", "copy").await?;
    ensure!(made["name"] == "copy" && made["within"].is_string(), "{made}");
    let (source, clone) = (two.show("data").await?, two.show("copy").await?);
    for of in ["/logical_bytes", "/files", "/stored_bytes"] {
        ensure!(number(&source, of)? == number(&clone, of)?, "{of}: {source} and {clone}");
    }
    let mount = two.vm.bucket("copy").await?;
    let (one, other, copy) = (data.clone(), mount.clone(), kept.path().to_owned());
    work(move || {
        same_trees(&copy, &other)?;
        let large = File::options().write(true).open(other.join("album/large"))?;
        large.write_all_at(b"of the clone", 1 << 20)?;
        fs::remove_file(other.join("album/deep/small"))?;
        fs::write(other.join("own"), "the clone's")?;
        fs::write(one.join("own"), "the source's")?;
        fs::rename(one.join("fresh"), one.join("stale"))?;
        ensure!(fs::read_to_string(other.join("fresh"))? == "just written");
        ensure!(fs::read_to_string(one.join("album/deep/small"))? == "a few bytes");
        Pattern(1).verify(&one.join("album/large"), LARGE)
    })
    .await?;

    // S3 sees two buckets, and writes each for itself.
    let sdk = two.site.sdk("acme").await?;
    ensure!(sdk.get("copy", "own").await?.as_deref() == Some(&b"the clone's"[..]));
    ensure!(sdk.get("data", "own").await?.as_deref() == Some(&b"the source's"[..]));
    sdk.put("copy", "by/s3", b"object").await?;
    sdk.delete("data", "own").await?;
    ensure!(sdk.get("data", "by/s3").await?.is_none() && sdk.get("copy", "own").await?.is_some());
    let (one, other) = (data.clone(), mount.clone());
    work(move || {
        ensure!(fs::read_to_string(other.join("by/s3"))? == "object");
        ensure!(!one.join("by").exists() && !one.join("own").exists());
        Ok(())
    })
    .await?;

    // What cannot be cloned, and what each is told.
    let cli = async |words: &[&str]| {
        two.site.gateway.cli(&[&["bucket", "clone", "--tenant", "acme"], words].concat()).await
    };
    cli(&["data", "copy"]).await?.fails_with("exists")?;
    cli(&["data@none", "other"]).await?.fails_with("no snapshot none")?;
    cli(&["nothing", "other"]).await?.fails_with("not found")?;
    cli(&["data@", "other"]).await?.fails_with("name the snapshot")?;
    cli(&["data", "other", "--quota", "1M"]).await?.fails_with("quota")?;
    let used = number(&two.show("data").await?, "/quota/used_bytes")?
        + number(&two.show("copy").await?, "/quota/used_bytes")?;
    let limit = (used + (1 << 20)).to_string();
    two.site.gateway.cli(&["tenant", "set", "acme", "--quota", &limit]).await?.ok()?;
    cli(&["data", "other"]).await?.fails_with("quota")?;
    two.site.gateway.cli(&["tenant", "set", "acme", "--quota", "none"]).await?.ok()?;
    cli(&["data", "other"]).await?.ok()?;
    two.remove("other").await?;
    for bucket in ["data", "copy"] {
        two.sound(bucket).await?;
    }
    Ok(())
}

#[tokio::test]
async fn clones_outlive_their_source_and_a_killed_gateway() -> Result<()> {
    let mut two = start().await?;
    let (data, kept) = (two.data.clone(), tempfile::tempdir()?);
    let (into, copy) = (data.clone(), kept.path().to_owned());
    work(move || {
        for root in [&into, &copy] {
            fs::create_dir_all(root.join("album"))?;
            Pattern(2).write(&root.join("album/large"), LARGE)?;
            fs::write(root.join("album/small"), "a few bytes")?;
        }
        Ok(())
    })
    .await?;
    two.site
        .gateway
        .cli(&["bucket", "snapshot", "create", "--tenant", "acme", "data", "monday"])
        .await?
        .ok()?;
    let into = data.clone();
    work(move || Ok(fs::write(into.join("later"), "after the snapshot")?)).await?;
    two.clone("data@monday", "then").await?;
    two.clone("data", "now").await?;
    two.clone("now", "again").await?;
    let (then, now) = (two.vm.bucket("then").await?, two.vm.bucket("now").await?);
    let again = two.vm.bucket("again").await?;
    let (roots, copy) = ([then.clone(), now.clone(), again.clone()], kept.path().to_owned());
    work(move || {
        let [then, now, again] = &roots;
        same_trees(&copy, then)?;
        for root in [then, now, again] {
            ensure!(!root.join(".snapshots/monday").exists(), "snapshots stay with the source");
            let file = File::create(root.join("mine"))?;
            file.write_all_at(root.as_os_str().as_encoded_bytes(), 0)?;
            file.sync_all()?;
        }
        Ok(fs::remove_file(now.join("album/small"))?)
    })
    .await?;
    two.site.gateway.kill().await?;
    two.site.gateway.restart().await?;
    two.remove("data").await?;
    let listed = two.site.gateway.json(&["bucket", "ls", "--tenant", "acme"]).await?;
    ensure!(listed.as_array().is_some_and(|all| all.len() == 3), "{listed}");
    two.clone("then", "new").await?;
    two.site.gateway.kill().await?;
    two.site.gateway.restart().await?;
    let new = two.vm.bucket("new").await?;
    let (roots, copy) = ([then, now, again, new], kept.path().to_owned());
    work(move || {
        for (n, root) in roots.iter().enumerate() {
            let mine = fs::read_to_string(root.join("mine"))?;
            ensure!(mine == roots[n % 3].display().to_string(), "{mine} in {}", root.display());
            Pattern(2).verify(&root.join("album/large"), LARGE)?;
            ensure!(root.join("album/small").exists() == (n != 1));
            ensure!(root.join("later").exists() == (n == 1 || n == 2));
        }
        fs::remove_file(roots[3].join("mine"))?;
        same_trees(&copy, &roots[3])
    })
    .await?;
    for bucket in ["then", "now", "again", "new"] {
        two.sound(bucket).await?;
    }
    // The last takes the volume with it.
    let held = |site: &Site| -> Result<usize> {
        Ok(fs::read_dir(site.gateway.data_dir().join("tenants/acme"))?.count())
    };
    let before = held(&two.site)?;
    for bucket in ["then", "now", "new"] {
        two.remove(bucket).await?;
        two.sound("again").await?;
    }
    ensure!(held(&two.site)? == before);
    two.remove("again").await?;
    ensure!(held(&two.site)? + 1 == before, "the volume is still there");
    Ok(())
}
