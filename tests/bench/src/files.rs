//! Workloads on a directory: the same calls on every filesystem, nothing tuned for one of them.
//!
//! "Cold" means that the kernel's caches were dropped; what the filesystem caches itself stays, as it would for a second
//! reader. What a workload left pending is synced before the next one begins, outside of its time.
//!
//! Every loop has the same budget of time. A subject that is slow does less in it, and its rate is over what it did.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::measure::{Measure, Sheet, latency, mib_per_second, rate};
use crate::programs::Programs;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Bytes of the large file.
    pub large: u64,
    /// How many small files of 4 KiB.
    pub small: usize,
    /// Random reads of 4 KiB.
    pub random: usize,
    /// Single-row transactions, and fsyncs.
    pub commits: usize,
    /// How long one loop may take; what is done by then is what the rate is over.
    pub budget: Duration,
}

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

/// Runs every workload in `dir`; one that fails is noted with its reason and the rest goes on.
pub fn run(dir: &Path, scale: Scale, programs: &Programs<'_>, sheet: &mut Sheet) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut large = Large { path: dir.join("large"), bytes: 0, scale };
    sheet.take("seq write and fsync", || large.write())?;
    sheet.take("seq read, cold", || drop_caches().and_then(|()| large.read()))?;
    sheet.take("seq read, warm", || large.read())?;
    sheet.take("random 4 KiB read, cold", || drop_caches().and_then(|()| large.read_at_random()))?;
    let mut small = Small { dir: dir.join("small"), count: 0, scale };
    sheet.take("create 4 KiB files", || small.create())?;
    sheet.take("fsync each of them", || small.sync())?;
    sheet.take("stat, warm", || small.stat())?;
    sheet.take("stat, cold", || drop_caches().and_then(|()| small.stat()))?;
    sheet.take("list with attributes, warm", || small.list())?;
    sheet.take("list with attributes, cold", || drop_caches().and_then(|()| small.list()))?;
    sheet.take("read all, cold", || drop_caches().and_then(|()| small.read()))?;
    sheet.take("read all, warm", || small.read())?;
    sheet.take("delete", || small.delete())?;
    let mut syncs = Vec::new();
    sheet.take("fsync of 4 KiB, p50", || {
        syncs = fsyncs(&dir.join("log"), scale)?;
        Ok(latency(&mut syncs, 0.5))
    })?;
    if !syncs.is_empty() {
        sheet.add("fsync of 4 KiB, p99", Ok(latency(&mut syncs, 0.99)))?;
    }
    programs.run(dir, scale.commits, sheet)
}

/// Bytes that neither compress nor repeat, so that neither compression nor dedup makes the figure.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len / 8).flat_map(|_| xorshift(&mut x).to_le_bytes()).collect()
}

/// Writes `number` into every page, so that no two pages of what is written are alike.
pub fn stamp(bytes: &mut [u8], number: u64) {
    for page in bytes.chunks_exact_mut(PAGE) {
        if let Some(head) = page.first_chunk_mut() {
            *head = number.to_le_bytes();
        }
    }
}

fn xorshift(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

/// One large file.
struct Large {
    path: PathBuf,
    bytes: u64,
    scale: Scale,
}

impl Large {
    fn write(&mut self) -> Result<Measure> {
        let mut block = noise(BLOCK);
        let start = Instant::now();
        let mut file = File::create(&self.path)?;
        for n in 0..self.scale.large / BLOCK as u64 {
            stamp(&mut block, n);
            file.write_all(&block)?;
            self.bytes += BLOCK as u64;
            if start.elapsed() > self.scale.budget {
                break;
            }
        }
        file.sync_all()?;
        Ok(mib_per_second(self.bytes, start.elapsed()))
    }

    fn read(&self) -> Result<Measure> {
        let mut block = vec![0; BLOCK];
        let start = Instant::now();
        let mut file = File::open(&self.path)?;
        let mut total = 0;
        loop {
            match file.read(&mut block)? {
                0 => break,
                n => total += n as u64,
            }
            if start.elapsed() > self.scale.budget {
                return Ok(mib_per_second(total, start.elapsed()));
            }
        }
        ensure!(total == self.bytes, "read {total} of {} bytes", self.bytes);
        Ok(mib_per_second(total, start.elapsed()))
    }

    fn read_at_random(&self) -> Result<Measure> {
        let file = File::open(&self.path)?;
        let pages = self.bytes / PAGE as u64;
        ensure!(pages > 0, "nothing was written");
        let mut page = [0; PAGE];
        let mut x = 88_172_645_463_325_252_u64;
        self.scale.each(self.scale.random, |_| {
            Ok(file.read_exact_at(&mut page, xorshift(&mut x) % pages * PAGE as u64)?)
        })
    }
}

impl Scale {
    /// Calls `one` with 0, 1, … up to `count` times or until the budget is spent.
    fn each(&self, count: usize, mut one: impl FnMut(usize) -> Result<()>) -> Result<Measure> {
        let start = Instant::now();
        for n in 0..count {
            one(n)?;
            if start.elapsed() > self.budget {
                return Ok(rate(n + 1, start.elapsed()));
            }
        }
        Ok(rate(count, start.elapsed()))
    }
}

/// Many small files in one directory.
struct Small {
    dir: PathBuf,
    count: usize,
    scale: Scale,
}

impl Small {
    fn path(&self, n: usize) -> PathBuf {
        self.dir.join(format!("f{n:06}"))
    }

    fn create(&mut self) -> Result<Measure> {
        fs::create_dir_all(&self.dir)?;
        let mut page = noise(PAGE);
        let made = self.scale.each(self.scale.small, |n| {
            stamp(&mut page, n as u64);
            Ok(File::create(self.path(n))?.write_all(&page)?)
        })?;
        self.count = usize::try_from(made.over)?;
        Ok(made)
    }

    fn sync(&self) -> Result<Measure> {
        self.scale.each(self.count, |n| Ok(File::open(self.path(n))?.sync_all()?))
    }

    fn stat(&self) -> Result<Measure> {
        self.scale.each(self.count, |n| {
            let size = fs::metadata(self.path(n))?.size();
            ensure!(size == PAGE as u64, "file {n} has {size} bytes");
            Ok(())
        })
    }

    fn list(&self) -> Result<Measure> {
        let start = Instant::now();
        let mut seen = 0;
        for entry in fs::read_dir(&self.dir)? {
            ensure!(entry?.metadata()?.size() == PAGE as u64, "a listed file has another size");
            seen += 1;
        }
        ensure!(seen == self.count, "listed {seen} of {} files", self.count);
        Ok(rate(seen, start.elapsed()))
    }

    fn read(&self) -> Result<Measure> {
        self.scale.each(self.count, |n| {
            let bytes = fs::read(self.path(n))?;
            ensure!(bytes.len() == PAGE, "file {n} has {} bytes", bytes.len());
            Ok(())
        })
    }

    fn delete(&self) -> Result<Measure> {
        self.scale.each(self.count, |n| Ok(fs::remove_file(self.path(n))?))
    }
}

fn fsyncs(path: &Path, scale: Scale) -> Result<Vec<Duration>> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut page = noise(PAGE);
    let mut took: Vec<Duration> = Vec::with_capacity(scale.commits);
    scale.each(scale.commits, |n| {
        stamp(&mut page, n as u64);
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        took.push(start.elapsed());
        Ok(())
    })?;
    Ok(took)
}

/// Empties the kernel's caches; needs root.
fn drop_caches() -> Result<()> {
    let synced = std::process::Command::new("sync").status().context("cannot run sync")?;
    ensure!(synced.success(), "sync failed: {synced}");
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the kernel's caches: run as root")
}
