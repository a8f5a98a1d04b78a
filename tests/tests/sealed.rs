//! Nothing of what tenants keep lies in clear: marks go in by every way there is, and no byte of the data folder, nor of an
//! object store below it, shows one of them.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use mooring_tests::e2e::{Machine, Sdk, Site, work};
use mooring_tests::host::{self, Gateway};
use mooring_tests::wait::{self, Look};

/// What every mark begins with: chance does not make it, and S3's names may hold it.
struct Tag(String);

impl Tag {
    fn new() -> Tag {
        Tag(format!("zq{:016x}kw", fastrand::u64(..)))
    }

    fn mark(&self, what: &str) -> String {
        format!("{}-{what}", self.0)
    }

    /// The forms it is looked for: as it is, hexadecimal, and base64 at each of three alignments.
    fn forms(&self) -> Vec<String> {
        let hex = self.0.bytes().map(|byte| format!("{byte:02x}")).collect();
        let shifted = (0..3).map(|shift| {
            let text = base64(&[&b"\0\0"[..shift], self.0.as_bytes()].concat());
            // Its first and last letters depend on what is beside it.
            let from = [0, 2, 3][shift];
            text[from..text.len() - 3].to_owned()
        });
        [self.0.clone(), hex].into_iter().chain(shifted).collect()
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word =
            part.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

/// Every place below `folder`, in names and in bytes, that shows one of the forms.
async fn shown(folder: &Path, forms: &[String]) -> Result<Vec<String>> {
    let mut names = Command::new("find");
    names.arg(folder);
    let names = host::run(names).await?.ok()?;
    let listed = String::from_utf8_lossy(&names.stdout).into_owned();
    let in_names =
        listed.lines().filter(|name| forms.iter().any(|form| name.contains(form))).map(str::to_owned);
    let mut places: Vec<String> = in_names.collect();
    let mut grep = Command::new("grep");
    grep.args(["-r", "-a", "-b", "-o", "-i", "-F"]);
    for form in forms {
        grep.args(["-e", form]);
    }
    let found = host::run({
        grep.arg(folder);
        grep
    })
    .await?;
    places.extend(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned));
    Ok(places)
}

/// An extended attribute, as a program would set it.
fn set_attribute(path: &Path, name: &str, value: &str) -> Result<()> {
    rustix::fs::setxattr(path, CString::new(name)?, value.as_bytes(), rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// Marks by every way that a mount has.
fn through_the_mount(mount: &Path, tag: &Tag) -> Result<()> {
    let dir = mount.join(tag.mark("directory"));
    fs::create_dir(&dir)?;
    let small = dir.join(tag.mark("small"));
    let mut file = File::create(&small)?;
    file.write_all(tag.mark("small-content").as_bytes())?;
    file.sync_all()?;
    set_attribute(&small, &format!("user.{}", tag.mark("attribute")), &tag.mark("value"))?;
    let mut large = File::create(dir.join("large"))?;
    for number in 0..60_000 {
        // Some that pack well, some that do not.
        let line = format!("{} {number} {:x}\n", tag.mark("large"), fastrand::u128(..));
        large.write_all(line.as_bytes())?;
    }
    large.sync_all()?;
    // Rewritten in part: what was before stays in a journal and in a pack.
    let rewritten = File::options().write(true).open(dir.join("large"))?;
    std::os::unix::fs::FileExt::write_all_at(&rewritten, tag.mark("rewritten").as_bytes(), 1 << 20)?;
    rewritten.sync_all()?;
    std::os::unix::fs::symlink(tag.mark("target"), dir.join("symlink"))?;
    fs::hard_link(&small, dir.join(tag.mark("hard-link")))?;
    let pipe = CString::new(dir.join(tag.mark("pipe")).as_os_str().as_bytes())?;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    fs::write(dir.join(tag.mark("removed")), tag.mark("removed-content"))?;
    fs::remove_file(dir.join(tag.mark("removed")))?;
    fs::rename(dir.join("symlink"), dir.join(tag.mark("renamed")))?;
    Ok(File::open(&dir)?.sync_all()?)
}

/// Marks by every way that S3 has.
async fn through_s3(sdk: &Sdk, tag: &Tag) -> Result<()> {
    let s3 = &sdk.client;
    for (key, length) in [("tiny", 1), ("object", 9_000)] {
        let body = tag.mark(&format!("{key}-content ")).repeat(length);
        s3.put_object()
            .bucket("data")
            .key(tag.mark(key))
            .content_type(format!("text/{}", tag.mark("type")))
            .metadata(tag.mark("meta"), tag.mark("meta-value"))
            .body(ByteStream::from(body.into_bytes()))
            .send()
            .await?;
    }
    // A key that is no path, and an upload that stays under way.
    s3.put_object().bucket("data").key(format!("a//{}", tag.mark("side"))).send().await?;
    let upload = s3.create_multipart_upload().bucket("data").key(tag.mark("upload"));
    let upload = upload.metadata("of", tag.mark("upload-meta")).send().await?;
    let part = s3.upload_part().bucket("data").key(tag.mark("upload")).part_number(1);
    let body = tag.mark("part ").repeat(1000).into_bytes();
    part.upload_id(upload.upload_id.context("no id")?).body(ByteStream::from(body)).send().await?;
    Ok(())
}

/// What the operator and the tenant tell the registry.
async fn through_commands(site: &Site, tag: &Tag) -> Result<String> {
    site.gateway.bucket("acme", &tag.mark("bucket")).await?;
    site.tenant("globex", &[]).await?;
    let prefix = format!("data/{}/", tag.mark("directory"));
    site.share("acme", &["create", &prefix, "--with", "globex"]).await?.ok()?;
    let snapshot = ["bucket", "snapshot", "create", "--tenant", "acme", "data", &tag.mark("snapshot")];
    site.gateway.cli(&snapshot).await?.ok()?;
    site.gateway.cli(&["tenant", "rotate-key", "acme"]).await?.ok()?;
    Ok(site.gateway.access_key("acme").await?.secret_access_key)
}

/// A bucket of another service, whose secret and names are kept here.
async fn attach_elsewhere(site: &Site, other: &Site, tag: &Tag) -> Result<String> {
    other.tenant("outside", &[&tag.mark("shop")]).await?;
    let key = other.gateway.access_key("outside").await?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), &key.secret_access_key)?;
    let (url, endpoint) = (format!("s3://{}/pre", tag.mark("shop")), other.gateway.s3_endpoint());
    let secret = file.path().to_str().context("a path that is no text")?;
    let mut words = vec!["bucket", "create", "--tenant", "acme", "ext", "--external", &url];
    words.extend(["--endpoint", &endpoint, "--region", mooring_tests::s3::REGION]);
    words.extend(["--access-key", &key.access_key_id, "--secret-file", secret]);
    site.gateway.cli(&words).await?.ok()?;
    let sdk = site.sdk("acme").await?;
    sdk.put("ext", &tag.mark("elsewhere"), tag.mark("elsewhere-content").as_bytes()).await?;
    Ok(key.secret_access_key)
}

/// What cannot be uploaded waits in files without a name: they show nothing either.
async fn waiting_to_be_uploaded(
    site: &Site,
    vm: &mut Machine,
    mut other: Site,
    tag: &Tag,
    forms: &[String],
) -> Result<()> {
    let mount = vm.bucket("ext").await?;
    let path = mount.join(tag.mark("waits"));
    // Opened before, so that only the upload needs the other store.
    let mut file = work(move || Ok(File::create(path)?)).await?;
    other.gateway.kill().await?;
    let line = tag.mark("waits-content ");
    let _file = work(move || {
        file.write_all(line.repeat(20_000).as_bytes())?;
        Ok(file)
    })
    .await?;
    let open = PathBuf::from(format!("/proc/{}/fd", site.gateway.process().id()));
    let waits = wait::until("bytes that wait to be uploaded", Duration::from_secs(30), || async {
        let nameless = |path: &PathBuf| {
            let deleted = fs::read_link(path).is_ok_and(|to| to.to_string_lossy().ends_with("(deleted)"));
            deleted && fs::metadata(path).is_ok_and(|meta| meta.len() > 100_000)
        };
        let mut found = fs::read_dir(&open).into_iter().flatten().flatten().map(|entry| entry.path());
        found.find(nameless).map_or_else(|| Look::NotYet("no such file".to_owned()), Look::Ready)
    })
    .await?;
    let bytes = fs::read(waits)?;
    let shows = |form: &String| bytes.windows(form.len()).any(|part| part == form.as_bytes());
    ensure!(!forms.iter().any(shows), "what waits to be uploaded lies in clear");
    Ok(())
}

async fn nothing_in_clear(mut site: Site, folders: &[PathBuf]) -> Result<()> {
    let other = Site::start().await?;
    let tag = Tag::new();
    site.tenant("acme", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let mount = vm.bucket("data").await?;
    let into = (mount.clone(), Tag(tag.0.clone()));
    work(move || through_the_mount(&into.0, &into.1)).await?;
    through_s3(&site.sdk("acme").await?, &tag).await?;
    let secrets = [through_commands(&site, &tag).await?, attach_elsewhere(&site, &other, &tag).await?];
    let from = mount.join(tag.mark("directory")).join(tag.mark("small"));
    work(move || {
        ensure!(!fs::read(from)?.is_empty(), "nothing was written");
        Ok(())
    })
    .await?;

    let forms = [tag.forms(), secrets.to_vec()].concat();
    let look = |when: &'static str| {
        let forms = forms.clone();
        async move {
            for folder in folders {
                let places = shown(folder, &forms).await?;
                ensure!(places.is_empty(), "{when}, in clear:\n{}", places.join("\n"));
            }
            anyhow::Ok(())
        }
    };
    look("while it runs").await?;
    waiting_to_be_uploaded(&site, &mut vm, other, &tag, &forms).await?;
    site.gateway.kill().await?;
    look("after a kill").await?;
    site.gateway.restart().await?;
    // A clean end moves rows from the journal to tables; a checkpoint has all of them.
    vm.agent.kill().await?;
    site.gateway.stop().await?;
    look("after a clean end").await?;

    // The search finds what is there to be found, in each form.
    let planted = folders[0].join("planted");
    for (shift, form) in forms.iter().enumerate() {
        fs::write(&planted, format!("{}{form}", "\0".repeat(shift)))?;
        ensure!(shown(&folders[0], &forms).await?.len() == 1, "{form} is not found");
    }
    for before in ["", "x", "xy"] {
        fs::write(&planted, base64(format!("{before}{} and more", tag.mark("a")).as_bytes()))?;
        ensure!(shown(&folders[0], &forms).await?.len() == 1, "base64 is not found behind {before:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_the_data_folder_shows_what_tenants_keep() -> Result<()> {
    let site = Site::start().await?;
    let data = site.gateway.data_dir();
    nothing_in_clear(site, &[data]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_an_object_store_shows_what_tenants_keep() -> Result<()> {
    let store = tempfile::tempdir()?;
    let url = format!("--store-url=file://{}", store.path().display());
    let site = Site { gateway: Gateway::start_with(&[&url]).await? };
    let folders = [site.gateway.data_dir(), store.path().to_owned()];
    nothing_in_clear(site, &folders).await
}
