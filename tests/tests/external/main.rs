//! A bucket of another S3 service, served as it is. The other service is a second gateway, which knows nothing of ours.

mod world;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use mooring_tests::e2e::{Pattern, code, refused, work};
use mooring_tests::wait::{self, Look};
use mooring_tests::{Output, host};
use rustix::io::Errno;
use world::{World, attach, names};

const MIB: u64 = 1 << 20;

/// How long a change made behind our back may stay unseen, and what a loaded host may add.
const REFRESH: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(1);

#[tokio::test]
async fn what_is_there_is_files() -> Result<()> {
    let world = World::new(&[]).await?;
    ensure!(names(&world.data)?.is_empty());
    let big = Pattern(1).bytes(0, 5 << 20);
    world.there.put("shop", "beside", b"not ours").await?;
    for (key, body) in [
        ("a.txt", &b"one"[..]),
        ("dir/b", &big),
        ("dir/deep/c d+e", b"three"),
        ("made/", b""),
        ("x//y", b"no path"),
    ] {
        world.put(key, body).await?;
    }
    // The listing before was cached in the VM, and is taken back in time.
    let data = world.data.clone();
    wait::until("the new names", REFRESH + SLACK, || async {
        let names = names(&data).unwrap_or_default();
        Look::if_true(names == ["a.txt", "dir", "made", "x"], format!("{names:?}"))
    })
    .await?;
    let data = world.data.clone();
    work(move || {
        ensure!(names(&data.join("dir"))? == ["b", "deep"] && names(&data.join("x"))?.is_empty());
        ensure!(
            fs::read(data.join("a.txt"))? == b"one" && fs::read(data.join("dir/deep/c d+e"))? == b"three"
        );
        ensure!(fs::read(data.join("dir/b"))? == big);
        let meta = fs::metadata(data.join("a.txt"))?;
        ensure!((meta.mode() & 0o7777, meta.uid(), meta.len()) == (0o644, 0, 3));
        ensure!(meta.modified()?.elapsed().is_ok_and(|age| age < Duration::from_secs(300)));
        ensure!(fs::metadata(data.join("dir"))?.is_dir() && !data.join("beside").exists());
        refused("nothing", fs::metadata(data.join("nothing")), Errno::NOENT)
    })
    .await?;

    // The S3 door shows the same bucket.
    let sdk = world.here.sdk("acme").await?;
    ensure!(sdk.keys("ext", "").await? == ["a.txt", "dir/b", "dir/deep/c d+e", "made/", "x//y"]);
    ensure!(sdk.get("ext", "x//y").await?.as_deref() == Some(&b"no path"[..]));
    let (size, _) = sdk.head("ext", "dir/b").await?.context("dir/b")?;
    ensure!(size == 5 * MIB && sdk.get("ext", "../beside").await?.is_none());
    let top = sdk.client.list_objects_v2().bucket("ext").delimiter("/").send().await?;
    let prefixes: Vec<_> = top.common_prefixes().iter().filter_map(|p| p.prefix()).collect();
    ensure!(prefixes == ["dir/", "made/", "x/"], "{prefixes:?}");
    Ok(())
}

#[tokio::test]
async fn a_folder_of_thousands_is_listed_whole() -> Result<()> {
    let world = World::new(&[]).await?;
    let puts = (0..1100).map(|number| {
        let world = &world;
        async move { world.put(&format!("many/{number:04}/x"), b"").await }
    });
    let done: Vec<Result<String>> = futures::stream::iter(puts).buffer_unordered(32).collect().await;
    done.into_iter().collect::<Result<Vec<_>>>()?;
    let many = world.data.join("many");
    let found = work(move || names(&many)).await?;
    ensure!(found == (0..1100).map(|number| format!("{number:04}")).collect::<Vec<_>>(), "{}", found.len());
    let sdk = world.here.sdk("acme").await?;
    ensure!(sdk.keys("ext", "many/").await?.len() == 1100);
    Ok(())
}

#[tokio::test]
async fn what_is_written_is_objects() -> Result<()> {
    let world = World::new(&[]).await?;
    let data = world.data.clone();
    // fsync returns when it is there.
    work(move || {
        let mut file = File::create_new(data.join("small"))?;
        file.write_all(b"hello")?;
        file.sync_all()?;
        fs::create_dir(data.join("dir"))?;
        Pattern(2).write(&data.join("dir/big"), 20 * MIB + 5)?.sync_all()?;
        Ok(())
    })
    .await?;
    ensure!(world.get("small").await?.as_deref() == Some(&b"hello"[..]));
    let (size, tag) = world.there.head("shop", "pre/dir/big").await?.context("dir/big")?;
    ensure!(size == 20 * MIB + 5 && tag.trim_matches('"').ends_with("-3"), "{tag}");
    Pattern(2).check(0, &world.get("dir/big").await?.context("dir/big")?)?;
    ensure!(world.get("dir/").await?.is_some(), "mkdir makes a marker");

    // Without fsync it is there soon after close.
    let data = world.data.clone();
    work(move || {
        fs::write(data.join("closed"), "soon")?;
        fs::write(data.join("empty"), "")?;
        let mut file = OpenOptions::new().append(true).open(data.join("small"))?;
        file.write_all(b", world")?;
        drop(file);
        let mut file = OpenOptions::new().write(true).open(data.join("dir/big"))?;
        file.seek(SeekFrom::Start(10 * MIB))?;
        file.write_all(b"in the middle")?;
        file.set_len(15 * MIB)?;
        // What was written is seen at once, here and in S3, wherever it is.
        ensure!(fs::metadata(data.join("dir/big"))?.len() == 15 * MIB);
        ensure!(fs::read(data.join("small"))? == b"hello, world");
        Ok(())
    })
    .await?;
    let mut middle = Pattern(2).bytes(0, 15 << 20);
    middle[10 << 20..][..13].copy_from_slice(b"in the middle");
    let sdk = world.here.sdk("acme").await?;
    ensure!(sdk.get("ext", "small").await?.as_deref() == Some(&b"hello, world"[..]));
    world.arrives("closed", b"soon").await?;
    world.arrives("empty", b"").await?;
    world.arrives("small", b"hello, world").await?;
    world.arrives("dir/big", &middle).await?;

    // Names.
    let data = world.data.clone();
    work(move || {
        fs::rename(data.join("closed"), data.join("dir/renamed"))?;
        fs::rename(data.join("small"), data.join("empty"))?;
        fs::write(data.join("new"), "never there under this name")?;
        fs::rename(data.join("new"), data.join("newer"))?;
        refused("a full folder", fs::remove_dir(data.join("dir")), Errno::NOTEMPTY)?;
        fs::remove_file(data.join("dir/big"))?;
        fs::create_dir(data.join("gone"))?;
        fs::remove_dir(data.join("gone"))?;
        ensure!(names(&data)? == ["dir", "empty", "newer"] && names(&data.join("dir"))? == ["renamed"]);
        Ok(())
    })
    .await?;
    world.arrives("newer", b"never there under this name").await?;
    let keys = world.there.keys("shop", "").await?;
    ensure!(keys == ["pre/dir/", "pre/dir/renamed", "pre/empty", "pre/newer"], "{keys:?}");
    ensure!(world.get("empty").await?.as_deref() == Some(&b"hello, world"[..]));

    // And through our S3 door, in parts, too.
    let tag = sdk.put("ext", "put/deep", b"by S3").await?;
    ensure!(world.get("put/deep").await?.as_deref() == Some(&b"by S3"[..]));
    ensure!(fs::read(world.data.join("put/deep"))? == b"by S3", "a PUT is a file at once");
    let again = sdk.client.put_object().bucket("ext").key("put/deep").if_none_match("*").send().await;
    ensure!(again.is_err_and(|error| code(&error) == "PreconditionFailed"));
    sdk.client.put_object().bucket("ext").key("put/deep").if_match(tag).send().await?;
    let mut parts = Vec::new();
    let upload = sdk.client.create_multipart_upload().bucket("ext").key("parts").send().await?;
    let id = upload.upload_id().context("no id")?;
    for number in 1..=2 {
        let body = Pattern(9).bytes((number as u64 - 1) * 5 * MIB, 5 << 20).into();
        let part = sdk.client.upload_part().bucket("ext").key("parts").upload_id(id).part_number(number);
        let tag = part.body(body).send().await?.e_tag.context("no tag")?;
        parts.push(aws_sdk_s3::types::CompletedPart::builder().part_number(number).e_tag(tag).build());
    }
    ensure!(world.get("parts").await?.is_none(), "seen too early");
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = sdk.client.complete_multipart_upload().bucket("ext").key("parts").upload_id(id);
    complete.multipart_upload(parts).send().await?;
    let path = world.data.join("parts");
    work(move || Pattern(9).verify(&path, 10 * MIB)).await?;
    sdk.delete("ext", "parts").await?;
    ensure!(world.get("parts").await?.is_none() && !world.data.join("parts").exists());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() -> Result<()> {
    let world = World::new(&["--file-mode", "640", "--uid", "7"]).await?;
    world.put("file", b"x").await?;
    world.put("dir/file", b"y").await?;
    let (data, home) = (world.data.clone(), world.home.path().to_owned());
    work(move || {
        let (file, no) = (data.join("file"), Errno::OPNOTSUPP);
        let meta = fs::metadata(&file)?;
        ensure!((meta.mode() & 0o7777, meta.uid()) == (0o640, 7));
        refused("symlink", symlink("file", data.join("link")), no)?;
        refused("hard link", fs::hard_link(&file, data.join("link")), no)?;
        refused("chmod", fs::set_permissions(&file, fs::Permissions::from_mode(0o600)), no)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).context("chmod to what it is")?;
        refused("chown", std::os::unix::fs::chown(&file, Some(1), None), no)?;
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
        refused("utimes", OpenOptions::new().write(true).open(&file)?.set_modified(old), no)?;
        let xattr = rustix::fs::setxattr(&file, "user.a", b"b", rustix::fs::XattrFlags::empty());
        refused("setxattr", xattr.map_err(Into::into), no)?;
        let pipe = rustix::fs::mknodat(
            rustix::fs::CWD,
            data.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        refused("mkfifo", pipe.map_err(Into::into), no)?;
        refused("rename of a folder", fs::rename(data.join("dir"), data.join("other")), Errno::XDEV)?;
        // What programs do instead works.
        let mv = Command::new("mv").arg(data.join("dir")).arg(data.join("other")).output()?;
        ensure!(mv.status.success(), "mv: {}", String::from_utf8_lossy(&mv.stderr));
        ensure!(fs::read(data.join("other/file"))? == b"y" && !data.join("dir").exists());
        // A spool has a bound.
        let huge = File::create(data.join("huge"))?;
        refused("a file beyond the spool", huge.set_len(17 << 30), Errno::NOSPC)?;
        let cp = Command::new("cp").arg("--preserve=mode").arg(&file).arg(home.join("copy")).output()?;
        ensure!(cp.status.success() && fs::read(home.join("copy"))? == b"x");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn changes_made_behind_our_back_are_seen_in_time() -> Result<()> {
    let world = World::new(&[]).await?;
    let old = Pattern(3).bytes(0, 4 << 20);
    world.put("file", &old).await?;
    world.put("goes", b"x").await?;
    world.put("open", &old).await?;
    let data = world.data.clone();
    // All of it is cached in the VM.
    let mut held = work(move || {
        ensure!(fs::read(data.join("goes"))? == b"x" && fs::read(data.join("file"))?.len() == 4 << 20);
        ensure!(names(&data)? == ["file", "goes", "open"]);
        let mut held = File::open(data.join("open"))?;
        let mut start = vec![0; 4096];
        held.read_exact(&mut start)?;
        Pattern(3).check(0, &start)?;
        Ok(held)
    })
    .await?;

    let new = Pattern(4).bytes(0, 4 << 20);
    let began = Instant::now();
    world.put("file", &new).await?;
    world.put("open", &new).await?;
    world.put("comes", b"y").await?;
    world.there.delete("shop", "pre/goes").await?;
    let data = world.data.clone();
    wait::until("every change", REFRESH + SLACK, || {
        let (data, new) = (data.clone(), new.clone());
        async move {
            let seen = work(move || {
                let read = fs::read(data.join("file")).unwrap_or_default();
                let names = names(&data)?;
                let gone = fs::metadata(data.join("goes")).is_err();
                Ok((
                    read == new,
                    names == ["comes", "file", "open"],
                    gone,
                    fs::read(data.join("comes")).is_ok(),
                ))
            });
            match seen.await {
                Ok(seen) => Look::if_true(seen == (true, true, true, true), format!("{seen:?}")),
                Err(error) => Look::NotYet(format!("{error:#}")),
            }
        }
    })
    .await?;
    println!("seen after {:.1} s", began.elapsed().as_secs_f64());

    // Who has the old content open gets no byte of the new one: what is cached of the old, or an error.
    let data = world.data.clone();
    work(move || {
        let mut rest = vec![0; 64 << 10];
        for offset in (0..4 * MIB).step_by(64 << 10) {
            match held.read_exact_at(&mut rest, offset) {
                Ok(()) => Pattern(3).check(offset, &rest)?,
                Err(error) => {
                    let errno = Errno::from_io_error(&error);
                    ensure!(matches!(errno, Some(Errno::STALE | Errno::IO)), "{error}");
                }
            }
        }
        ensure!(held.seek(SeekFrom::Start(0)).is_ok());
        Pattern(4).verify(&data.join("open"), 4 * MIB)
    })
    .await
}

#[tokio::test]
async fn a_killed_gateway_leaves_a_whole_object_or_none() -> Result<()> {
    const LENGTH: u64 = 48 * MIB;
    let mut world = World::new(&[]).await?;
    world.put("replaced", b"old").await?;
    let mut interrupted = 0;
    for (turn, name) in ["fresh", "replaced"].into_iter().enumerate() {
        let path = world.data.join(name);
        let writing = tokio::spawn(work(move || {
            let mut file = File::create(&path)?;
            for offset in (0..LENGTH).step_by(1 << 20) {
                file.write_all(&Pattern(5).bytes(offset, 1 << 20))?;
            }
            Ok(file.sync_all()?)
        }));
        // In the middle of the upload: its parts begin to arrive.
        let uploads = || async {
            let uploads = world.there.client.list_multipart_uploads().bucket("shop").send().await;
            uploads.is_ok_and(|uploads| uploads.uploads().len() > turn)
        };
        wait::until("an upload", Duration::from_secs(60), || async {
            Look::if_true(uploads().await || writing.is_finished(), "none")
        })
        .await?;
        world.here.gateway.kill().await?;
        let there = world.get(name).await?;
        world.here.gateway.restart().await?;
        let done = writing.await?;
        match (&there, done) {
            (Some(there), _) if there.len() as u64 == LENGTH => Pattern(5).check(0, there)?,
            (Some(there), done) => {
                ensure!(
                    name == "replaced" && there == b"old" && done.is_err(),
                    "{name}: {} bytes",
                    there.len()
                )
            }
            (None, done) => {
                ensure!(name == "fresh" && done.is_err(), "{name} is gone, and fsync said {done:?}")
            }
        }
        interrupted += u32::from(!matches!(&there, Some(there) if there.len() as u64 == LENGTH));
    }
    ensure!(interrupted > 0, "every upload was quicker than the kill");
    // The mount goes on.
    let data = world.vm.bucket("ext").await?;
    work(move || {
        let mut file = File::create(data.join("after"))?;
        file.write_all(b"on")?;
        Ok(file.sync_all()?)
    })
    .await?;
    ensure!(world.get("after").await?.as_deref() == Some(&b"on"[..]));
    Ok(())
}

#[tokio::test]
async fn while_the_other_store_is_away_nothing_is_lost() -> Result<()> {
    let mut world = World::new(&[]).await?;
    world.put("there", b"x").await?;
    let data = world.data.clone();
    // Opened for writing before, so that only the upload needs the other store.
    let mut file = work(move || Ok(File::create(data.join("waits"))?)).await?;
    world.other.gateway.kill().await?;
    let data = world.data.clone();
    let status = world.here.gateway.json(&["status"]);
    work(move || {
        file.write_all(b"kept")?;
        refused("fsync", file.sync_all(), Errno::IO)?;
        refused("read", fs::read(data.join("there")), Errno::IO)?;
        drop(file);
        Ok(())
    })
    .await?;
    let status = status.await?;
    ensure!(
        status["volumes"].as_array().is_some_and(|all| all.iter().any(|v| v["stored"] != v["received"])),
        "{status}"
    );
    world.other.gateway.restart().await?;
    world.arrives("waits", b"kept").await?;
    ensure!(fs::read(world.data.join("there"))? == b"x");
    Ok(())
}

#[tokio::test]
async fn attaching_says_what_is_wrong_and_letting_go_deletes_nothing() -> Result<()> {
    let world = World::new(&["--read-only"]).await?;
    world.put("file", b"x").await?;
    let endpoint = world.other.gateway.s3_endpoint();
    let key = world.other.gateway.access_key("outside").await?;
    let id = key.access_key_id.as_str();

    // Reading only, at both doors.
    let data = world.data.clone();
    work(move || {
        ensure!(fs::read(data.join("file"))? == b"x");
        refused("write", fs::write(data.join("new"), "x"), Errno::ROFS)
    })
    .await?;
    let sdk = world.here.sdk("acme").await?;
    let put = sdk.client.put_object().bucket("ext").key("new").send().await;
    ensure!(put.is_err_and(|error| code(&error) == "AccessDenied"));

    // What is wrong is said when it is attached.
    let home = world.home.path();
    fs::write(home.join("secret"), "wrong")?;
    let wrong = |output: Output, word: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.ok().is_err() && said.contains(word), "{said}");
        Ok(())
    };
    wrong(attach(&world.here, "two", (&endpoint, id), home, &[]).await?, "check --access-key")?;
    fs::write(home.join("secret"), &key.secret_access_key)?;
    wrong(attach(&world.here, "two", ("http://127.0.0.1:1", id), home, &[]).await?, "check --endpoint")?;
    wrong(attach(&world.here, "two", (&endpoint, id), home, &["--refresh", "1ms"]).await?, "500ms")?;
    let elsewhere = ["--external", "s3://nobucket"];
    let other = [&["bucket", "create", "--tenant", "acme", "two"][..], &elsewhere].concat();
    let rest = ["--endpoint", &endpoint, "--region", mooring_tests::s3::REGION, "--access-key", id];
    let secret = home.join("secret");
    let rest = [&rest[..], &["--secret-file", secret.to_str().context("a path")?]].concat();
    wrong(world.here.gateway.cli(&[&other[..], &rest].concat()).await?, "NoSuchBucket")?;

    // A VM of the tenant may not make the gateway connect anywhere.
    let body = serde_json::json!({"name": "two", "external": {"url": "s3://shop", "endpoint": endpoint, "region": "local", "access_key": id, "secret_key": "x"}});
    let mut curl = Command::new("curl");
    curl.args(["-s", "-X", "POST", "-H", "content-type: application/json", "-d", &body.to_string()]);
    let socket = world.here.gateway.attach_unix("acme", "asks").await?;
    curl.arg("--unix-socket").arg(&socket).arg("http://localhost/v1/buckets");
    let said = host::run(curl).await?.ok()?.text()?;
    ensure!(said.contains("denied") && said.contains("operator"), "{said}");

    let listed = world.here.gateway.json(&["bucket", "ls"]).await?;
    let ext = listed.as_array().and_then(|all| all.iter().find(|b| b["name"] == "ext")).context("no ext")?;
    ensure!(
        ext["external"]["url"] == "s3://shop/pre/" && !listed.to_string().contains(&key.secret_access_key)
    );
    world.here.gateway.cli(&["bucket", "rm", "--tenant", "acme", "ext"]).await?.ok()?;
    ensure!(world.get("file").await?.as_deref() == Some(&b"x"[..]), "the other store's objects are its own");
    ensure!(!world.data.join("file").exists());
    Ok(())
}

#[tokio::test]
async fn a_part_of_it_can_be_shared() -> Result<()> {
    let world = World::new(&[]).await?;
    world.put("album/a", b"shared").await?;
    world.put("album-private/b", b"not shared").await?;
    world.here.tenant("globex", &[]).await?;
    let share = world.here.share_json("acme", &["create", "ext/album/", "--with", "globex"]).await?;
    let id = share["id"].as_str().context("no id")?;
    let accepted = world.here.share_json("globex", &["accept", id]).await?;
    let name = accepted["name"].as_str().context("no name")?;
    let mut vm = world.here.machine("globex", "two").await?;
    let seen = vm.share("acme", name).await?;
    work(move || {
        ensure!(names(&seen)? == ["a"] && fs::read(seen.join("a"))? == b"shared");
        refused("writing to a share for reading", fs::write(seen.join("new"), "x"), Errno::ROFS)
    })
    .await?;
    let sdk = world.here.sdk("globex").await?;
    let bucket = format!("acme.{name}");
    ensure!(sdk.keys(&bucket, "").await? == ["a"]);
    ensure!(sdk.get(&bucket, "a").await?.as_deref() == Some(&b"shared"[..]));
    ensure!(sdk.get(&bucket, "../album-private/b").await?.is_none());
    Ok(())
}
