//! What others have written down about file systems: pjdfstest (POSIX, call by call) and fsx (random reads and writes
//! of one file, each read checked).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Site, seed};
use mooring_tests::guest::Status;
use mooring_tests::{artifacts, host};

/// All that Linux file systems offer: the rest of the suite's list is of other systems.
const POSIX_SETTINGS: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Every operation that Linux can carry over FUSE, close and reopen included.
const FSX_SETTINGS: &str = r"
flen = 1048576
[opsize]
max = 131072
[weights]
close_open = 1.0
invalidate = 1.0
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 1.0
punch_hole = 1.0
sendfile = 1.0
posix_fadvise = 1.0
copy_file_range = 1.0
";

/// Operations of one random run.
const FSX_OPERATIONS: &str = "3000";

async fn machine(site: &Site) -> Result<Machine> {
    site.machine("acme", "one").await
}

#[tokio::test]
async fn the_posix_suite_finds_nothing() -> Result<()> {
    let suite = artifacts::tool("pjdfstest")?;
    let site = Site::with_acme().await?;
    let mut vm = machine(&site).await?;
    let data = vm.bucket("data").await?;
    let settings = vm.agent.home().join("pjdfstest.toml");
    fs::write(&settings, POSIX_SETTINGS)?;

    let mut command = Command::new(suite);
    // A second file system, for links and renames across.
    command
        .arg("-c")
        .arg(&settings)
        .arg("-p")
        .arg(&data)
        .args(["-s", "/dev/shm"])
        .current_dir(vm.agent.home());
    let output = host::run(command).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = text.lines().collect();

    println!("not run:");
    for (case, reason) in lines.iter().zip(lines.iter().skip(1)).filter(|(case, _)| case.ends_with("skipped"))
    {
        println!("    {}: {}", case.trim_end_matches("skipped").trim(), reason.trim());
    }
    let failed: Vec<_> = lines.windows(3).filter(|three| three[0].ends_with("FAILED")).collect();
    ensure!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
    let sum = lines.iter().find(|line| line.starts_with("Summary")).context("no summary")?;
    println!("{sum}");
    ensure!(output.status == Status::Code(0) && sum.contains(" 0 failed"), "{sum}");
    let passed = sum.split(", ").find_map(|part| part.strip_suffix(" passed")?.parse::<u32>().ok());
    ensure!(passed.is_some_and(|passed| passed > 300), "too little ran: {sum}");
    Ok(())
}

#[tokio::test]
async fn random_writes_of_one_file_read_back_as_written() -> Result<()> {
    let fsx = artifacts::tool("fsx")?;
    let site = Site::with_acme().await?;
    let mut vm = machine(&site).await?;
    let data = vm.bucket("data").await?;
    let settings = vm.agent.home().join("fsx.toml");
    fs::write(&settings, FSX_SETTINGS)?;

    let seed = seed()?.to_string();
    let mut command = Command::new(fsx);
    command.args(["-N", FSX_OPERATIONS, "-S", &seed, "-f"]).arg(&settings);
    command.arg("-P").arg(vm.agent.home()).arg(data.join("exercised"));
    host::run(command).await?.ok()?;
    Ok(())
}
