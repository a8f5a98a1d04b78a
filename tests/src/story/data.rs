//! acme's data: a git repository, a large file, a database.

use anyhow::{Context, Result, ensure};

use super::cast::{BUCKET, Cast, LONG, MOUNT, python};
use super::{Scale, Teller, repository};
use crate::Vm;
use crate::wait::{self, Look};

/// What acme has, by hash.
#[derive(Debug, Clone)]
pub struct Things {
    /// The repository's commit.
    pub head: String,
    /// All files of the clone, `.git` included: see [`tree_digest`].
    pub tree: String,
    /// The files' number.
    pub files: usize,
    /// SHA-256 of the large file.
    pub big: String,
    /// SHA-256 of the database file.
    pub database: String,
    /// SHA-256 of all its statements.
    pub dump: String,
}

/// Writes a file of random bytes in pieces of 1 MiB, fsyncs it, and prints the SHA-256 of what it handed over.
const BIG: &str = "\
import hashlib, os, sys
left, digest = int(sys.argv[2]), hashlib.sha256()
with open(sys.argv[1], 'wb', buffering=0) as file:
    while left:
        piece = os.urandom(min(left, 1 << 20))
        file.write(piece)
        digest.update(piece)
        left -= len(piece)
    os.fsync(file.fileno())
print(digest.hexdigest())
";

/// Objects whose bytes are compared one by one.
pub const OBJECTS: [&str; 3] = ["mooring.bundle", "big.bin", "notes.db"];

/// Fills acme's bucket.
pub async fn fill(cast: &Cast, scale: Scale, teller: &mut Teller) -> Result<Things> {
    let acme = cast.acme()?;
    let (head, (tree, files)) =
        teller.step("acme clones this repository into its mount", clone(cast)).await?;
    let what = format!("acme writes a file of {} MiB and fsyncs it", scale.big_mib);
    let big = teller.step(&what, write_big(acme, scale)).await?;
    let (database, dump) = teller.step("acme fills a SQLite database", fill_database(acme, scale)).await?;
    Ok(Things { head, tree, files, big, database, dump })
}

/// The repository comes as a bundle by S3 from the host; the clone reads it in the mount and writes there.
async fn clone(cast: &Cast) -> Result<((String, (String, usize)), String)> {
    let dir = tempfile::tempdir().context("creating a temporary folder")?;
    let (bundle, head) = repository::bundle(dir.path())?;
    cast.host.upload(&bundle, BUCKET, "mooring.bundle").await?;
    let acme = cast.acme()?;
    let clone = format!("cd {MOUNT} && git clone -q mooring.bundle mooring && cd mooring");
    acme.run_within(&clone, LONG).await?.ok()?;
    check_clone(acme, &head).await?;
    let (tree, files) = tree_digest(acme).await?;
    let short = head.get(..12).unwrap_or(&head);
    Ok(((head.clone(), (tree, files)), format!("{files} files with git's own, commit {short}, clean")))
}

/// The clone is at `head`, has no difference to it, and git finds nothing wrong.
pub async fn check_clone(acme: &Vm, head: &str) -> Result<()> {
    let look = format!(
        "cd {MOUNT}/mooring && git fsck --full --strict && git rev-parse HEAD && git status --porcelain"
    );
    let said = acme.run_within(&look, LONG).await?.ok()?.text()?;
    ensure!(said == head, "expected {head} without differences: {said}");
    Ok(())
}

/// One SHA-256 over `<hash>  <path>` of every file of the clone in the order of their paths, and their number. S3 lists
/// keys in the same order.
pub async fn tree_digest(acme: &Vm) -> Result<(String, usize)> {
    let digest = format!(
        "set -e; cd {MOUNT}; find mooring -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > /tmp/files; \
         sha256sum < /tmp/files; wc -l < /tmp/files"
    );
    let said = acme.run_within(&digest, LONG).await?.ok()?.text()?;
    let (first, count) = said.split_once('\n').context("two lines")?;
    Ok((first.split(' ').next().unwrap_or_default().to_owned(), count.trim().parse()?))
}

/// Random bytes, so that neither compression nor deduplication makes it easier. The hash is taken of what was handed
/// to the file, not of what it says afterwards.
async fn write_big(acme: &Vm, scale: Scale) -> Result<(String, String)> {
    let bytes = scale.big_bytes();
    let big = python(acme, BIG, &format!("{MOUNT}/big.bin {bytes}"), b"").await?.ok()?.text()?;
    let size = acme.run(&format!("stat -c %s {MOUNT}/big.bin")).await?.ok()?.text()?;
    ensure!(size == bytes.to_string(), "{size} bytes of {bytes}");
    Ok((big.clone(), format!("sha256 {}", short(&big))))
}

async fn fill_database(acme: &Vm, scale: Scale) -> Result<((String, String), String)> {
    let mut sql = "CREATE TABLE notes(id INTEGER PRIMARY KEY, name TEXT UNIQUE, body TEXT);\n".to_owned();
    for number in 0..scale.transactions {
        let (first, rows) = (number * scale.rows + 1, scale.rows);
        sql.push_str(&format!(
            "BEGIN; WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n LIMIT {rows}) \
             INSERT INTO notes SELECT i, 'note ' || i, hex(randomblob(60)) FROM n; COMMIT;\n"
        ));
    }
    acme.put("/tmp/fill.sql", sql.as_bytes()).await?;
    acme.run_within(&format!("sqlite3 -bail {MOUNT}/notes.db < /tmp/fill.sql"), LONG).await?.ok()?;
    let rows =
        acme.run(&format!("sqlite3 {MOUNT}/notes.db 'SELECT count(*) FROM notes'")).await?.ok()?.text()?;
    ensure!(rows == (scale.transactions * scale.rows).to_string(), "{rows} rows");
    let (file, dump) = (acme.sha256(&format!("{MOUNT}/notes.db")).await?, check_database(acme).await?);
    let said = format!(
        "{rows} rows in {} transactions, integrity_check ok, sha256 {}",
        scale.transactions,
        short(&file)
    );
    Ok(((file, dump), said))
}

/// The database is whole; SHA-256 of its statements.
pub async fn check_database(acme: &Vm) -> Result<String> {
    let look = format!(
        "sqlite3 {MOUNT}/notes.db 'PRAGMA integrity_check' && sqlite3 {MOUNT}/notes.db .dump | sha256sum"
    );
    let said = acme.run_within(&look, LONG).await?.ok()?.text()?;
    let (check, dump) = said.split_once('\n').context("two lines")?;
    ensure!(check == "ok", "integrity_check: {said}");
    Ok(dump.split(' ').next().unwrap_or_default().to_owned())
}

/// Waits until `seconds` have passed since now: for promises that are about time.
pub async fn pass(seconds: f64) -> Result<()> {
    let began = std::time::Instant::now();
    let limit = std::time::Duration::from_secs_f64(seconds);
    wait::until("time to pass", limit * 2, || async {
        Look::if_true(began.elapsed() >= limit, format!("{:.2} s", began.elapsed().as_secs_f64()))
    })
    .await
}

/// Enough of a hash to compare by eye.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}
