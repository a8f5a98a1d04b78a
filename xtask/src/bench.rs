//! The figures: our mount and our S3 beside their peers and limits, in one run on one disk.
//!
//! The gateway, an agent over a unix socket, `rclone mount` and `s3fs` (both on our own S3 endpoint) and a plain
//! directory get the same workload from `mooring-bench`. Everything is built with optimisation, lives under
//! `target/bench` on one disk, and is taken down again however the run ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::shell;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Small sizes: whether it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only the mounts, or only S3.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Leave out rclone and s3fs, which take most of the time.
    #[arg(long)]
    no_peers: bool,
}

/// A part of the figures.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Mounts and the disk.
    Files,
    /// S3 and the disk.
    S3,
}

/// Where S3 listens during the run.
const S3: &str = "127.0.0.1:9480";

#[derive(Deserialize)]
struct Key {
    id: String,
    secret: String,
}

/// `cargo xtask bench`
pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        shell::output(shell::command("id", ["-u"]))?.trim() == "0",
        "run as root: caches are dropped between steps"
    );
    crate::setup::ensure_packages(&[("rclone", "a peer"), ("s3fs", "a peer")])?;
    build()?;
    let stage = Stage::set(args)?;
    if args.only != Some(Part::S3) {
        stage.files(args)?;
    }
    if args.only != Some(Part::Files) {
        stage.s3(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    let packages = ["-p", "mooring-gateway", "-p", "mooring-agent", "-p", "mooring-bench"];
    let mut command = shell::cargo(["build", "--locked", "--release"]);
    command.args(packages);
    shell::run(command)
}

fn program(name: &str) -> String {
    shell::target_dir().join("release").join(name).display().to_string()
}

/// Everything that runs during the measurement. Dropping it takes it down.
struct Stage {
    dir: PathBuf,
    mounts: Vec<PathBuf>,
    running: Vec<Child>,
    key: Key,
}

impl Stage {
    fn set(args: &Args) -> Result<Stage> {
        let dir = shell::target_dir().join("bench");
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .context("cannot clear target/bench: is something still mounted there?")?;
        }
        fs::create_dir_all(dir.join("disk"))?;
        let none = Key { id: String::new(), secret: String::new() };
        let mut stage = Stage { dir, mounts: Vec::new(), running: Vec::new(), key: none };
        stage.gateway()?;
        stage.agent()?;
        if !args.no_peers && args.only != Some(Part::S3) {
            stage.rclone()?;
            stage.s3fs()?;
        }
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<()> {
        let log = fs::File::create(self.path(&format!("{name}.log")))?;
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        self.running.push(command.spawn().with_context(|| format!("cannot start {name}"))?);
        Ok(())
    }

    fn admin(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program("mooring-gateway"));
        command.args(words).arg("--json").env("MOORING_ADMIN_SOCKET", self.path("admin.sock"));
        shell::output(command)
    }

    fn gateway(&mut self) -> Result<()> {
        let mut command = Command::new(program("mooring-gateway"));
        command.arg("serve").arg("--data-dir").arg(self.path("data")).args(["--s3", S3]);
        command.env("MOORING_ADMIN_SOCKET", self.path("admin.sock"));
        self.start("gateway", command)?;
        let socket = self.path("admin.sock");
        wait("the gateway", || socket.exists())?;
        self.admin(&["tenant", "create", "bench"])?;
        for bucket in ["files", "for-rclone", "for-s3fs", "objects"] {
            self.admin(&["bucket", "create", "--tenant", "bench", bucket])?;
        }
        self.admin(&[
            "vm",
            "attach",
            "--tenant",
            "bench",
            "vm",
            "--unix",
            &self.path("vm.sock").to_string_lossy(),
        ])?;
        self.key = serde_json::from_str(&self.admin(&["key", "create", "--tenant", "bench"])?)?;
        Ok(())
    }

    fn agent(&mut self) -> Result<()> {
        let mut command = Command::new(program("mooring-agent"));
        command.arg("up").arg("--gateway").arg(format!("unix:{}", self.path("vm.sock").display()));
        command.arg("--root").arg(self.path("mnt")).arg("--control").arg(self.path("run/agent.sock"));
        command.args(["--s3", "off", "--credentials", "127.0.0.1:9481"]);
        for bucket in ["files", "for-rclone", "for-s3fs", "objects"] {
            self.mounts.push(self.path("mnt").join(bucket));
        }
        self.start("agent", command)?;
        let mount = self.path("mnt/files");
        wait("the mount", || is_mount(&mount))
    }

    fn rclone(&mut self) -> Result<()> {
        let mount = self.path("rclone");
        fs::create_dir_all(&mount)?;
        let mut command = Command::new("rclone");
        command.arg("mount").arg("m:for-rclone").arg(&mount);
        command.args(["--vfs-cache-mode", "full", "--vfs-write-back", "1s", "--dir-cache-time", "1h"]);
        command.arg("--cache-dir").arg(self.path("rclone-cache"));
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ENDPOINT", &format!("http://{S3}")),
            ("REGION", "mooring-1"),
            ("ACCESS_KEY_ID", &self.key.id),
            ("SECRET_ACCESS_KEY", &self.key.secret),
        ] {
            command.env(format!("RCLONE_CONFIG_M_{name}"), value);
        }
        self.mounts.push(mount.clone());
        self.start("rclone", command)?;
        wait("rclone's mount", || is_mount(&mount))
    }

    fn s3fs(&mut self) -> Result<()> {
        let (mount, secret) = (self.path("s3fs"), self.path("s3fs.key"));
        fs::create_dir_all(&mount)?;
        fs::write(&secret, format!("{}:{}", self.key.id, self.key.secret))?;
        shell::run(shell::command("chmod", ["600", &secret.to_string_lossy()]))?;
        let mut command = Command::new("s3fs");
        command
            .arg("for-s3fs")
            .arg(&mount)
            .arg("-f")
            .arg("-o")
            .arg(format!("passwd_file={}", secret.display()));
        for option in [
            &format!("url=http://{S3}"),
            "use_path_request_style",
            "endpoint=mooring-1",
            "sigv4",
            "parallel_count=4",
        ] {
            command.arg("-o").arg(option);
        }
        self.mounts.push(mount.clone());
        self.start("s3fs", command)?;
        wait("s3fs's mount", || is_mount(&mount))
    }

    fn files(&self, args: &Args) -> Result<()> {
        let tarball = self.path("tree.tar");
        let archive =
            ["archive", "--format=tar", "-o", &tarball.to_string_lossy(), "HEAD"].map(ToString::to_string);
        shell::run(shell::command("git", archive))?;
        let mut command = Command::new(program("mooring-bench"));
        command.arg("files").arg(format!("mooring={}", self.path("mnt/files").display()));
        command.arg(format!("disk={}", self.path("disk").display()));
        if !args.no_peers {
            command.arg(format!("rclone={}", self.path("rclone").display()));
            command.arg(format!("s3fs={}", self.path("s3fs").display()));
        }
        command.arg("--tarball").arg(&tarball).arg("--repository").arg(shell::root());
        command.arg("--json").arg(self.path("files.json"));
        if args.quick {
            command.args(["--large-mib", "32", "--small", "200", "--random", "200", "--commits", "20"]);
        }
        shell::run(command)
    }

    fn s3(&self, args: &Args) -> Result<()> {
        let mut command = Command::new(program("mooring-bench"));
        command.arg("s3").arg(format!("mooring=http://{S3}")).args(["--bucket", "objects"]);
        command.arg("--disk").arg(self.path("disk/objects")).arg("--json").arg(self.path("s3.json"));
        command.env("AWS_ACCESS_KEY_ID", &self.key.id).env("AWS_SECRET_ACCESS_KEY", &self.key.secret);
        if args.quick {
            command.args(["--large", "2", "--small", "100", "--keys", "500"]);
        }
        shell::run(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A request to end first, so that nothing is left mounted; whatever does not end in time is killed.
        for child in self.running.iter_mut().rev() {
            let pid = child.id().to_string();
            let _asked = Command::new("kill").arg(&pid).status();
            let until = Instant::now() + Duration::from_secs(20);
            while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _killed = child.kill();
            let _reaped = child.wait();
        }
        for mount in self.mounts.iter().filter(|m| is_mount(m)) {
            let _detached = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

fn is_mount(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let wanted = path.to_string_lossy();
    table.lines().filter_map(|line| line.split(' ').nth(1)).any(|mounted| mounted == wanted)
}

fn wait(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    while !ready() {
        if Instant::now() > until {
            bail!("{what} did not come up within 30 s: see the logs in target/bench");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
