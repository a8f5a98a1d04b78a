//! Workloads on an S3 endpoint with the AWS SDK, as applications use it: signed requests, checksums as the SDK's defaults
//! send them. The limit beside each figure is the same bytes written to and read from the disk by the same number of
//! threads, with an fsync where the PUT is durable. Every object has bytes of its own, which do not compress.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;

use crate::files::{noise, stamp};
use crate::measure::{Measure, Sheet, mib_per_second, per_second};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Objects of 64 MiB per client count.
    pub large: usize,
    /// Objects of 4 KiB per client count.
    pub small: usize,
    /// Keys to list.
    pub keys: usize,
}

const LARGE: usize = 64 << 20;
const SMALL: usize = 4 << 10;
const CLIENTS: [usize; 2] = [1, 16];

/// Where the endpoint is and who asks.
pub struct Endpoint {
    /// `http://127.0.0.1:9000`.
    pub url: String,
    /// Access key id.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// An existing, empty bucket.
    pub bucket: String,
}

fn client(endpoint: &Endpoint) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&endpoint.url)
        .region(Region::new("mooring-1"))
        .credentials_provider(Credentials::new(&endpoint.key, &endpoint.secret, None, None, "bench"))
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// Runs every workload against the endpoint.
pub fn run(endpoint: &Endpoint, scale: Scale, sheet: &mut Sheet) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let s3 = client(endpoint);
    for (label, size, count) in scale.rounds() {
        for clients in CLIENTS {
            let plural = if clients == 1 { "client" } else { "clients" };
            let job = Job {
                s3: &s3,
                bucket: &endpoint.bucket,
                prefix: format!("{size}-{clients}"),
                size,
                count,
                clients,
            };
            sheet.take(&format!("put {label}, {clients} {plural}"), || runtime.block_on(job.put()))?;
            sheet.take(&format!("get {label}, {clients} {plural}"), || runtime.block_on(job.get()))?;
        }
    }
    sheet.take("list keys", || runtime.block_on(list(&s3, &endpoint.bucket, scale.keys)))
}

impl Scale {
    fn rounds(&self) -> [(&'static str, usize, usize); 2] {
        [("64 MiB", LARGE, self.large), ("4 KiB", SMALL, self.small)]
    }
}

/// What object `n` of a round of `clients` has in it: no page of it is in any other object.
fn body(noise: &[u8], clients: usize, n: usize) -> Vec<u8> {
    let mut body = noise.to_vec();
    stamp(&mut body, (clients << 32 | n) as u64);
    body
}

struct Job<'a> {
    s3: &'a Client,
    bucket: &'a str,
    prefix: String,
    size: usize,
    count: usize,
    clients: usize,
}

impl Job<'_> {
    async fn put(&self) -> Result<Measure> {
        let noise = noise(self.size);
        self.each(|n| {
            let body = bytes::Bytes::from(body(&noise, self.clients, n));
            let request = self
                .s3
                .put_object()
                .bucket(self.bucket)
                .key(format!("{}/{n:06}", self.prefix))
                .body(ByteStream::from(body));
            async move { request.send().await.map(drop).map_err(anyhow::Error::from) }
        })
        .await
    }

    async fn get(&self) -> Result<Measure> {
        let size = self.size;
        self.each(|n| {
            let request = self.s3.get_object().bucket(self.bucket).key(format!("{}/{n:06}", self.prefix));
            async move {
                let mut body = request.send().await?.body;
                let mut got = 0;
                while let Some(part) = body.try_next().await? {
                    got += part.len();
                }
                ensure!(got == size, "read {got} of {size} bytes");
                Ok(())
            }
        })
        .await
    }

    async fn each<F, Fut>(&self, one: F) -> Result<Measure>
    where
        F: Fn(usize) -> Fut,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let start = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for n in 0..self.count {
            if running.len() == self.clients {
                running.join_next().await.context("a client vanished")???;
            }
            running.spawn(one(n));
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(rate(self.size, self.count, start))
    }
}

fn rate(size: usize, count: usize, start: Instant) -> Measure {
    if size >= 1 << 20 {
        mib_per_second((size * count) as u64, start.elapsed())
    } else {
        crate::measure::rate(count, start.elapsed())
    }
}

async fn list(s3: &Client, bucket: &str, keys: usize) -> Result<Measure> {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..keys {
        if running.len() == 32 {
            running.join_next().await.context("a client vanished")???;
        }
        let put = s3
            .put_object()
            .bucket(bucket)
            .key(format!("list/{:03}/{n:06}", n % 100))
            .body(ByteStream::from_static(b"x"));
        running.spawn(async move { put.send().await.map(drop).map_err(anyhow::Error::from) });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    let start = Instant::now();
    let mut pages = s3.list_objects_v2().bucket(bucket).prefix("list/").into_paginator().send();
    let mut seen = 0;
    while let Some(page) = pages.next().await {
        seen += page?.contents().len();
    }
    ensure!(seen == keys, "listed {seen} of {keys} keys");
    Ok(per_second("keys/s", keys as f64, keys as u64, start.elapsed()))
}

/// The limit: the same bytes as files on the disk, each fsynced, by as many threads.
pub fn disk(dir: &Path, scale: Scale, sheet: &mut Sheet) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (label, size, count) in scale.rounds() {
        let noise = noise(size);
        for clients in CLIENTS {
            let plural = if clients == 1 { "client" } else { "clients" };
            let path = |n: usize| dir.join(format!("{size}-{clients}-{n:06}"));
            sheet.take(&format!("put {label}, {clients} {plural}"), || {
                threads(size, count, clients, |n| {
                    let mut file = File::create(path(n))?;
                    file.write_all(&body(&noise, clients, n))?;
                    Ok(file.sync_all()?)
                })
            })?;
            sheet.take(&format!("get {label}, {clients} {plural}"), || {
                threads(size, count, clients, |n| {
                    let mut bytes = Vec::with_capacity(size);
                    File::open(path(n))?.read_to_end(&mut bytes)?;
                    ensure!(bytes.len() == size, "read {} of {size} bytes", bytes.len());
                    Ok(())
                })
            })?;
        }
    }
    Ok(())
}

fn threads(
    size: usize,
    count: usize,
    clients: usize,
    one: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Measure> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let one = &one;
        let workers: Vec<_> = (0..clients)
            .map(|first| scope.spawn(move || (first..count).step_by(clients).try_for_each(one)))
            .collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    Ok(rate(size, count, start))
}
