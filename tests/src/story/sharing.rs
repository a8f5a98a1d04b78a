//! acme shares one prefix with globex, for reading.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Teller;
use super::cast::{BUCKET, Cast, MOUNT, OTHERS_BUCKET, boto3, mounted};
use crate::Vm;
use crate::guest::Status;

/// The share, as both sides know it.
#[derive(Debug)]
pub struct Share {
    /// Its id.
    pub id: String,
    /// SHA-256 of its film.
    pub film: String,
}

/// Where globex sees it.
pub const SEEN: &str = "/mnt/mooring/shared/acme/release";
/// The bucket globex sees.
const SEEN_BUCKET: &str = "acme.release";
/// The film's size: more than any read-ahead, so that not all of it is delivered by the first read.
const FILM: u32 = 8 << 20;

/// acme offers, globex accepts, in their own VMs.
pub async fn share(cast: &Cast, teller: &mut Teller) -> Result<Share> {
    let (acme, globex) = (cast.acme()?, cast.globex());
    let film = format!(
        "set -e; cd {MOUNT}; mkdir release release-private; echo plans > release-private/plan.txt; \
         echo 'version 1' > release/notes.txt; head -c {FILM} /dev/urandom > release/film.bin; \
         sync release/film.bin; sha256sum < release/film.bin"
    );
    let film = acme.run(&film).await?.ok()?.text()?;
    let film = film.split(' ').next().unwrap_or_default().to_owned();
    let offered = async {
        let share =
            json(acme, &format!("share create {BUCKET}/release/ --with globex --as release --until 1h"))
                .await?;
        let id = share["id"].as_str().context("no id")?.to_owned();
        Ok((id, "mooring-agent share create work/release/ --with globex --as release".to_owned()))
    };
    let id = teller.step("acme shares work/release/ with globex, read-only", offered).await?;
    let accepted = async {
        let offers = json(globex, "share ls --in").await?;
        let offer = offers.as_array().and_then(|all| all.iter().find(|share| share["id"] == id.as_str()));
        ensure!(
            offer.is_some_and(|offer| offer["owner"] == "acme" && offer["state"] == "offered"),
            "{offers}"
        );
        let hidden = globex.run(&format!("ls {SEEN}")).await?;
        ensure!(hidden.status != Status::Code(0), "it is mounted before it was accepted");
        json(globex, &format!("share accept {id}")).await?;
        mounted(globex, SEEN).await?;
        Ok(((), format!("it is at {SEEN}")))
    };
    teller.step("globex sees the offer and accepts it", accepted).await?;
    Ok(Share { id, film })
}

/// `mooring-agent --json ARGUMENTS` in a guest.
async fn json(vm: &Vm, arguments: &str) -> Result<Value> {
    let output = vm.run(&format!("mooring-agent --json {arguments}")).await?.ok()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{}: not JSON", output.command))
}

/// What globex can do with it, and what not.
pub async fn look(cast: &Cast, share: &Share, teller: &mut Teller) -> Result<()> {
    let globex = cast.globex();
    teller.step("globex sees it by ls and reads the same bytes", reads(globex, share)).await?;
    teller.step("globex is refused writing, and sees nothing beside it", in_mount(globex)).await?;
    teller.step("the same as an S3 bucket, by boto3 in globex' VM", as_bucket(globex, share)).await
}

async fn reads(globex: &Vm, share: &Share) -> Result<((), String)> {
    for (folder, expected) in [("/mnt/mooring/shared/acme", "release"), (SEEN, "film.bin\nnotes.txt")] {
        let names = globex.run(&format!("ls -A {folder}")).await?.ok()?.text()?;
        ensure!(names == expected, "{folder}: {names}");
    }
    let read = globex.sha256(&format!("{SEEN}/film.bin")).await?;
    ensure!(read == share.film, "{read} instead of {}", share.film);
    Ok(((), format!("film.bin and notes.txt, {} MiB by hash", FILM >> 20)))
}

async fn in_mount(globex: &Vm) -> Result<((), String)> {
    let no = ["Read-only file system", "Permission denied", "Operation not permitted"];
    let writes = [
        format!("echo x > {SEEN}/mine"),
        format!("echo x >> {SEEN}/notes.txt"),
        format!("rm {SEEN}/notes.txt"),
        format!("mv {SEEN}/notes.txt {SEEN}/other"),
        format!("mkdir {SEEN}/folder"),
        format!("chmod 777 {SEEN}/notes.txt"),
    ];
    for write in &writes {
        let done = globex.run(write).await?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status != Status::Code(0) && no.iter().any(|no| said.contains(no)), "{write}: {done:?}");
    }
    for beside in [
        "../release-private/plan.txt",
        concat!("../../work", "/release-private/plan.txt"),
        "release-private/plan.txt",
    ] {
        globex.run(&format!("cat {SEEN}/{beside}")).await?.fails_with("No such file or directory")?;
    }
    let top = globex.run("ls -A /mnt/mooring").await?.ok()?.text()?;
    ensure!(top == format!("{OTHERS_BUCKET}\nshared"), "globex sees {top}");
    Ok(((), format!("{} ways to write refused; beside the prefix: no such file", writes.len())))
}

async fn as_bucket(globex: &Vm, share: &Share) -> Result<((), String)> {
    let code = format!(
        "import hashlib\n\
         def no(call, **words):\n    \
             try:\n        \
                 call(**words)\n    \
             except botocore.exceptions.ClientError as error:\n        \
                 return error.response['Error']['Code']\n    \
             return 'went through'\n\
         film = s3.get_object(Bucket={SEEN_BUCKET:?}, Key='film.bin')['Body'].read()\n\
         result = {{\n    \
             'buckets': [b['Name'] for b in s3.list_buckets()['Buckets']],\n    \
             'keys': [o['Key'] for o in s3.list_objects_v2(Bucket={SEEN_BUCKET:?})['Contents']],\n    \
             'film': hashlib.sha256(film).hexdigest(),\n    \
             'put': no(s3.put_object, Bucket={SEEN_BUCKET:?}, Key='mine', Body=b'x'),\n    \
             'delete': no(s3.delete_object, Bucket={SEEN_BUCKET:?}, Key='notes.txt'),\n    \
             'beside': [no(s3.get_object, Bucket={SEEN_BUCKET:?}, Key=key) for key in\n        \
                        ('release-private/plan.txt', '-private/plan.txt')],\n    \
             'behind': [no(s3.list_objects_v2, Bucket=name) for name in ({BUCKET:?}, 'acme.{BUCKET}')],\n\
         }}"
    );
    let seen = boto3(globex, &code).await?;
    let expected = serde_json::json!({
        "buckets": [SEEN_BUCKET, OTHERS_BUCKET],
        "keys": ["film.bin", "notes.txt"],
        "film": share.film,
        "put": "AccessDenied",
        "delete": "AccessDenied",
        "beside": ["NoSuchKey", "NoSuchKey"],
        "behind": ["NoSuchBucket", "NoSuchBucket"],
    });
    ensure!(seen == expected, "expected {expected}, got {seen}");
    Ok(((), format!("s3://{SEEN_BUCKET} reads the same; writing AccessDenied; acme's bucket NoSuchBucket")))
}
