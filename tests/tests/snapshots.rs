//! A bucket as it was: kept in a moment, looked at in the mount and in S3, and put back as a whole.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Pattern, Site, same_trees, work};
use rustix::io::Errno;

/// A gateway, a bucket, and two VMs that have it mounted.
struct Pair {
    site: Site,
    one: PathBuf,
    two: PathBuf,
    _vms: [Machine; 2],
}

async fn pair() -> Result<Pair> {
    let site = Site::with_acme().await?;
    let mut vms = [site.machine("acme", "one").await?, site.machine("acme", "two").await?];
    let (one, two) = (vms[0].bucket("data").await?, vms[1].bucket("data").await?);
    Ok(Pair { site, one, two, _vms: vms })
}

impl Pair {
    async fn snapshot(&self, words: &[&str]) -> Result<()> {
        self.site.gateway.cli(&[&["bucket", "snapshot"], words].concat()).await?.ok().map(drop)
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// A little of everything: large and small files, folders, links, modes, attributes.
fn furnish(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("album/deep"))?;
    fs::write(root.join("album/large"), Pattern(1).bytes(0, 3 << 20))?;
    fs::write(root.join("album/deep/small"), "a few bytes")?;
    fs::write(root.join("gone-later"), "still here")?;
    fs::set_permissions(root.join("gone-later"), fs::Permissions::from_mode(0o640))?;
    fs::hard_link(root.join("gone-later"), root.join("album/linked"))?;
    symlink("album/large", root.join("short"))?;
    rustix::fs::setxattr(root.join("album"), "user.note", b"kept", rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// Changes everything that [`furnish`] made.
fn upset(root: &Path) -> Result<()> {
    let large = File::options().write(true).open(root.join("album/large"))?;
    large.write_all_at(b"changed", 1 << 20)?;
    large.set_len(2 << 20)?;
    fs::write(root.join("album/deep/small"), "other bytes, and more of them")?;
    fs::remove_file(root.join("gone-later"))?;
    fs::rename(root.join("album/deep"), root.join("moved"))?;
    fs::remove_file(root.join("short"))?;
    rustix::fs::removexattr(root.join("album"), "user.note")?;
    fs::write(root.join("new"), "made later")?;
    Ok(())
}

#[tokio::test]
async fn a_snapshot_stays_what_it_was() -> Result<()> {
    let mut pair = pair().await?;
    let (one, two, kept) = (pair.one.clone(), pair.two.clone(), tempfile::tempdir()?);
    let copy = kept.path().to_owned();
    work({
        let one = one.clone();
        move || {
            furnish(&one)?;
            furnish(&copy)?;
            // Not synced, and nobody has looked: it is part of the snapshot all the same.
            File::create(one.join("fresh"))?.write_all(b"just written")?;
            Ok(fs::write(copy.join("fresh"), "just written")?)
        }
    })
    .await?;
    pair.snapshot(&["create", "--tenant", "acme", "data", "monday"]).await?;
    let copy = kept.path().to_owned();
    work({
        let (one, two) = (one.clone(), two.clone());
        move || {
            // Who has asked for what is not there knows all that is, and still finds this.
            ensure!((0..4).all(|miss| !one.join(format!("none-{miss}")).exists()));
            ensure!(names(&one.join(".snapshots"))? == ["monday"]);
            upset(&two)?;
            let seen = one.join(".snapshots/monday");
            same_trees(&copy, &seen)?;
            ensure!(fs::metadata(seen.join("album/linked"))?.nlink() == 2);
            let mut note = [0; 8];
            let len = rustix::fs::getxattr(seen.join("album"), "user.note", &mut note)?;
            ensure!(&note[..len] == b"kept");
            ensure!(fs::read_to_string(one.join("moved/small"))?.starts_with("other"));
            // Nobody walks into it by accident, and nothing can be changed in it.
            ensure!(names(&one)?.iter().all(|name| name != ".snapshots"));
            for refused in [
                fs::write(seen.join("gone-later"), "x").err(),
                fs::write(seen.join("one-more"), "x").err(),
                fs::remove_file(seen.join("gone-later")).err(),
                fs::rename(seen.join("gone-later"), one.join("back")).err(),
                fs::create_dir(one.join(".snapshots/tuesday")).err(),
                fs::set_permissions(seen.join("album"), fs::Permissions::from_mode(0o700)).err(),
            ] {
                let code = refused.and_then(|error| error.raw_os_error());
                let expected =
                    [Errno::ROFS, Errno::XDEV, Errno::ACCESS].map(|errno| Some(errno.raw_os_error()));
                ensure!(expected.contains(&code), "{code:?}");
            }
            // One file is brought back as any other is copied.
            fs::copy(seen.join("gone-later"), one.join("brought-back"))?;
            ensure!(fs::read_to_string(two.join("brought-back"))? == "still here");
            Ok(())
        }
    })
    .await?;

    in_s3(&pair).await?;

    // It lives through a restart of the gateway.
    pair.site.gateway.kill().await?;
    pair.site.gateway.restart().await?;
    let copy = kept.path().to_owned();
    work(move || same_trees(&copy, &one.join(".snapshots/monday"))).await
}

/// The snapshot as keys, as versions, and as the source of a copy.
async fn in_s3(pair: &Pair) -> Result<()> {
    let sdk = pair.site.sdk("acme").await?;
    ensure!(sdk.get("data", "gone-later").await?.is_none());
    let was = sdk.get("data", ".snapshots/monday/gone-later").await?;
    ensure!(was.as_deref() == Some(b"still here".as_slice()));
    let keys = sdk.keys("data", ".snapshots/monday/album/").await?;
    let expected = ["", "deep/", "deep/small", "large", "linked"];
    let expected = expected.map(|key| format!(".snapshots/monday/album/{key}"));
    ensure!(keys == expected, "{keys:?}");
    ensure!(!sdk.keys("data", "").await?.iter().any(|key| key.starts_with('.')));
    ensure!(sdk.put("data", ".snapshots/monday/gone-later", b"x").await.is_err());

    let get =
        sdk.client.get_object().bucket("data").key("album/deep/small").version_id("monday").send().await?;
    ensure!(get.version_id() == Some("monday"));
    ensure!(&get.body.collect().await?.to_vec()[..] == b"a few bytes");
    let none = sdk.client.get_object().bucket("data").key("new").version_id("monday").send().await;
    let code = none.err().context("it was not there then")?;
    ensure!(mooring_tests::e2e::code(&code) == "NoSuchVersion", "{code:?}");
    let copy =
        sdk.client.copy_object().bucket("data").key("again").copy_source("data/album/large?versionId=monday");
    copy.send().await?;
    let again = sdk.get("data", "again").await?.context("the copy")?;
    ensure!(again == Pattern(1).bytes(0, 3 << 20));
    sdk.delete("data", "again").await
}

#[tokio::test]
async fn a_bucket_is_put_back_at_once_and_as_a_whole() -> Result<()> {
    let pair = pair().await?;
    let (one, two, kept) = (pair.one.clone(), pair.two.clone(), tempfile::tempdir()?);
    let copy = kept.path().to_owned();
    work({
        let (one, copy) = (one.clone(), copy.clone());
        move || furnish(&one).and_then(|()| furnish(&copy))
    })
    .await?;
    pair.snapshot(&["create", "--tenant", "acme", "data", "before"]).await?;
    let open = work({
        let (one, two) = (one.clone(), two.clone());
        move || {
            upset(&one)?;
            // Both VMs have everything cached, and one has a file open that the snapshot has not.
            for root in [&one, &two] {
                fs::read(root.join("moved/small"))?;
                names(&root.join("album"))?;
            }
            Ok(File::open(two.join("new"))?)
        }
    })
    .await?;
    pair.snapshot(&["restore", "--tenant", "acme", "data", "before"]).await?;
    work({
        let (one, two, copy) = (one.clone(), two.clone(), copy.clone());
        move || {
            for root in [&one, &two] {
                ensure!(!root.join("new").exists() && !root.join("moved").exists(), "{}", root.display());
                same_trees(&copy, root)?;
            }
            let error = open.read_at(&mut [0; 4], 0).err().context("a file that is not there was read")?;
            ensure!(error.raw_os_error() == Some(libc::ESTALE), "{error}");
            // The bucket goes on from there.
            fs::write(one.join("after"), "on it goes")?;
            ensure!(fs::read_to_string(two.join("after"))? == "on it goes");
            same_trees(&copy, &one.join(".snapshots/before"))
        }
    })
    .await?;
    let sdk = pair.site.sdk("acme").await?;
    ensure!(sdk.get("data", "new").await?.is_none() && sdk.get("data", "gone-later").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_is_removed_takes_nothing_with_it() -> Result<()> {
    let pair = pair().await?;
    let one = pair.one.clone();
    work({
        let one = one.clone();
        move || furnish(&one)
    })
    .await?;
    for name in ["first", "second"] {
        pair.snapshot(&["create", "--tenant", "acme", "data", name]).await?;
        let (one, name) = (one.clone(), name.to_owned());
        work(move || Ok(fs::write(one.join(&name), &name)?)).await?;
    }
    let taken =
        pair.site.gateway.cli(&["bucket", "snapshot", "create", "--tenant", "acme", "data", "first"]).await?;
    taken.fails_with("exists")?;
    work({
        let one = one.clone();
        move || {
            ensure!(names(&one.join(".snapshots/second"))?.contains(&"first".to_owned()));
            Ok(())
        }
    })
    .await?;
    pair.snapshot(&["rm", "--tenant", "acme", "data", "first"]).await?;
    let listed = pair.site.gateway.json(&["bucket", "snapshot", "ls", "--tenant", "acme", "data"]).await?;
    let named: Vec<_> = listed.as_array().context("a list")?.iter().map(|row| row["name"].clone()).collect();
    ensure!(named == ["second"], "{listed}");
    work({
        let one = one.clone();
        move || {
            ensure!(names(&one.join(".snapshots"))? == ["second"]);
            ensure!(!one.join(".snapshots/first").exists());
            let seen = one.join(".snapshots/second");
            ensure!(fs::read(seen.join("album/large"))? == Pattern(1).bytes(0, 3 << 20));
            ensure!(fs::read(one.join("album/large"))? == Pattern(1).bytes(0, 3 << 20));
            Ok(())
        }
    })
    .await?;
    pair.snapshot(&["rm", "--tenant", "acme", "data", "second"]).await?;
    let none =
        pair.site.gateway.cli(&["bucket", "snapshot", "rm", "--tenant", "acme", "data", "second"]).await?;
    none.fails_with("not found")?;
    Ok(())
}

#[tokio::test]
async fn a_share_shows_no_snapshots() -> Result<()> {
    let pair = pair().await?;
    pair.site.tenant("globex", &[]).await?;
    let one = pair.one.clone();
    work(move || furnish(&one)).await?;
    pair.snapshot(&["create", "--tenant", "acme", "data", "monday"]).await?;
    let made = pair.site.share_json("acme", &["create", "data", "--with", "globex"]).await?;
    let id = made["id"].as_str().context("an id")?.to_owned();
    pair.site.share("globex", &["accept", &id]).await?.ok()?;
    let mut guest = pair.site.machine("globex", "g").await?;
    let name = made["name"].as_str().unwrap_or("data").to_owned();
    let share = guest.share("acme", &name).await?;
    work(move || {
        ensure!(share.join("album/large").exists());
        ensure!(!share.join(".snapshots").exists(), "the owner's past is shared");
        Ok(())
    })
    .await
}
