//! Workers on S3. A request that was cut off is sent again until it is answered: until then nobody knows what it did.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use fastrand::Rng;

use super::{BUCKET, Content, Shared};
use crate::e2e::{Pattern, Sdk};
use crate::wait::{self, Look};

/// How long a request may be sent again.
const PATIENCE: Duration = Duration::from_secs(90);
/// Keys that nobody changes.
const STILL: usize = 120;
/// Keys of one worker.
const KEYS: u64 = 12;
/// Bytes of every part but the last.
const PART: usize = 5 << 20;

/// Makes the keys that nobody changes.
pub(super) async fn make_still(shared: &Shared, sdk: &Sdk) -> Result<()> {
    for number in 0..STILL {
        let (key, content) = (still(number), Content::Whole { number: number as u64, length: 10 + number });
        sdk.put(BUCKET, &key, &content.bytes()).await?;
        shared.book.set(&key, content);
    }
    Ok(())
}

fn still(number: usize) -> String {
    format!("still/{number:04}")
}

/// Lists what nobody changes, all the time: a listing that comes is complete.
pub(super) async fn list(shared: Arc<Shared>, sdk: Sdk) -> Result<()> {
    while let Some(_turn) = shared.turn_of_task().await {
        // While the gateway is away there is none.
        if let Ok(keys) = sdk.keys(BUCKET, "still/").await
            && !keys.iter().eq((0..STILL).map(still).collect::<Vec<_>>().iter())
        {
            shared.wrong.lock().push(format!("under load, still/ has {} keys of {STILL}", keys.len()));
        }
    }
    Ok(())
}

/// Puts, deletes and uploads in parts, below one prefix.
pub(super) async fn put(shared: Arc<Shared>, sdk: Sdk, prefix: String, mut random: Rng) -> Result<()> {
    let mut number = 0;
    while let Some(_turn) = shared.turn_of_task().await {
        number += 1;
        let key = format!("{prefix}/key-{}", random.u64(0..KEYS));
        match random.u32(0..40) {
            0 => {
                let length = PART + random.usize(1..100_000);
                let parts = || in_parts(&sdk, &key, number, length);
                again(&format!("uploading {key} in parts"), parts).await?;
                shared.book.set(&key, Content::Whole { number, length });
            }
            1..10 => {
                again(&format!("deleting {key}"), || sdk.delete(BUCKET, &key)).await?;
                shared.book.remove(&key);
            }
            _ => {
                let length = [0, 700, 5000, 90_000, 400_000][random.usize(0..5)] + random.usize(0..50);
                let content = Content::Whole { number, length };
                let bytes = content.bytes();
                again(&format!("putting {key}"), || sdk.put(BUCKET, &key, &bytes)).await?;
                shared.book.set(&key, content);
            }
        }
    }
    Ok(())
}

async fn again<T, F: Future<Output = Result<T>>>(what: &str, request: impl Fn() -> F) -> Result<T> {
    wait::until(what, PATIENCE, || async { Look::when_ok(request().await) }).await
}

async fn in_parts(sdk: &Sdk, key: &str, number: u64, length: usize) -> Result<()> {
    let bytes = Pattern(number).bytes(0, length);
    let made = sdk.client.create_multipart_upload().bucket(BUCKET).key(key).send().await?;
    let id = made.upload_id.context("no upload id")?;
    let mut done = CompletedMultipartUpload::builder();
    for (part, bytes) in (1..).zip(bytes.chunks(PART)) {
        let body = ByteStream::from(bytes.to_vec());
        let upload = sdk.client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(part);
        let tag = upload.body(body).send().await?.e_tag;
        done = done.parts(CompletedPart::builder().part_number(part).set_e_tag(tag).build());
    }
    let complete = sdk.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(&id);
    complete.multipart_upload(done.build()).send().await?;
    Ok(())
}
