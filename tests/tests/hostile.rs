//! Broken disks, wrong keys and tenants who try names that are not theirs. Each is a clear error to whoever can act,
//! and the others go on.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use mooring_tests::e2e::{Pattern, Site, code, work};
use mooring_tests::guest::Status;
use mooring_tests::wait::{self, Look};
use mooring_tests::{Output, artifacts, host};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;

/// A file system over the gateway's data folder; gone when dropped.
struct Over(PathBuf);

impl Over {
    async fn mount(at: &Path, arguments: &[&str]) -> Result<Over> {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(at);
        host::run(mount).await?.ok()?;
        Ok(Over(at.to_owned()))
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Starts a gateway on that data and waits for its end: for gateways that must not start.
async fn serve(data: &Path, wrapper: &[&str]) -> Result<Output> {
    let program = artifacts::host_program("mooring-gateway")?;
    let socket = tempfile::Builder::new().prefix("mgx-").tempdir()?;
    fs::set_permissions(socket.path(), Permissions::from_mode(0o777))?;
    let mut command = Command::new(wrapper.first().map_or(program.as_os_str(), |word| word.as_ref()));
    if let Some((_, rest)) = wrapper.split_first() {
        command.args(rest).arg(&program);
    }
    command.arg("--admin-socket").arg(socket.path().join("s")).arg("serve").arg("--data-dir").arg(data);
    command.args(["--s3", "off"]);
    host::run(command).await
}

/// The gateway did not start, and told why.
fn told(output: &Output, words: &[&str]) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status == Status::Code(1), "{output:?}");
    ensure!(words.iter().all(|word| told.contains(word)), "not {words:?} but {told}");
    ensure!(!told.contains("panicked"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() -> Result<()> {
    let mut site = Site::start().await?;
    site.gateway.stop().await?;
    // The largest thing that must fit is what a gateway sets aside before it promises anything.
    let _disk =
        Over::mount(&site.gateway.data_dir(), &["-t", "tmpfs", "-o", "size=400m,mode=0700", "tmpfs"]).await?;
    site.gateway.restart().await?;
    site.tenant("acme", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let sdk = site.sdk("acme").await?;
    let ballast = site.gateway.data_dir().join("ballast");

    let into = data.clone();
    work(move || Ok(Pattern(1).write(&into.join("before"), 4 * MIB)?.sync_all()?)).await?;
    fill_up(&ballast)?;
    let into = data.clone();
    let error = work(move || {
        let file = File::create(into.join("too-much"))?;
        let write = |at: u64| file.write_all_at(&Pattern(2).bytes(at * MIB, 1 << 20), at * MIB);
        let all = (0..200).try_for_each(write).and_then(|()| file.sync_all());
        all.err().context("200 MiB went onto a full disk")
    })
    .await?;
    ensure!(error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()), "{error}");
    let body = ByteStream::from(Pattern(3).bytes(0, 32 << 20));
    let put = sdk.client.put_object().bucket("data").key("too-much-too").body(body).send().await;
    let error = put.err().context("a PUT went onto a full disk")?;
    ensure!(error.raw_response().is_some_and(|answer| answer.status().as_u16() == 507), "{}", code(&error));

    let before = data.join("before");
    work(move || Pattern(1).verify(&before, 4 * MIB)).await.context("reads go on")?;
    ensure!(sdk.get("data", "before").await?.is_some_and(|bytes| bytes == Pattern(1).bytes(0, 4 << 20)));
    ensure!(sdk.head("data", "too-much-too").await?.is_none(), "half an object");

    fs::remove_file(&ballast)?;
    wait::until("writing to go on", Duration::from_secs(30), || async {
        let into = data.clone();
        Look::when_ok(work(move || Ok(File::create(into.join("after"))?.write_all_at(b"x", 0)?)).await)
    })
    .await?;
    let into = data.clone();
    work(move || {
        let file = Pattern(4).write(&into.join("again"), 4 * MIB)?;
        file.sync_all()?;
        Pattern(4).verify(&into.join("again"), 4 * MIB)
    })
    .await?;
    sdk.put("data", "object", b"fits").await.map(drop)
}

/// Takes all space that is left.
fn fill_up(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0xff; 64 << 10];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_used_is_named() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let data = site.gateway.data_dir();
    let private = |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path)?.mode() & 0o077);
    ensure!(private(&data)? == 0, "others may look into the data folder");
    ensure!(private(&data.join("master.key"))? == 0, "others may read the master key");
    ensure!(private(&site.gateway.admin_socket())? == 0, "others may operate the gateway");
    site.gateway.stop().await?;
    let name = data.to_string_lossy().into_owned();
    {
        let _bind = Over::mount(&data, &["--bind", &name]).await?;
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,bind,ro"]).arg(&data);
        host::run(remount).await?.ok()?;
        told(&serve(&data, &[]).await?, &[&name, "Read-only"])?;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    told(&serve(&data, &nobody).await?, &[&name, "uid 65534"])?;
    let file = tempfile::NamedTempFile::new()?;
    told(&serve(file.path(), &[]).await?, &[&file.path().to_string_lossy()])?;
    site.gateway.restart().await?;
    Ok(())
}

#[tokio::test]
async fn without_its_master_key_the_gateway_does_not_start() -> Result<()> {
    let mut site = Site::with_acme().await?;
    site.sdk("acme").await?.put("data", "note", b"kept").await?;
    let (data, key) = (site.gateway.data_dir(), site.gateway.data_dir().join("master.key"));
    site.gateway.stop().await?;
    let good = fs::read(&key)?;

    fs::remove_file(&key)?;
    told(&serve(&data, &[]).await?, &["master.key"])?;
    ensure!(!key.exists(), "a new key was made, which opens nothing");
    fs::write(&key, "nonsense")?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    told(&serve(&data, &[]).await?, &["master.key"])?;

    // A key of the right form, of another installation.
    let other = Site::start().await?;
    fs::copy(other.gateway.data_dir().join("master.key"), &key)?;
    told(&serve(&data, &[]).await?, &["key"])?;
    fs::write(&key, &good)?;
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    told(&serve(&data, &[]).await?, &["master.key", "600"])?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    site.gateway.restart().await?;
    ensure!(site.sdk("acme").await?.get("data", "note").await?.as_deref() == Some(&b"kept"[..]));
    Ok(())
}

/// Files below `folder` that have such a folder in their path, largest first.
fn files_in(folder: &Path, part: &str) -> Result<Vec<(u64, PathBuf)>> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().components().any(|component| component.as_os_str() == part) {
                found.push((entry.metadata()?.len(), entry.path()));
            }
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

#[tokio::test]
async fn a_damaged_pack_costs_only_the_bytes_it_held() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let into = data.clone();
    work(move || {
        Pattern(1).write(&into.join("hit"), 8 * MIB)?.sync_all()?;
        Ok(fs::write(into.join("small"), "beside it")?)
    })
    .await?;
    vm.agent.stop().await?;
    site.gateway.stop().await?;
    let (size, pack) = files_in(&site.gateway.data_dir(), "packs")?.into_iter().next().context("no pack")?;
    ensure!(size > 8 * MIB, "the file is not in {}", pack.display());
    flip(&pack, size / 2)?;

    site.gateway.restart().await?;
    let mut vm = site.machine("acme", "two").await?;
    let data = vm.bucket("data").await?;
    let from = data.clone();
    let lost = work(move || {
        let file = File::open(from.join("hit"))?;
        let mut lost = Vec::new();
        for block in 0..8 * MIB / 4096 {
            let mut bytes = [0; 4096];
            match file.read_exact_at(&mut bytes, block * 4096) {
                Ok(()) => Pattern(1).check(block * 4096, &bytes)?,
                Err(error) => {
                    ensure!(error.raw_os_error() == Some(Errno::IO.raw_os_error()), "{error}");
                    lost.push(block);
                }
            }
        }
        ensure!(fs::read(from.join("small"))? == b"beside it");
        Ok(lost)
    })
    .await?;
    println!("one flipped bit: {} KiB unreadable", lost.len() * 4);
    ensure!((1..=256).contains(&lost.len()), "{} blocks lost to one bit", lost.len());
    let log = site.gateway.process().log().text();
    let name = pack.file_stem().context("a name")?.to_string_lossy().into_owned();
    let (_epoch, id) = name.split_once('-').context("an epoch and an id")?;
    ensure!(log.contains(id), "the log does not name the pack {id}");
    work(move || Ok(fs::write(data.join("after"), "goes on")?)).await
}

fn flip(path: &Path, at: u64) -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    Ok(file.sync_all()?)
}

#[tokio::test]
async fn a_torn_journal_ends_where_it_is_torn() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    for number in 0..50 {
        fs::write(data.join(format!("file-{number}")), Pattern(number).bytes(0, 3000))?;
    }
    File::open(&data)?.sync_all()?;
    vm.agent.stop().await?;
    site.gateway.kill().await?;
    // What loss of power leaves of a record: its beginning, right after the last whole one, and then zeros.
    let torn = journal_ends(&site)?;
    ensure!(!torn.is_empty(), "no journal has anything in it");
    for (journal, end) in &torn {
        OpenOptions::new().write(true).open(journal)?.write_all_at(b"MJR1\x40\x01\0\0\x07\xff", *end)?;
    }
    site.gateway.restart().await?;
    let mut vm = site.machine("acme", "two").await?;
    let data = vm.bucket("data").await?;
    work(move || {
        (0..50).try_for_each(|n| Pattern(n).verify(&data.join(format!("file-{n}")), 3000))?;
        Ok(fs::write(data.join("after"), "goes on")?)
    })
    .await
}

/// Journals that have records, and where the last one ends.
fn journal_ends(site: &Site) -> Result<Vec<(PathBuf, u64)>> {
    let mut ends = Vec::new();
    for (_, journal) in files_in(&site.gateway.data_dir(), "journal")? {
        let bytes = fs::read(&journal)?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if end > 4096 {
            ends.push((journal, end));
        }
    }
    Ok(ends)
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_not_cut_off() -> Result<()> {
    let mut site = Site::with_acme().await?;
    let sdk = site.sdk("acme").await?;
    for number in 0..20 {
        sdk.put("data", &format!("object-{number}"), &Pattern(number).bytes(0, 3000)).await?;
    }
    site.gateway.kill().await?;
    let tenants = |(path, _): &(PathBuf, u64)| path.components().any(|part| part.as_os_str() == "tenants");
    let (journal, end) = journal_ends(&site)?.into_iter().find(tenants).context("no journal of a volume")?;
    flip(&journal, end / 2)?;
    site.gateway.restart().await?;
    ensure!(sdk.get("data", "object-19").await.is_err(), "acknowledged objects were dropped in silence");
    let log = site.gateway.process().log().text();
    ensure!(log.contains(&*journal.to_string_lossy()), "the log does not name {}", journal.display());
    // Others are served, and when the file is whole again nothing is missing.
    site.tenant("globex", &["own"]).await?;
    site.sdk("globex").await?.put("own", "note", b"served").await?;
    site.gateway.kill().await?;
    flip(&journal, end / 2)?;
    site.gateway.restart().await?;
    for number in 0..20 {
        let body = sdk.get("data", &format!("object-{number}")).await?.context("lost")?;
        Pattern(number).check(0, &body)?;
    }
    Ok(())
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() -> Result<()> {
    let site = Site::with_acme().await?;
    site.tenant("globex", &["own"]).await?;
    site.sdk("acme").await?.put("data", "note", b"secret").await?;
    let vm = site.machine("globex", "g1").await?;
    let globex = site.sdk("globex").await?;
    let s3 = &globex.client;
    let no_bucket = "NoSuchBucket";
    for bucket in ["data", "nothing-here"] {
        let got = s3.get_object().bucket(bucket).key("note").send().await;
        ensure!(got.as_ref().is_err_and(|e| code(e) == no_bucket), "GET {bucket}: {got:?}");
        let put = s3.put_object().bucket(bucket).key("k").body(ByteStream::from_static(b"x")).send().await;
        ensure!(put.as_ref().is_err_and(|e| code(e) == no_bucket), "PUT {bucket}: {put:?}");
        let list = s3.list_objects_v2().bucket(bucket).send().await;
        ensure!(list.as_ref().is_err_and(|e| code(e) == no_bucket), "LIST {bucket}: {list:?}");
        let copy = s3.copy_object().bucket("own").key("k").copy_source(format!("{bucket}/note")).send().await;
        ensure!(copy.as_ref().is_err_and(|e| code(e) == no_bucket), "COPY {bucket}: {copy:?}");
        let start = s3.create_multipart_upload().bucket(bucket).key("k").send().await;
        ensure!(start.as_ref().is_err_and(|e| code(e) == no_bucket), "UPLOAD {bucket}: {start:?}");
    }
    // A name that another tenant has is free.
    site.gateway.bucket("globex", "data").await?;
    ensure!(globex.get("data", "note").await?.is_none(), "two tenants share a bucket by its name");
    site.gateway.cli(&["bucket", "rm", "--tenant", "globex", "data"]).await?.ok()?;
    site.gateway.cli(&["bucket", "rm", "--tenant", "globex", "data"]).await?.fails_with("not found")?;
    vm.cli(&["share", "create", "data/", "--with", "acme"]).await?.fails_with("not found")?;
    Ok(())
}
