//! `mooring-bench`: the same workload on several subjects, ratios in one run.
//!
//! It knows nothing of what is mounted or served where: `cargo xtask bench` starts the programs and names them, so that
//! every subject meets the same calls.

mod files;
mod measure;
mod s3;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser};

use measure::{Sheet, table};

/// The same workload on several subjects; ratios of the first to the others
#[derive(Debug, Parser)]
enum Bench {
    /// Directories: NAME=DIRECTORY, ours first
    Files(FileArgs),
    /// S3 endpoints: NAME=URL, ours first; the disk is measured beside them
    S3(S3Args),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// NAME=DIRECTORY, ours first
    #[arg(required = true)]
    subjects: Vec<String>,
    /// A tar file for `untar`
    #[arg(long)]
    tarball: PathBuf,
    /// A git repository for `git clone`
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
    /// Also write all figures as JSON here
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct S3Args {
    /// NAME=URL, ours first
    #[arg(required = true)]
    subjects: Vec<String>,
    /// A directory on the disk under the store: the limit
    #[arg(long)]
    disk: PathBuf,
    /// An existing, empty bucket
    #[arg(long)]
    bucket: String,
    /// Access key id
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Its secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    /// Objects of 64 MiB per client count
    #[arg(long, default_value_t = 16)]
    large: usize,
    /// Objects of 4 KiB per client count
    #[arg(long, default_value_t = 2000)]
    small: usize,
    /// Keys to list
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Also write all figures as JSON here
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Files(args) => files(args),
        Bench::S3(args) => objects(args),
    }
}

fn split(subject: &str) -> Result<(&str, &str)> {
    subject.split_once('=').with_context(|| format!("`{subject}` is not NAME=WHERE"))
}

fn files(args: FileArgs) -> Result<()> {
    let scale = files::Scale {
        large: args.large_mib << 20,
        small: args.small,
        random: args.random,
        commits: args.commits,
    };
    let mut sheets = Vec::new();
    for subject in &args.subjects {
        let (name, dir) = split(subject)?;
        let mut sheet = Sheet::new(name);
        let dir = PathBuf::from(dir).join("bench");
        files::run(&dir, scale, &args.tarball, &args.repository, &mut sheet)?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clean up {}", dir.display()))?;
        sheets.push(sheet);
    }
    report(&sheets, args.json.as_deref())
}

fn objects(args: S3Args) -> Result<()> {
    let scale = s3::Scale { large: args.large, small: args.small, keys: args.keys };
    let mut sheets = Vec::new();
    for subject in &args.subjects {
        let (name, url) = split(subject)?;
        let mut sheet = Sheet::new(name);
        let endpoint = s3::Endpoint {
            url: url.to_owned(),
            key: args.access_key.clone(),
            secret: args.secret_key.clone(),
            bucket: args.bucket.clone(),
        };
        s3::run(&endpoint, scale, &mut sheet)?;
        sheets.push(sheet);
    }
    let mut sheet = Sheet::new("disk");
    s3::disk(&args.disk, scale, &mut sheet)?;
    sheets.push(sheet);
    report(&sheets, args.json.as_deref())
}

fn report(sheets: &[Sheet], json: Option<&Path>) -> Result<()> {
    println!("{}", table(sheets));
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_vec_pretty(sheets)?)?;
    }
    Ok(())
}
