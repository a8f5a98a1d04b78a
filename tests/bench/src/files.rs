//! Workloads on a directory: the same calls on every filesystem, nothing tuned for one of them.
//!
//! Every workload leaves nothing pending that would be charged to the next one: it ends with an fsync or a syncfs where
//! the filesystem would otherwise go on in the background. "Cold" means that the kernel's caches were dropped; what the
//! filesystem caches itself stays, as it would for a second reader.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::measure::{Measure, Sheet, per_second, percentile};

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
}

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

/// Runs every workload in `dir`; one that fails is noted with its reason and the rest goes on.
pub fn run(dir: &Path, scale: Scale, tarball: &Path, repository: &Path, sheet: &mut Sheet) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let large = dir.join("large");
    let small = dir.join("small");
    sheet.take("seq write", || seq_write(&large, scale.large));
    sheet.take("seq read, cold", || drop_caches().and_then(|()| seq_read(&large, scale.large)));
    sheet.take("seq read, warm", || seq_read(&large, scale.large));
    sheet.take("random 4 KiB read, cold", || drop_caches().and_then(|()| random_read(&large, scale)));
    sheet.take("create 4 KiB files", || create(&small, scale.small));
    sheet.take("stat", || stat(&small, scale.small));
    sheet.take("list with attributes", || list(&small, scale.small));
    sheet.take("read all, cold", || drop_caches().and_then(|()| read_all(&small, scale.small)));
    sheet.take("read all, warm", || read_all(&small, scale.small));
    sheet.take("delete", || delete(&small, scale.small));
    sheet.take("fsync of 4 KiB, p50", || fsyncs(&dir.join("log"), scale.commits));
    sheet.take("untar", || {
        timed(|| shell(Command::new("tar").arg("-xf").arg(tarball).arg("-C").arg(fresh(dir, "tar")?)))
    });
    sheet.take("git clone", || {
        timed(|| {
            shell(
                Command::new("git")
                    .args(["clone", "-q", "--no-hardlinks"])
                    .arg(repository)
                    .arg(dir.join("clone")),
            )
        })
    });
    sheet.take("git status", || {
        timed(|| shell(Command::new("git").arg("-C").arg(dir.join("clone")).args(["status", "--short"])))
    });
    sheet.take("SQLite transactions, rollback journal", || {
        sqlite(&dir.join("delete.db"), "delete", scale.commits)
    });
    sheet.take("SQLite transactions, WAL", || sqlite(&dir.join("wal.db"), "wal", scale.commits));
    Ok(())
}

/// Bytes that neither compress nor repeat, so that neither compression nor dedup makes the figure.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len / 8)
        .flat_map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()
        })
        .collect()
}

fn pattern() -> Vec<u8> {
    noise(BLOCK)
}

fn seq_write(path: &Path, bytes: u64) -> Result<Measure> {
    let mut block = pattern();
    let start = Instant::now();
    let mut file = File::create(path)?;
    for n in 0..bytes / BLOCK as u64 {
        for page in block.chunks_exact_mut(PAGE) {
            page[..8].copy_from_slice(&n.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(per_second("MiB/s", bytes as f64 / f64::from(1 << 20), start.elapsed()))
}

fn seq_read(path: &Path, bytes: u64) -> Result<Measure> {
    let mut block = vec![0; BLOCK];
    let start = Instant::now();
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => total += n as u64,
        }
    }
    ensure!(total == bytes, "read {total} of {bytes} bytes");
    Ok(per_second("MiB/s", bytes as f64 / f64::from(1 << 20), start.elapsed()))
}

fn random_read(path: &Path, scale: Scale) -> Result<Measure> {
    let file = File::open(path)?;
    let pages = scale.large / PAGE as u64;
    let mut page = [0; PAGE];
    let mut x = 88_172_645_463_325_252_u64;
    let start = Instant::now();
    for _ in 0..scale.random {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        file.read_exact_at(&mut page, x % pages * PAGE as u64)?;
    }
    Ok(per_second("/s", scale.random as f64, start.elapsed()))
}

fn create(dir: &Path, count: usize) -> Result<Measure> {
    fs::create_dir_all(dir)?;
    let block = pattern();
    let start = Instant::now();
    for n in 0..count {
        let from = (n * PAGE) % (BLOCK - PAGE);
        File::create(dir.join(format!("f{n:06}")))?.write_all(&block[from..from + PAGE])?;
    }
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn stat(dir: &Path, count: usize) -> Result<Measure> {
    let start = Instant::now();
    for n in 0..count {
        let size = fs::metadata(dir.join(format!("f{n:06}")))?.size();
        ensure!(size == PAGE as u64, "file {n} has {size} bytes");
    }
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn list(dir: &Path, count: usize) -> Result<Measure> {
    let start = Instant::now();
    let mut seen = 0;
    for entry in fs::read_dir(dir)? {
        ensure!(entry?.metadata()?.size() == PAGE as u64, "a listed file has another size");
        seen += 1;
    }
    ensure!(seen == count, "listed {seen} of {count} files");
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn read_all(dir: &Path, count: usize) -> Result<Measure> {
    let start = Instant::now();
    for n in 0..count {
        let bytes = fs::read(dir.join(format!("f{n:06}")))?;
        ensure!(bytes.len() == PAGE, "file {n} has {} bytes", bytes.len());
    }
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn delete(dir: &Path, count: usize) -> Result<Measure> {
    let start = Instant::now();
    for n in 0..count {
        fs::remove_file(dir.join(format!("f{n:06}")))?;
    }
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn fsyncs(path: &Path, count: usize) -> Result<Measure> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let page = &pattern()[..PAGE];
    let mut took: Vec<Duration> = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(page)?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    Ok(Measure { unit: "us", value: percentile(&mut took, 0.5).as_secs_f64() * 1e6, more_is_better: false })
}

fn sqlite(path: &Path, journal: &str, count: usize) -> Result<Measure> {
    let mut script = format!(
        "PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER, b TEXT);\n"
    );
    for n in 0..count {
        script.push_str(&format!("INSERT INTO t VALUES({n}, hex(randomblob(50)));\n"));
    }
    script.push_str("PRAGMA integrity_check; SELECT count(*) FROM t;\n");
    let start = Instant::now();
    let mut child = Command::new("sqlite3")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sqlite3")?;
    child.stdin.take().context("no stdin")?.write_all(script.as_bytes())?;
    let out = String::from_utf8(child.wait_with_output()?.stdout)?;
    ensure!(out.ends_with(&format!("ok\n{count}\n")), "the database is not right: {out}");
    Ok(per_second("/s", count as f64, start.elapsed()))
}

fn timed(f: impl FnOnce() -> Result<()>) -> Result<Measure> {
    let start = Instant::now();
    f()?;
    Ok(Measure { unit: "s", value: start.elapsed().as_secs_f64(), more_is_better: false })
}

fn fresh(dir: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = dir.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn shell(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Empties the kernel's caches; needs root.
fn drop_caches() -> Result<()> {
    shell(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the kernel's caches: run as root")
}
