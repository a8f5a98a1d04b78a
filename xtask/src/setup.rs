//! What tests and demo need beyond Rust and a C compiler, each with its reason. Nothing is installed that is
//! already there, and sudo is asked for only when a package is missing.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Say what is missing and why, install nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Debian packages and why they are needed.
const PACKAGES: &[(&str, &str)] = &[
    ("make", "builds the gateway's allocator"),
    ("fuse3", "fusermount3: mounts as a plain user"),
    ("qemu-system-x86", "boots the guests"),
    ("libc6-dev", "static C library: the guest programs are static"),
    ("erofs-utils", "makes the guests' root image"),
    ("e2fsprogs", "formats the guests' own disks"),
    ("kmod", "depmod and modinfo: dependencies of the guests' kernel modules"),
    ("xz-utils", "unpacks the guests' kernel modules"),
    ("zstd", "unpacks the guests' kernel"),
    ("lz4", "unpacks the guests' oldest kernel"),
    ("git", "tests clone, pack and check repositories on the mount"),
    ("sqlite3", "tests fill and check databases on the mount"),
    ("strace", "tests count system calls and look at stuck programs"),
    ("fio", "tests and benches drive reads and writes"),
    ("python3-venv", "an unmodified S3 client (boto3) in its own environment"),
    ("python3-pip", "fetches that client at its pinned version"),
    ("ca-certificates", "roots of trust for fetching"),
    ("awscli", "an S3 client that people have"),
    ("s3cmd", "an S3 client that people have"),
    ("rclone", "an S3 client that people have"),
    ("ceph-mon", "a distributed store to test on: its monitor"),
    ("ceph-osd", "a distributed store to test on: its disk"),
    ("radosgw", "a distributed store to test on: its S3"),
    ("ceph-common", "a distributed store to test on: its commands"),
];

/// Pinned programs that are built from their crates, and why they are needed. Their command lines and outputs are part
/// of the harness.
const TOOLS: &[(&str, &str, &str)] = &[
    ("vhost-device-vsock", "0.3.0", "vsock for QEMU without kernel modules"),
    ("pjdfstest", "0.2.2", "asks file systems for all of POSIX, call by call"),
    ("fsx", "0.3.2", "reads and writes one file at random and checks every byte"),
];

/// `cargo xtask setup`
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.dry_run {
        for what in missing()? {
            println!("missing: {what}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure()?;
    println!("everything that tests and demo need is installed");
    Ok(ExitCode::SUCCESS)
}

/// What [`ensure`] would install, each with its reason.
pub fn missing() -> Result<Vec<String>> {
    let packages = missing_packages()?;
    let mut missing: Vec<_> = packages.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    let tools = TOOLS.iter().filter(|(name, ..)| !tool(name).exists());
    missing.extend(tools.map(|(name, version, why)| format!("{name} {version} ({why})")));
    if !shell::target_dir().join("python/installed.lock").exists() {
        missing.push("boto3 (an unmodified S3 client, in an environment of its own)".to_owned());
    }
    Ok(missing)
}

/// Installs whatever is missing; quick when nothing is.
pub fn ensure() -> Result<()> {
    packages()?;
    for (name, version, _) in TOOLS {
        build_tool(name, version)?;
    }
    s3_client()
}

/// Installs packages that only one command needs.
pub fn ensure_packages(wanted: &[(&'static str, &'static str)]) -> Result<()> {
    install(&missing_of(wanted)?)
}

fn missing_packages() -> Result<Vec<(&'static str, &'static str)>> {
    missing_of(PACKAGES)
}

fn missing_of(wanted: &[(&'static str, &'static str)]) -> Result<Vec<(&'static str, &'static str)>> {
    let mut query = shell::command("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Abbrev}\n"]);
    query.args(wanted.iter().map(|(name, _)| name));
    // It exits unsuccessfully when it does not know one of the names, and lists the others.
    let list =
        query.output().context("cannot start dpkg-query; only Debian and its derivatives are supported")?;
    let list = String::from_utf8_lossy(&list.stdout);
    let installed = |name: &str| list.lines().any(|line| line.trim_end() == format!("{name} ii"));
    Ok(wanted.iter().copied().filter(|(name, _)| !installed(name)).collect())
}

fn packages() -> Result<()> {
    install(&missing_packages()?)
}

fn install(missing: &[(&'static str, &'static str)]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("These Debian packages are missing:");
    for (name, why) in missing {
        eprintln!("    {name:<18} {why}");
    }
    let root = shell::output(shell::command("id", ["-u"]))?.trim() == "0";
    if !root && !shell::found("sudo") {
        bail!("installing them needs root; run as root: apt-get install {}", names(missing).join(" "));
    }
    if !root {
        eprintln!("sudo is asked for to install them with apt-get; nothing else runs with it.");
    }
    apt(root, &["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(names(missing));
    apt(root, &install)
}

fn names(packages: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    packages.iter().map(|(name, _)| *name).collect()
}

fn apt(root: bool, args: &[&str]) -> Result<()> {
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let words: Vec<_> = if root { vec![] } else { vec!["sudo"] }
        .into_iter()
        .chain(quiet)
        .chain(args.iter().copied())
        .collect();
    let (program, rest) = words.split_first().context("a command has a first word")?;
    let mut command = shell::command(program, rest);
    // sudo may ask for a password.
    command.stdin(std::process::Stdio::inherit());
    shell::run(command)
}

/// Where pinned tools are installed.
pub fn tool(name: &str) -> PathBuf {
    shell::target_dir().join("tools/bin").join(name)
}

fn build_tool(name: &str, version: &str) -> Result<()> {
    if tool(name).exists()
        && shell::output(shell::command(&tool(name).to_string_lossy(), ["--version"]))?.contains(version)
    {
        return Ok(());
    }
    let into = shell::target_dir().join("tools");
    let args =
        ["install", "--locked", "--version", version, "--force", "--root", &into.to_string_lossy(), name];
    shell::run(shell::cargo(args))
}

/// An environment with the pinned S3 client. The lock file's digest is its stamp, so that a changed pin is
/// installed anew and an unchanged one costs nothing.
fn s3_client() -> Result<()> {
    let lock = shell::root().join("tests/python.lock");
    let wanted = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let home = shell::target_dir().join("python");
    let stamp = home.join("installed.lock");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Debian's own interpreter: the machine's first python3 may be a version manager's.
    shell::run(shell::command("/usr/bin/python3", ["-m", "venv", "--clear", &home.to_string_lossy()]))?;
    let pip = home.join("bin/pip");
    let args =
        ["install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", &lock.to_string_lossy()];
    shell::run(shell::command(&pip.to_string_lossy(), args))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}
