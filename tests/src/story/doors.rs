//! The same bytes in the mount, by boto3 in the VM, and by boto3 on the host.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Teller;
use super::cast::{BUCKET, Cast, boto3};
use super::data::{OBJECTS, Things, short};

/// Reads everything back through S3 and compares it with what was written.
pub async fn compare(cast: &Cast, things: &Things, teller: &mut Teller) -> Result<()> {
    let in_guest = teller.step("boto3 in the VM reads them, with no key on its disk", in_guest(cast)).await?;
    let on_host = teller.step("boto3 on the host reads them, with acme's access key", on_host(cast)).await?;
    let compare = async {
        for (key, written) in [("big.bin", &things.big), ("notes.db", &things.database)] {
            for (door, read) in [("in the VM", &in_guest), ("on the host", &on_host)] {
                ensure!(read[key] == written.as_str(), "{key} {door}: {} instead of {written}", read[key]);
            }
        }
        let bundle = &on_host["mooring.bundle"];
        ensure!(bundle.is_string() && in_guest["mooring.bundle"] == *bundle, "the bundle differs");
        Ok((
            (),
            format!("big.bin {} and notes.db {} everywhere", short(&things.big), short(&things.database)),
        ))
    };
    teller.step("by hash: mount, S3 in the VM and S3 on the host", compare).await?;
    teller.step("every file of the clone, read as an object on the host", tree(cast, things)).await
}

/// Python that hashes some objects into a map.
fn hashes(keys: &[&str]) -> String {
    format!(
        "import hashlib\n\
         result = {{}}\n\
         for key in {keys:?}:\n    \
             digest = hashlib.sha256()\n    \
             for chunk in s3.get_object(Bucket={BUCKET:?}, Key=key)['Body'].iter_chunks(1 << 20):\n        \
                 digest.update(chunk)\n    \
             result[key] = digest.hexdigest()"
    )
}

async fn in_guest(cast: &Cast) -> Result<(Value, String)> {
    let acme = cast.acme()?;
    let secrets = "! env | grep -q AWS_ && ! test -e ~/.aws && ! grep -q SECRET /run/mooring/env";
    acme.run(secrets).await?.ok().context("the VM holds a key")?;
    let read = boto3(acme, &hashes(&OBJECTS)).await?;
    Ok((read, format!("{} objects through 127.0.0.1:9000", OBJECTS.len())))
}

async fn on_host(cast: &Cast) -> Result<(Value, String)> {
    let read = cast.host.eval(&hashes(&OBJECTS)).await?;
    Ok((read, format!("{} objects through {}", OBJECTS.len(), cast.host.endpoint())))
}

/// The digest over the whole clone, as [`tree_digest`](super::data::tree_digest) makes it in the mount.
async fn tree(cast: &Cast, things: &Things) -> Result<((), String)> {
    let code = format!(
        "import hashlib\n\
         listing, count = hashlib.sha256(), 0\n\
         for page in s3.get_paginator('list_objects_v2').paginate(Bucket={BUCKET:?}, Prefix='mooring/'):\n    \
             for key in [o['Key'] for o in page['Contents'] if not o['Key'].endswith('/')]:\n        \
                 body = s3.get_object(Bucket={BUCKET:?}, Key=key)['Body'].read()\n        \
                 listing.update(f'{{hashlib.sha256(body).hexdigest()}}  {{key}}\\n'.encode())\n        \
                 count += 1\n\
         result = [listing.hexdigest(), count]"
    );
    let read = cast.host.eval(&code).await?;
    ensure!(read[1] == things.files, "{} objects, {} files", read[1], things.files);
    ensure!(read[0] == things.tree.as_str(), "some object's bytes or name differ from its file's");
    Ok(((), format!("{} objects, one hash over all: {}", things.files, short(&things.tree))))
}
