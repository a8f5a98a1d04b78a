//! `mooring-bench`: the same workload on several subjects, ratios in one run.
//!
//! It knows nothing of what is mounted or served where: `cargo xtask bench` starts the programs and names them, so that
//! every subject meets the same calls. One process measures one subject and keeps its figures in a file; `table` sets
//! them side by side.

mod files;
mod link;
mod measure;
mod programs;
#[cfg(feature = "s3")]
mod s3;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser};

use measure::Sheet;

/// The same workload on several subjects; ratios of the first to the others
#[derive(Debug, Parser)]
enum Bench {
    /// Measure a directory
    Files(FileArgs),
    /// Measure an S3 endpoint
    #[cfg(feature = "s3")]
    S3(S3Args),
    /// Measure what an S3 endpoint does on the disk under it: its limit
    #[cfg(feature = "s3")]
    S3Disk(S3DiskArgs),
    /// Measure a bare channel to `serve`: the limit of what is remote
    Link(LinkArgs),
    /// The other end of `link`; serves until it is killed
    Serve {
        /// The unix socket to listen on
        #[arg(long)]
        socket: PathBuf,
    },
    /// Set sheets side by side, ours first
    Table {
        /// Files that the other commands saved
        #[arg(required = true)]
        sheets: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Whom to measure and where to keep the figures.
#[derive(Debug, Args)]
struct Subject {
    /// NAME=WHERE
    subject: String,
    /// Keep the figures in this file, at every step
    #[arg(long)]
    save: Option<PathBuf>,
}

impl Subject {
    fn open(&self) -> Result<(Sheet, &str)> {
        let split = self.subject.split_once('=');
        let (name, place) = split.with_context(|| format!("`{}` is not NAME=WHERE", self.subject))?;
        Ok((Sheet::new(name, self.save.as_deref()), place))
    }
}

#[derive(Debug, Args)]
struct FileArgs {
    #[command(flatten)]
    subject: Subject,
    /// A tar file for `untar`
    #[arg(long)]
    tarball: PathBuf,
    /// A git repository or bundle for `git clone`
    #[arg(long)]
    repository: PathBuf,
    /// MiB of the large file
    #[arg(long, default_value_t = 1024)]
    large_mib: u64,
    /// How many small files
    #[arg(long, default_value_t = 5000)]
    small: usize,
    /// Random reads
    #[arg(long, default_value_t = 5000)]
    random: usize,
    /// Transactions and fsyncs
    #[arg(long, default_value_t = 300)]
    commits: usize,
    /// Seconds one loop may take; a slow subject does less of it
    #[arg(long, default_value_t = 30)]
    budget: u64,
    /// Seconds one program may take
    #[arg(long, default_value_t = 60)]
    limit: u64,
}

#[cfg(feature = "s3")]
#[derive(Debug, Args)]
struct S3Scale {
    /// Objects of 64 MiB per client count
    #[arg(long, default_value_t = 16)]
    large: usize,
    /// Objects of 4 KiB per client count
    #[arg(long, default_value_t = 2000)]
    small: usize,
    /// Keys to list
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
}

#[cfg(feature = "s3")]
impl S3Scale {
    fn scale(&self) -> s3::Scale {
        s3::Scale { large: self.large, small: self.small, keys: self.keys }
    }
}

#[cfg(feature = "s3")]
#[derive(Debug, Args)]
struct S3Args {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    scale: S3Scale,
    /// An existing, empty bucket
    #[arg(long)]
    bucket: String,
    /// Access key id
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Its secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
}

#[cfg(feature = "s3")]
#[derive(Debug, Args)]
struct S3DiskArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    scale: S3Scale,
}

#[derive(Debug, Args)]
struct LinkArgs {
    /// WHERE is `unix:PATH`, or `vsock:PORT` of the host
    #[command(flatten)]
    subject: Subject,
    /// MiB each way
    #[arg(long, default_value_t = 1024)]
    large_mib: u64,
    /// Small requests
    #[arg(long, default_value_t = 5000)]
    requests: usize,
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Files(args) => files(&args),
        #[cfg(feature = "s3")]
        Bench::S3(args) => {
            let (mut sheet, url) = args.subject.open()?;
            let endpoint = s3::Endpoint {
                url: url.to_owned(),
                key: args.access_key,
                secret: args.secret_key,
                bucket: args.bucket,
            };
            s3::run(&endpoint, args.scale.scale(), &mut sheet)
        }
        #[cfg(feature = "s3")]
        Bench::S3Disk(args) => {
            let (mut sheet, dir) = args.subject.open()?;
            s3::disk(&PathBuf::from(dir), args.scale.scale(), &mut sheet)
        }
        Bench::Link(args) => {
            let (mut sheet, address) = args.subject.open()?;
            link::run(address, args.large_mib << 20, args.requests, &mut sheet)
        }
        Bench::Serve { socket } => link::serve(&socket),
        Bench::Table { sheets, json } => {
            let sheets = sheets.iter().map(|path| Sheet::read(path)).collect::<Result<Vec<_>>>()?;
            let text = if json { serde_json::to_string_pretty(&sheets)? } else { table::table(&sheets) };
            println!("{text}");
            Ok(())
        }
    }
}

fn files(args: &FileArgs) -> Result<()> {
    let (mut sheet, dir) = args.subject.open()?;
    let scale = files::Scale {
        large: args.large_mib << 20,
        small: args.small,
        random: args.random,
        commits: args.commits,
        budget: Duration::from_secs(args.budget),
    };
    let limit = Duration::from_secs(args.limit);
    let programs = programs::Programs { tarball: &args.tarball, repository: &args.repository, limit };
    files::run(&PathBuf::from(dir).join("bench"), scale, &programs, &mut sheet)
}
