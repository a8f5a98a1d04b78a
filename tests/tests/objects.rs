//! A bucket is one set of data behind two doors: what S3 puts is a file at once, what a program closes is an object.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use mooring_tests::e2e::{Machine, Pattern, Sdk, Site, code, work};
use std::path::{Path, PathBuf};

struct Doors {
    sdk: Sdk,
    data: PathBuf,
    _vm: Machine,
    _site: Site,
}

async fn doors() -> Result<Doors> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    Ok(Doors { sdk: site.sdk("acme").await?, data, _vm: vm, _site: site })
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn an_object_is_a_file_at_once() -> Result<()> {
    let doors = doors().await?;
    ensure!(names(&doors.data)?.is_empty());
    let body = Pattern(1).bytes(0, 3 << 20);
    let tag = doors.sdk.put("data", "album/2026/a.jpg", &body).await?;
    ensure!(names(&doors.data)? == ["album"], "the mount had looked before");
    ensure!(fs::read(doors.data.join("album/2026/a.jpg"))? == body);
    let (size, head) = doors.sdk.head("data", "album/2026/a.jpg").await?.context("gone")?;
    ensure!(size == 3 << 20 && head == tag, "{size} bytes, {head} against {tag}");

    // Who has the file open keeps what was there; the name leads to what is new. Mode and owner stay.
    let path = doors.data.join("album/2026/a.jpg");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
    let held = File::open(&path)?;
    let second = doors.sdk.put("data", "album/2026/a.jpg", b"new").await?;
    ensure!(second != tag);
    ensure!(fs::read(&path)? == b"new", "by its name");
    let mut old = vec![0; body.len()];
    held.read_exact_at(&mut old, 0)?;
    ensure!(old == body, "an open file changed under its reader");
    ensure!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path)?) & 0o777 == 0o640);

    doors.sdk.delete("data", "album/2026/a.jpg").await?;
    ensure!(names(&doors.data)?.is_empty(), "folders that a PUT made go with their last object");
    Ok(())
}

#[tokio::test]
async fn a_closed_file_is_an_object_at_once() -> Result<()> {
    let doors = doors().await?;
    let path = doors.data.join("report.txt");
    let mut tags = Vec::new();
    for round in 0..20u64 {
        fs::write(&path, Pattern(round).bytes(0, 1000 + usize::try_from(round)?))?;
        let (size, tag) = doors.sdk.head("data", "report.txt").await?.context("not there")?;
        ensure!(size == 1000 + round, "round {round}: {size} bytes");
        let body = doors.sdk.get("data", "report.txt").await?.context("not there")?;
        Pattern(round).check(0, &body)?;
        tags.push(tag);
    }
    let mut unique = tags.clone();
    unique.sort();
    unique.dedup();
    ensure!(unique.len() == tags.len(), "the same ETag for other bytes: {tags:?}");

    // The ETag of a file is good for what ETags are good for.
    let s3 = &doors.sdk.client;
    let tag = tags.last().context("no tag")?;
    s3.get_object().bucket("data").key("report.txt").if_match(tag).send().await?;
    let unchanged = s3.get_object().bucket("data").key("report.txt").if_none_match(tag).send().await;
    ensure!(unchanged.is_err_and(|e| e.raw_response().is_some_and(|answer| answer.status().as_u16() == 304)));
    // A file that is still open is what has been written so far.
    let mut open = File::create(doors.data.join("open"))?;
    open.write_all(b"half")?;
    ensure!(doors.sdk.get("data", "open").await?.as_deref() == Some(&b"half"[..]));
    let stale = s3.put_object().bucket("data").key("report.txt").if_match(&tags[0]);
    let stale = stale.body(ByteStream::from_static(b"x")).send().await;
    ensure!(stale.is_err_and(|error| code(&error) == "PreconditionFailed"));
    Ok(())
}

#[tokio::test]
async fn folders_show_as_prefixes_and_markers() -> Result<()> {
    let doors = doors().await?;
    fs::create_dir_all(doors.data.join("made/empty"))?;
    fs::write(doors.data.join("made/file"), "x")?;
    doors.sdk.put("data", "put/deep/file", b"y").await?;
    doors.sdk.put("data", "marker/", b"").await?;
    let keys = doors.sdk.keys("data", "").await?;
    ensure!(keys == ["made/", "made/empty/", "made/file", "marker/", "put/deep/file"], "{keys:?}");
    ensure!(names(&doors.data)? == ["made", "marker", "put"] && doors.data.join("marker").is_dir());

    let s3 = &doors.sdk.client;
    let top = s3.list_objects_v2().bucket("data").delimiter("/").send().await?;
    let prefixes: Vec<_> = top.common_prefixes().iter().filter_map(|p| p.prefix()).collect();
    ensure!(prefixes == ["made/", "marker/", "put/"] && top.contents().is_empty(), "{prefixes:?}");

    // A folder somebody made stays when its last object goes; one that a PUT made does not.
    doors.sdk.delete("data", "made/file").await?;
    doors.sdk.delete("data", "put/deep/file").await?;
    ensure!(names(&doors.data)? == ["made", "marker"], "{:?}", names(&doors.data)?);
    doors.sdk.delete("data", "made/empty/").await?;
    doors.sdk.delete("data", "marker/").await?;
    ensure!(names(&doors.data)? == ["made"] && names(&doors.data.join("made"))?.is_empty());
    Ok(())
}

#[tokio::test]
async fn keys_that_are_no_paths_live_beside_the_files() -> Result<()> {
    let doors = doors().await?;
    let odd = ["a//b", "/lead", "./here", "up/../over", "trail//", "x/./y", &"n".repeat(300), "a"];
    for (number, key) in odd.iter().enumerate() {
        doors.sdk.put("data", key, number.to_string().as_bytes()).await.with_context(|| (*key).to_owned())?;
    }
    // `a` beside `a/...`: legal in S3, impossible as file and folder of one name.
    doors.sdk.put("data", "a/below", b"below").await?;
    let mut expected: BTreeMap<_, _> =
        odd.iter().enumerate().map(|(at, key)| (*key, at.to_string())).collect();
    expected.insert("a/below", "below".to_owned());
    let keys = doors.sdk.keys("data", "").await?;
    ensure!(keys.iter().map(String::as_str).eq(expected.keys().copied()), "{keys:?}");
    for (key, body) in &expected {
        let got = doors.sdk.get("data", key).await?.with_context(|| format!("{key} is gone"))?;
        ensure!(got == body.as_bytes(), "{key}");
    }
    // The mount goes on to be a file system, and what it lists can be read.
    let data = doors.data.clone();
    work(move || {
        for name in names(&data)? {
            let path = data.join(&name);
            let meta = fs::symlink_metadata(&path).with_context(|| name.clone())?;
            ensure!(meta.is_dir() || fs::read(&path).is_ok(), "{name} is listed and cannot be read");
        }
        Ok(())
    })
    .await?;
    for key in expected.keys() {
        doors.sdk.delete("data", key).await?;
    }
    ensure!(doors.sdk.keys("data", "").await?.is_empty());
    ensure!(names(&doors.data)?.is_empty(), "{:?}", names(&doors.data)?);
    Ok(())
}

#[tokio::test]
async fn parts_become_one_file_and_only_when_complete() -> Result<()> {
    const PART: usize = 5 << 20;
    let doors = doors().await?;
    let s3 = &doors.sdk.client;
    let start = || s3.create_multipart_upload().bucket("data").key("big").send();
    let id = start().await?.upload_id.context("no id")?;
    let mut parts = Vec::new();
    for (number, length) in [(1, PART), (2, PART), (3, 1234)] {
        let body = ByteStream::from(Pattern(6).bytes((number as u64 - 1) * PART as u64, length));
        let part = s3.upload_part().bucket("data").key("big").upload_id(&id).part_number(number).body(body);
        let tag = part.send().await?.e_tag.context("no tag")?;
        parts.push(CompletedPart::builder().part_number(number).e_tag(tag).build());
    }
    ensure!(
        !doors.data.join("big").exists() && doors.sdk.keys("data", "").await?.is_empty(),
        "seen too early"
    );
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let whole =
        s3.complete_multipart_upload().bucket("data").key("big").upload_id(&id).multipart_upload(parts);
    let tag = whole.send().await?.e_tag.context("no tag")?;
    ensure!(tag.trim_matches('"').ends_with("-3"), "{tag}");
    let path = doors.data.join("big");
    work(move || Pattern(6).verify(&path, 2 * PART as u64 + 1234)).await?;

    let id = start().await?.upload_id.context("no id")?;
    s3.abort_multipart_upload().bucket("data").key("big").upload_id(&id).send().await?;
    let uploads = s3.list_multipart_uploads().bucket("data").send().await?;
    ensure!(uploads.uploads().is_empty(), "{uploads:?}");
    Ok(())
}

#[tokio::test]
async fn a_file_in_pieces_is_an_object_in_pieces() -> Result<()> {
    let doors = doors().await?;
    let file = Pattern(8).write(&doors.data.join("file"), 4 << 20)?;
    file.set_len(6 << 20)?;
    let s3 = &doors.sdk.client;
    for (range, from, length) in
        [("bytes=0-0", 0, 1), ("bytes=4096-8191", 4096, 4096), ("bytes=-8", (6 << 20) - 8, 8)]
    {
        let got = s3.get_object().bucket("data").key("file").range(range).send().await?;
        let body = got.body.collect().await?.to_vec();
        ensure!(body.len() == length, "{range}: {} bytes", body.len());
        if from < 4 << 20 {
            Pattern(8).check(from, &body)?
        } else {
            ensure!(body.iter().all(|byte| *byte == 0))
        }
    }
    let beyond = s3.get_object().bucket("data").key("file").range("bytes=9000000-").send().await;
    ensure!(beyond.is_err_and(|error| code(&error) == "InvalidRange"));
    s3.copy_object().bucket("data").key("copy").copy_source("data/file").send().await?;
    ensure!(fs::read(doors.data.join("copy"))? == fs::read(doors.data.join("file"))?);
    Ok(())
}
