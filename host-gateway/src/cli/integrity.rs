//! `bucket check|scrub|damage|rebuild`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use mooring_cli::client::escape;
use mooring_cli::output::{Form, table};
use mooring_cli::{Api, ApiError};
use mooring_policy::ids::{BucketName, TenantId};
use mooring_protocol::api::{CheckReport, CheckStart, Damage, Job, Rebuilt, ScrubReport, ScrubStart};
use serde::de::DeserializeOwned;

use crate::offline::Offline;
use crate::settings::Settings;

/// Which bucket.
#[derive(Args, Debug)]
pub struct Which {
    /// Whose
    #[arg(long, value_name = "TENANT")]
    pub tenant: TenantId,
    /// Which
    pub name: BucketName,
}

/// What to check, and how.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 all agrees, 1 something does not, 2 wrong usage, 3 not allowed.")]
pub struct CheckArgs {
    #[command(flatten)]
    which: Which,
    /// Also read every byte and hold it against its hash
    #[arg(long)]
    data: bool,
    /// Mend what is safe to mend: totals, and rows that nothing can reach. Never what a file holds
    #[arg(long, requires = "offline")]
    repair: bool,
    #[command(flatten)]
    offline: OfflineArgs,
}

/// Work on the data itself, with the gateway stopped.
#[derive(Args, Debug)]
pub struct OfflineArgs {
    /// Work on the data folder itself; the gateway must be stopped
    #[arg(long)]
    pub offline: bool,
    /// Where the data is, with --offline [default: as the configuration says]
    #[arg(long, env = "MOORING_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Checks a bucket.
pub async fn check(api: &Api, settings: &Settings, form: Form, args: CheckArgs) -> Result<(), ApiError> {
    let CheckArgs { which: Which { tenant, name }, data, repair, offline } = args;
    let report = if offline.offline {
        let open = Offline::open(settings, offline.data_dir, &tenant, &name).await?;
        let (done, total) = (|| open.progress.bytes().0, || open.progress.bytes().1);
        watch(open.check(data, repair), || (done(), total())).await?
    } else {
        let api = api.clone().for_tenant(Some(tenant.to_string()));
        let path = format!("/v1/buckets/{}/check", escape(name.as_str()));
        let begun: Job<CheckReport> = api.post(&path, &CheckStart { data }).await?;
        follow(&api, &path, begun).await?
    };
    form.print(&report, text)?;
    if report.total == 0 {
        return Ok(());
    }
    Err(ApiError::Local(format!("{} of {tenant}: {} findings", name, report.total)))
}

fn text(report: &CheckReport) -> String {
    let mut text = format!(
        "{} inodes ({} without a name), {} extents in {} packs, {} bytes read",
        report.inodes, report.orphans, report.extents, report.packs, report.bytes_read
    );
    if report.mended > 0 {
        text += &format!("; {} findings mended", report.mended);
    }
    if report.total == 0 {
        return text + "\neverything agrees";
    }
    let rows = report.findings.iter().map(|f| [f.kind.clone(), f.what.clone(), f.paths.join(", ")]);
    text = format!("{text}\n\n{}", table(["part", "finding", "files"], rows));
    if report.repairable > 0 {
        text += "\n\nwhat is counted wrong can be mended: stop the gateway, then check --offline --repair";
    }
    text
}

/// Scrubs a bucket now.
#[derive(Args, Debug)]
pub struct ScrubArgs {
    #[command(flatten)]
    which: Which,
    /// Read at most so many MiB in a second [default: as fast as it goes]
    #[arg(long, value_name = "MIB")]
    rate: Option<u64>,
}

/// Scrubs a bucket.
pub async fn scrub(api: &Api, form: Form, args: ScrubArgs) -> Result<(), ApiError> {
    let ScrubArgs { which: Which { tenant, name }, rate } = args;
    let api = api.clone().for_tenant(Some(tenant.to_string()));
    let path = format!("/v1/buckets/{}/scrub", escape(name.as_str()));
    let rate = rate.map(|mib| mib.saturating_mul(1 << 20));
    let begun: Job<ScrubReport> = api.post(&path, &ScrubStart { rate }).await?;
    let report = follow(&api, &path, begun).await?;
    form.print(&report, |r| {
        format!("{} packs, {} extents, {} bytes read; {} damaged", r.packs, r.extents, r.bytes, r.damaged)
    })?;
    if report.damaged == 0 {
        return Ok(());
    }
    let next = format!("mooring-gateway bucket damage --tenant {tenant} {name}");
    Err(ApiError::Local(format!("{} damaged extents; see: {next}", report.damaged)))
}

/// Which bucket, and where.
#[derive(Args, Debug)]
pub struct RebuildArgs {
    #[command(flatten)]
    which: Which,
    /// Where the data is [default: as the configuration says]
    #[arg(long, env = "MOORING_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Puts a bucket together again.
pub async fn rebuild(settings: &Settings, form: Form, args: RebuildArgs) -> Result<(), ApiError> {
    let RebuildArgs { which: Which { tenant, name }, data_dir } = args;
    let done = Offline::open(settings, data_dir, &tenant, &name).await?.rebuild().await?;
    form.print(&done, rebuilt)?;
    if done.findings == 0 {
        return Ok(());
    }
    let next = format!("mooring-gateway bucket check --tenant {tenant} {name} --offline");
    Err(ApiError::Local(format!("{} findings remain; see: {next}", done.findings)))
}

fn rebuilt(done: &Rebuilt) -> String {
    let mut text = match &done.checkpoint {
        Some(taken) => format!("began with the checkpoint of {taken}, {} rows", done.rows),
        None => "there was no checkpoint that opens".to_owned(),
    };
    text.extend(done.unreadable.iter().map(|why| format!("\n  {why}")));
    if done.journal {
        text += "\nthe journal goes on from there: nothing is missing";
    } else {
        text += "\nthe journal does not go on from there: what came later is in packs only";
    }
    text.extend(done.journal_error.iter().map(|why| format!("\n  {why}")));
    text += &format!(
        "\n{} files got newer bytes, {} are in lost+found/, {} extents are gone",
        done.extended, done.found, done.lost
    );
    text + &format!("\nthe metadata of before is kept in {}; remove it when you are content", done.aside)
}

/// Lists what is damaged.
pub async fn damage(api: &Api, form: Form, which: Which) -> Result<(), ApiError> {
    let api = api.clone().for_tenant(Some(which.tenant.to_string()));
    let found: Vec<Damage> = api.get(&format!("/v1/buckets/{}/damage", escape(which.name.as_str()))).await?;
    form.print(&found, |all| damage_table(all))
}

/// Damaged extents as a table.
pub fn damage_table(all: &[Damage]) -> String {
    table(
        ["bucket", "files", "pack", "offset", "bytes", "since", "why"],
        all.iter().map(|d| {
            [
                format!("{}/{}", d.owner, d.bucket),
                d.paths.join(", "),
                d.pack.clone(),
                d.offset.to_string(),
                d.bytes.to_string(),
                d.since.clone(),
                d.detail.clone(),
            ]
        }),
    )
}

/// Waits for a job's end; shows how far it is where somebody watches.
async fn follow<T: DeserializeOwned>(api: &Api, path: &str, mut job: Job<T>) -> Result<T, ApiError> {
    while job.running {
        bar(job.done, job.total);
        job = api.get(path).await?;
    }
    clear();
    match (job.report, job.error) {
        (Some(report), _) => Ok(report),
        (None, error) => {
            Err(ApiError::Local(error.unwrap_or_else(|| "it ended without a report".to_owned())))
        }
    }
}

/// Waits for work here, and shows how far it is.
async fn watch<T>(work: impl Future<Output = T>, progress: impl Fn() -> (u64, u64)) -> T {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    loop {
        tokio::select! {
            done = &mut work => {
                clear();
                return done;
            }
            _ = tick.tick() => {
                let (done, total) = progress();
                bar(done, total);
            }
        }
    }
}

const WIDTH: u64 = 40;

fn bar(done: u64, total: u64) {
    let mut out = std::io::stderr();
    if !out.is_terminal() {
        return;
    }
    let part = (done.min(total) * WIDTH).checked_div(total).unwrap_or(0);
    let (full, empty) = ("#".repeat(part as usize), ".".repeat((WIDTH - part) as usize));
    // A terminal that went away shows nothing.
    let _shown = write!(out, "\r[{full}{empty}] {} of {} MiB", done >> 20, total >> 20);
}

fn clear() {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _shown = write!(out, "\r\x1b[2K");
    }
}
