//! acme's VM is killed while programs write. What had been promised is there in the VM that takes its place.
//!
//! The guest says over its command port what it has done, so the host knows a write has returned when it reads the
//! line. What must be kept is told from two looks at those lines: everything fsynced that was read by the end, and
//! everything written that was read more than a second before the plug was pulled.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Teller;
use super::cast::{Cast, LONG, MOUNT, python};
use super::data::{self, Things};
use crate::guest::Running;
use crate::wait::{self, Look};

const PATTERN: &str = include_str!("guest/pattern.py");
const WRITER: &str = include_str!("guest/writer.py");
const CHECK: &str = include_str!("guest/check.py");

/// Older than this, a write is kept without an fsync.
const KEPT_AFTER: f64 = 1.0;

/// What must be there.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Promised {
    /// Files fsynced.
    synced: usize,
    /// Files written more than a second before.
    written: usize,
    /// Blocks appended more than a second before.
    block: usize,
    /// Transactions of SQLite, which fsyncs each.
    row: usize,
    /// git's last commit more than a second before: git fsyncs objects, and leaves the branch's own file to us.
    commit: String,
    /// The commit the clone began with.
    head: String,
}

#[derive(Debug, Deserialize)]
struct Report {
    wrong: Vec<String>,
    found: Found,
}

#[derive(Debug, Deserialize)]
struct Found {
    synced: usize,
    written: usize,
    block: usize,
    row: usize,
    commit: usize,
}

/// Lets programs write, kills the VM, and puts a new one in its place.
pub async fn kill(cast: &mut Cast, things: &Things, teller: &mut Teller) -> Result<Promised> {
    let writer = teller.step("files, appends, SQLite and git write side by side", begin(cast)).await?;
    let killed = "acme's VM is killed (SIGKILL for QEMU and its vsock)";
    let promised = teller.step(killed, pull(cast, &writer, &things.head)).await?;
    drop(writer);
    teller
        .step("a new VM boots on the same channel and mounts", async {
            cast.replace_acme().await?;
            let boot = cast.acme()?.boot_time().as_secs_f64();
            Ok(((), format!("up {boot:.1} s after power-on, then mounted; its own root is empty again")))
        })
        .await?;
    Ok(promised)
}

/// Everything promised is there, in the load and in what acme had before.
pub async fn check(cast: &Cast, promised: &Promised, things: &Things, teller: &mut Teller) -> Result<()> {
    teller.step("everything fsynced, and everything older than 1 s, is intact", load(cast, promised)).await?;
    let before = async {
        let acme = cast.acme()?;
        let big = acme_sha256(cast, "big.bin").await?;
        ensure!(big == things.big, "big.bin: {big} instead of {}", things.big);
        let dump = data::check_database(acme).await?;
        ensure!(dump == things.dump, "notes.db says other things than before");
        Ok(((), "big.bin by hash, notes.db by integrity_check and by what it says".to_owned()))
    };
    teller.step("and so is all that was there before", before).await
}

/// SHA-256 of a file in acme's mount; with time for a large one.
pub async fn acme_sha256(cast: &Cast, name: &str) -> Result<String> {
    let said = cast.acme()?.run_within(&format!("sha256sum < {MOUNT}/{name}"), LONG).await?.ok()?.text()?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

async fn begin(cast: &Cast) -> Result<(Running, String)> {
    let acme = cast.acme()?;
    acme.put("/tmp/writer.py", format!("{PATTERN}\n{WRITER}").as_bytes()).await?;
    let writer = acme.spawn(&format!("exec python3 /tmp/writer.py {MOUNT}")).await?;
    writer.close_stdin()?;
    let enough = |said: &Promised| {
        said.synced >= 20
            && said.written >= 20
            && said.block >= 20
            && said.row >= 10
            && !said.commit.is_empty()
    };
    wait::until("all five to write", LONG, || async {
        if writer.has_ended() {
            return Look::Ready(Err(anyhow::anyhow!("the writer ended early")));
        }
        let said = said(&writer);
        if enough(&said) { Look::Ready(Ok(())) } else { Look::NotYet(format!("{said:?}")) }
    })
    .await??;
    let so_far = said(&writer);
    let Promised { synced, written, block, row, .. } = so_far;
    Ok((
        writer,
        format!(
            "so far {synced} files fsynced, {written} not, {block} blocks, {row} transactions, and commits"
        ),
    ))
}

async fn pull(cast: &mut Cast, writer: &Running, head: &str) -> Result<(Promised, String)> {
    let older = said(writer);
    data::pass(KEPT_AFTER + 0.1).await?;
    ensure!(!writer.has_ended(), "the writer ended before the VM was killed");
    cast.kill_acme().await?;
    let all = said(writer);
    ensure!(all.block > older.block || all.written > older.written, "nothing was being written");
    let promised = Promised { synced: all.synced, row: all.row, head: head.to_owned(), ..older };
    let said = format!(
        "promised: {} files and {} transactions fsynced; {} files, {} blocks and a commit older than 1 s",
        promised.synced, promised.row, promised.written, promised.block
    );
    Ok((promised, said))
}

/// What the writer has said it has done.
fn said(writer: &Running) -> Promised {
    let said = writer.stdout();
    // The last line may still be on its way.
    let whole = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let said = String::from_utf8_lossy(said.get(..whole).unwrap_or_default()).into_owned();
    let mut done = Promised::default();
    for (kind, which) in said.lines().filter_map(|line| line.split_once(' ')) {
        let next = which.parse::<usize>().map_or(0, |number| number + 1);
        match kind {
            "synced" => done.synced = next,
            "written" => done.written = next,
            "block" => done.block = next,
            "row" => done.row = next,
            "commit" => which.clone_into(&mut done.commit),
            _ => {}
        }
    }
    done
}

async fn load(cast: &Cast, promised: &Promised) -> Result<((), String)> {
    let promise = serde_json::to_vec(promised)?;
    let output = python(cast.acme()?, &format!("{PATTERN}\n{CHECK}"), MOUNT, &promise).await?.ok()?;
    let report: Report = serde_json::from_slice(&output.stdout).context("the report")?;
    ensure!(report.wrong.is_empty(), "{} things wrong: {}", report.wrong.len(), report.wrong.join("; "));
    let Found { synced, written, block, row, commit } = report.found;
    let said = format!(
        "found {synced} + {written} files, {block} blocks, {row} transactions, {commit} commits; \
         git fsck and integrity_check find nothing"
    );
    Ok(((), said))
}
