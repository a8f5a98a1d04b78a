//! `mooring-bench`: the same workload on several directories, ratios in one run.
//!
//! It knows nothing of what is mounted where: `cargo xtask bench` starts the programs and names the directories, so
//! that every subject meets the same calls.

mod files;
mod measure;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use files::Scale;
use measure::{Sheet, table};

/// The same workload on several directories; ratios of the first to the others
#[derive(Debug, Parser)]
struct Args {
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

fn main() -> Result<()> {
    let args = Args::parse();
    let scale =
        Scale { large: args.large_mib << 20, small: args.small, random: args.random, commits: args.commits };
    let mut sheets = Vec::new();
    for subject in &args.subjects {
        let (name, dir) = subject.split_once('=').context("subjects are NAME=DIRECTORY")?;
        let mut sheet = Sheet::new(name);
        let dir = PathBuf::from(dir).join("bench");
        files::run(&dir, scale, &args.tarball, &args.repository, &mut sheet)?;
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clean up {}", dir.display()))?;
        sheets.push(sheet);
    }
    println!("{}", table(&sheets));
    if let Some(path) = args.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&sheets)?)?;
    }
    Ok(())
}
