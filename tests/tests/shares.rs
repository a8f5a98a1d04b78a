//! A share from its making to its end: who sees what, and when no longer.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Pattern, Sdk, Site, code, refused, work};
use mooring_tests::guest::Status;
use mooring_tests::wait::{self, Look};
use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// What a path gives that leads into a share no more.
const GONE: [Errno; 4] = [Errno::ACCESS, Errno::NOENT, Errno::NOTCONN, Errno::STALE];

/// Owner and grantee, each with a VM.
struct Pair {
    site: Site,
    acme: Machine,
    globex: Machine,
    data: PathBuf,
}

async fn pair() -> Result<Pair> {
    let site = Site::with_acme().await?;
    site.tenant("globex", &["own"]).await?;
    let (mut acme, mut globex) = (site.machine("acme", "a1").await?, site.machine("globex", "g1").await?);
    let data = acme.bucket("data").await?;
    globex.bucket("own").await?;
    fs::create_dir_all(data.join("photos/2026"))?;
    fs::create_dir_all(data.join("photos-private"))?;
    fs::write(data.join("photos/2026/a.jpg"), "picture")?;
    fs::write(data.join("photos-private/b.jpg"), "secret")?;
    fs::write(data.join("plans"), "secret")?;
    Ok(Pair { site, acme, globex, data })
}

impl Pair {
    /// Shares `photos/` and returns the share's id.
    async fn offer(&self, more: &[&str]) -> Result<String> {
        let made = self
            .site
            .share_json(
                "acme",
                &[&["create", "data/photos/", "--with", "globex", "--as", "photos"], more].concat(),
            )
            .await?;
        Ok(made["id"].as_str().context("no id")?.to_owned())
    }

    /// Shares it, accepts it, and waits for the mount.
    async fn share(&mut self, more: &[&str]) -> Result<(String, PathBuf)> {
        let id = self.offer(more).await?;
        self.site.share("globex", &["accept", &id]).await?.ok()?;
        let path = self.globex.share("acme", "photos").await?;
        Ok((id, path))
    }

    async fn globex_sdk(&self) -> Result<Sdk> {
        self.site.sdk("globex").await
    }
}

fn is_gone<T>(what: &str, done: std::io::Result<T>) -> Result<()> {
    let error = done.err().with_context(|| format!("{what}: went through"))?;
    let right = GONE.iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error()));
    ensure!(right, "{what}: {error}");
    Ok(())
}

async fn unmounted(machine: &Machine, path: &Path) -> Result<()> {
    wait::until("the share's mount to go", Duration::from_secs(10), || async {
        Look::if_true(!machine.agent.mounts().iter().any(|point| point == path), "still mounted")
    })
    .await
}

#[tokio::test]
async fn a_share_is_offered_accepted_and_read() -> Result<()> {
    let mut pair = pair().await?;
    let id = pair.offer(&["--note", "from the party"]).await?;
    let incoming = pair.site.share_json("globex", &["ls", "--in"]).await?;
    let offer = incoming.as_array().and_then(|all| all.first()).context("nothing is offered")?;
    ensure!(
        offer["state"] == "offered" && offer["owner"] == "acme" && offer["note"] == "from the party",
        "{offer}"
    );
    ensure!(!pair.globex.share_path("acme", "photos").exists(), "mounted before it was accepted");

    pair.site.share("globex", &["accept", &id[..8]]).await?.ok()?;
    let photos = pair.globex.share("acme", "photos").await?;
    ensure!(fs::read(photos.join("2026/a.jpg"))? == b"picture");
    let sdk = pair.globex_sdk().await?;
    ensure!(sdk.get("acme.photos", "2026/a.jpg").await?.as_deref() == Some(b"picture"), "as an object");
    let buckets = sdk.client.list_buckets().send().await?.buckets.unwrap_or_default();
    ensure!(buckets.iter().any(|bucket| bucket.name.as_deref() == Some("acme.photos")), "{buckets:?}");

    // The owner's changes arrive like those of one's own.
    fs::write(pair.data.join("photos/2026/new.jpg"), "fresh")?;
    ensure!(fs::read(photos.join("2026/new.jpg"))? == b"fresh");
    fs::rename(pair.data.join("photos/2026"), pair.data.join("photos/album"))?;
    ensure!(fs::read(photos.join("album/a.jpg"))? == b"picture" && !photos.join("2026").exists());
    let shown = pair.site.share_json("acme", &["show", &id]).await?;
    ensure!(shown["state"] == "accepted", "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_share_for_reading_cannot_be_written() -> Result<()> {
    let mut pair = pair().await?;
    let (_, photos) = pair.share(&[]).await?;
    let picture = photos.join("2026/a.jpg");
    let is_refused = |what: &str, done: std::io::Result<()>| {
        let error = done.err().with_context(|| format!("{what}: went through"))?;
        let no = [Errno::ROFS, Errno::ACCESS, Errno::PERM].map(|no| Some(no.raw_os_error()));
        ensure!(no.contains(&error.raw_os_error()), "{what}: {error}");
        Ok(())
    };
    is_refused("writing", OpenOptions::new().write(true).open(&picture).map(drop))?;
    is_refused("creating", File::create(photos.join("mine")).map(drop))?;
    is_refused("making a folder", fs::create_dir(photos.join("folder")))?;
    is_refused("removing", fs::remove_file(&picture))?;
    is_refused("renaming", fs::rename(&picture, photos.join("b.jpg")))?;
    is_refused(
        "changing the mode",
        fs::set_permissions(&picture, std::os::unix::fs::PermissionsExt::from_mode(0o777)),
    )?;
    is_refused("linking", fs::hard_link(&picture, photos.join("link")))?;

    let sdk = pair.globex_sdk().await?;
    let s3 = &sdk.client;
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"x");
    let put = s3.put_object().bucket("acme.photos").key("mine").body(body).send().await;
    ensure!(put.as_ref().is_err_and(|error| code(error) == "AccessDenied"), "{put:?}");
    let delete = s3.delete_object().bucket("acme.photos").key("2026/a.jpg").send().await;
    ensure!(delete.as_ref().is_err_and(|error| code(error) == "AccessDenied"), "{delete:?}");
    ensure!(fs::read(pair.data.join("photos/2026/a.jpg"))? == b"picture", "it changed all the same");
    Ok(())
}

#[tokio::test]
async fn a_share_for_writing_is_one_tree_for_both() -> Result<()> {
    let mut pair = pair().await?;
    let (_, photos) = pair.share(&["--rights", "read,write,list,delete"]).await?;
    fs::write(photos.join("2026/theirs.jpg"), "from globex")?;
    ensure!(fs::read(pair.data.join("photos/2026/theirs.jpg"))? == b"from globex");
    fs::remove_file(photos.join("2026/a.jpg"))?;
    ensure!(!pair.data.join("photos/2026/a.jpg").exists());
    fs::hard_link(pair.data.join("plans"), pair.data.join("photos/linked"))?;
    // What the owner links into the share is in the share.
    ensure!(fs::read(photos.join("linked"))? == b"secret");
    Ok(())
}

#[tokio::test]
async fn nothing_beside_the_prefix_can_be_seen() -> Result<()> {
    let mut pair = pair().await?;
    let (_, photos) = pair.share(&[]).await?;
    let names: Vec<_> =
        fs::read_dir(&photos)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    ensure!(names == ["2026"], "{names:?}");
    // `..` of the share's root is the folder it is mounted in.
    let above = fs::metadata(photos.join("../photos-private"));
    refused("a sibling by ..", above, Errno::NOENT)?;
    let inside = fs::metadata(photos.join("2026"))?.ino();
    let secret = fs::metadata(pair.data.join("photos-private/b.jpg"))?.ino();
    ensure!(inside != secret);
    refused("a sibling beside it", fs::metadata(photos.join("photos-private")), Errno::NOENT)?;

    let sdk = pair.globex_sdk().await?;
    let keys = sdk.keys("acme.photos", "").await?;
    ensure!(keys == ["2026/", "2026/a.jpg"], "{keys:?}");
    for key in [
        "../plans",
        "../photos-private/b.jpg",
        "-private/b.jpg",
        "/../plans",
        "2026/../../plans",
        "photos-private/b.jpg",
    ] {
        let got = sdk.client.get_object().bucket("acme.photos").key(key).send().await;
        let refused = got
            .as_ref()
            .is_err_and(|e| ["NoSuchKey", "InvalidURI", "InvalidArgument"].contains(&code(e).as_str()));
        ensure!(refused, "{key}: {got:?}");
    }
    // The bucket behind it does not exist for globex, under any name it could think of.
    for bucket in ["data", "acme.data", "acme.plans"] {
        let got = sdk.client.list_objects_v2().bucket(bucket).send().await;
        ensure!(got.as_ref().is_err_and(|error| code(error) == "NoSuchBucket"), "{bucket}: {got:?}");
    }
    Ok(())
}

#[tokio::test]
async fn taken_back_means_not_one_byte_more() -> Result<()> {
    let mut pair = pair().await?;
    Pattern(7).write(&pair.data.join("photos/large"), 8 << 20)?.sync_all()?;
    let (id, photos) = pair.share(&[]).await?;
    let sdk = pair.globex_sdk().await?;
    let held = File::open(photos.join("large"))?;
    let folder = File::open(&photos)?;
    let mut bytes = vec![0; 4096];
    // All of it is in the kernel's cache of the grantee.
    for offset in (0..8 << 20).step_by(4096) {
        held.read_exact_at(&mut bytes, offset)?;
    }

    // A reader that never stops tells when the last read that brought bytes began: when it came back is up to the
    // machine, which may have had something else to do.
    let reader = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; 4096];
        let mut last = Instant::now();
        for number in 0.. {
            let began = Instant::now();
            match held.read_exact_at(&mut bytes, number % 2048 * 4096) {
                Ok(()) => last = began,
                Err(error) => return (last, error, held),
            }
        }
        unreachable!("numbers do not end")
    });
    let began = Instant::now();
    let revoked = pair.site.share_json("acme", &["revoke", &id]).await?;
    let told = Instant::now();
    let (last, error, held) =
        tokio::time::timeout(Duration::from_secs(10), reader).await.context("it still reads")??;
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    println!(
        "last read {:.1} ms after the command began, {:.1} ms of it the revocation ({} ms to the last confirmation)",
        ms(last.saturating_duration_since(began)),
        ms(told - began),
        revoked["took_ms"]
    );
    ensure!(last <= told, "a read begun {:.1} ms after revoke had returned brought bytes", ms(last - told));
    is_gone::<()>("the open file", Err(error))?;
    ensure!(
        revoked["fenced"].as_array().is_some_and(Vec::is_empty),
        "an honest agent was cut off: {revoked}"
    );
    ensure!(revoked["confirmed"].as_array().is_some_and(|all| all.len() == 1), "{revoked}");

    is_gone("the open file, again", held.read_exact_at(&mut bytes, 0))?;
    is_gone(
        "by its folder",
        rustix::fs::openat(&folder, "large", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .map_err(Into::into),
    )?;
    is_gone("by its path", File::open(photos.join("large")))?;
    let got = sdk.client.get_object().bucket("acme.photos").key("large").send().await;
    ensure!(got.as_ref().is_err_and(|error| code(error) == "NoSuchBucket"), "as an object: {got:?}");
    drop((held, folder));
    unmounted(&pair.globex, &photos).await?;
    Pattern(7).verify(&pair.data.join("photos/large"), 8 << 20).context("the owner's file")
}

#[tokio::test]
async fn who_does_not_answer_is_cut_off_and_named() -> Result<()> {
    let mut pair = pair().await?;
    let (id, photos) = pair.share(&["--rights", "read,write"]).await?;
    // A process of its own has it open: whatever touches a mount whose agent stands still stands still with it, and
    // starting a program touches every file that is open.
    let script = "exec 3<>\"$0\" && echo open && read go && echo late >&3 && sync -d /proc/self/fd/3";
    let mut writer = tokio::process::Command::new("sh");
    writer.args(["-c", script]).arg(photos.join("2026/a.jpg")).kill_on_drop(true);
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(writer.stdout.take().context("standard output was asked for")?).lines();
    ensure!(said.next_line().await?.as_deref() == Some("open"));

    pair.globex.agent.process().signal(rustix::process::Signal::STOP)?;
    let began = Instant::now();
    let revoked = pair.site.share_json("acme", &["revoke", &id]).await;
    println!("a frozen VM held the revocation up for {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    pair.globex.agent.process().signal(rustix::process::Signal::CONT)?;
    let revoked = revoked?;
    ensure!(revoked["fenced"].to_string().contains("/g1"), "{revoked}");
    writer.stdin.take().context("standard input was asked for")?.write_all(b"go\n").await?;
    let ended =
        tokio::time::timeout(Duration::from_secs(30), writer.wait()).await.context("it is stuck")??;
    ensure!(!ended.success(), "a late write was taken");
    ensure!(fs::read(pair.data.join("photos/2026/a.jpg"))? == b"picture", "a late write arrived");
    // Its own buckets go on.
    let own = pair.globex.bucket("own").await?;
    work(move || Ok(fs::write(own.join("note"), "alive")?)).await
}

#[tokio::test]
async fn a_share_ends_by_itself() -> Result<()> {
    let mut pair = pair().await?;
    let (id, photos) = pair.share(&["--until", "3s"]).await?;
    let held = File::open(photos.join("2026/a.jpg"))?;
    let mut bytes = [0; 7];
    held.read_exact_at(&mut bytes, 0)?;
    wait::until("the share to expire", Duration::from_secs(20), || async {
        let mut bytes = [0; 7];
        Look::if_true(held.read_exact_at(&mut bytes, 0).is_err(), "it still reads")
    })
    .await?;
    is_gone("by its path", File::open(photos.join("2026/a.jpg")))?;
    let shown = pair.site.share_json("acme", &["show", &id]).await?;
    ensure!(shown["state"] == "expired", "{shown}");
    Ok(())
}

#[tokio::test]
async fn an_offer_can_be_declined_and_a_share_given_back() -> Result<()> {
    let mut pair = pair().await?;
    let offer = pair.offer(&[]).await?;
    pair.site.share("globex", &["decline", &offer]).await?.ok()?;
    let refused = pair.site.share("globex", &["accept", &offer]).await?;
    ensure!(refused.status != Status::Code(0), "a declined offer was accepted");

    let (id, photos) = pair.share(&[]).await?;
    pair.site.share("globex", &["decline", &id]).await?.ok()?;
    unmounted(&pair.globex, &photos).await?;
    ensure!(fs::read(pair.data.join("photos/2026/a.jpg"))? == b"picture");
    Ok(())
}

#[tokio::test]
async fn passed_on_it_only_narrows() -> Result<()> {
    let mut pair = pair().await?;
    pair.site.tenant("initech", &[]).await?;
    let mut initech = pair.site.machine("initech", "i1").await?;
    fs::write(pair.data.join("photos/cover.jpg"), "cover")?;
    let (id, _) = pair.share(&["--reshare", "1"]).await?;
    let wider = ["create", "acme.photos/2026/", "--with", "initech", "--rights", "read,write"];
    let wider = pair.site.share("globex", &wider).await?;
    ensure!(wider.status == Status::Code(3), "more rights than one has: {wider:?}");

    let part = ["create", "acme.photos/2026/", "--with", "initech", "--as", "album"];
    let part = pair.site.share_json("globex", &part).await?;
    let part = part["id"].as_str().context("no id")?.to_owned();
    pair.site.share("initech", &["accept", &part]).await?.ok()?;
    let album = initech.share("acme", "album").await?;
    ensure!(fs::read(album.join("a.jpg"))? == b"picture" && !album.join("cover.jpg").exists());
    let further = ["create", "acme.album", "--with", "globex"];
    ensure!(
        pair.site.share("initech", &further).await?.status != Status::Code(0),
        "passed on once too often"
    );

    // What it was cut from ends it too.
    let held = File::open(album.join("a.jpg"))?;
    pair.site.share("acme", &["revoke", &id]).await?.ok()?;
    is_gone("the share below", held.read_exact_at(&mut [0; 7], 0))
}

#[tokio::test]
async fn check_tells_the_rule_and_what_one_may_not_know_is_not_found() -> Result<()> {
    let mut pair = pair().await?;
    let check = |target: &'static str, action: &'static str| ["check", "globex", action, target];
    let before = pair.site.share_json("acme", &check("data/photos/2026/a.jpg", "read")).await?;
    ensure!(before["allowed"] == false && before["fix"].to_string().contains("share create"), "{before}");
    let (id, _) = pair.share(&[]).await?;
    let after = pair.site.share_json("acme", &check("data/photos/2026/a.jpg", "read")).await?;
    ensure!(after["allowed"] == true && after["rule"].to_string().contains(&id), "{after}");
    for (target, action) in
        [("data/photos/2026/a.jpg", "write"), ("data/plans", "read"), ("data/photos-private/b.jpg", "read")]
    {
        let answer = pair.site.share_json("acme", &check(target, action)).await?;
        ensure!(answer["allowed"] == false, "{action} {target}: {answer}");
    }

    let strangers = "00000000-0000-4000-8000-000000000000";
    pair.site.tenant("initech", &[]).await?;
    for (who, words) in [
        ("acme", vec!["create", "data/photos/", "--with", "nobody-here"]),
        ("acme", vec!["create", "nothing/photos/", "--with", "globex"]),
        ("acme", vec!["create", "data/no-such-prefix/", "--with", "globex"]),
        ("acme", vec!["show", strangers]),
        ("initech", vec!["show", &id]),
        ("initech", vec!["accept", &id]),
        ("initech", vec!["revoke", &id]),
        ("globex", vec!["create", "data/photos/", "--with", "initech"]),
    ] {
        pair.site.share(who, &words).await?.fails_with("not found").with_context(|| who.to_owned())?;
    }
    ensure!(!pair.acme.agent.mounts().is_empty());
    Ok(())
}
