//! Everything that runs on this host during the measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Args, Sources, limited, program, watch};
use crate::shell;

/// Where S3 listens during the run.
const S3: &str = "127.0.0.1:9480";

const BUCKETS: [&str; 4] = ["files", "for-rclone", "for-s3fs", "objects"];

#[derive(Deserialize)]
struct Key {
    id: String,
    secret: String,
}

/// The folder of a run, emptied of what an earlier one left.
pub fn clear() -> Result<PathBuf> {
    let dir = shell::target_dir().join("bench");
    watch::unmount_below(&dir);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// A gateway, and what is started beside it. Dropping it takes all of it down.
pub struct Stage {
    dir: PathBuf,
    running: Vec<(String, Child)>,
    key: Key,
}

impl Stage {
    /// Starts a gateway with one tenant on empty data.
    pub fn set(dir: &Path) -> Result<Stage> {
        let none = Key { id: String::new(), secret: String::new() };
        let mut stage = Stage { dir: dir.to_owned(), running: Vec::new(), key: none };
        for data in ["data", "disk"] {
            let path = stage.path(data);
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
        }
        fs::create_dir_all(stage.path("disk"))?;
        stage.gateway()?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<()> {
        let log = fs::File::create(self.path(&format!("{name}.log")))?;
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    /// Waits until what `name` serves is there.
    fn wait(&mut self, name: &str, ready: impl Fn(&Stage) -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while !ready(self) {
            let ended = self.running.iter_mut().find(|(n, _)| n == name).map(|(_, child)| child.try_wait());
            if let Some(Ok(Some(status))) = ended {
                bail!("{name} ended early: {status}; see {}", self.path(&format!("{name}.log")).display());
            }
            if Instant::now() > until {
                bail!("{name} is not up after 30 s; see {}", self.path(&format!("{name}.log")).display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn stop(&mut self, name: &str) {
        if let Some(at) = self.running.iter().position(|(n, _)| n == name) {
            let (_, mut child) = self.running.remove(at);
            watch::end(&mut child, Duration::from_secs(20));
        }
    }

    fn admin(&self, words: &[&str]) -> Result<String> {
        let mut command = limited(30, &program("mooring-gateway"));
        command.args(words).arg("--json").env("MOORING_ADMIN_SOCKET", self.path("admin.sock"));
        shell::output(command)
    }

    fn gateway(&mut self) -> Result<()> {
        let mut command = Command::new(program("mooring-gateway"));
        command.arg("serve").arg("--data-dir").arg(self.path("data")).args(["--s3", S3]);
        command.env("MOORING_ADMIN_SOCKET", self.path("admin.sock"));
        self.start("gateway", command)?;
        self.wait("gateway", |stage| stage.admin(&["status"]).is_ok())?;
        self.admin(&["tenant", "create", "bench"])?;
        for bucket in BUCKETS {
            self.admin(&["bucket", "create", "--tenant", "bench", bucket])?;
        }
        let socket = self.path("vm.sock");
        let socket = socket.to_str().context("the target folder's path is not text")?;
        self.admin(&["vm", "attach", "--tenant", "bench", "vm", "--unix", socket])?;
        self.key = serde_json::from_str(&self.admin(&["key", "create", "--tenant", "bench"])?)
            .context("the answer of `key create`")?;
        Ok(())
    }

    fn agent(&mut self) -> Result<PathBuf> {
        let mut command = Command::new(program("mooring-agent"));
        command.arg("up").arg("--gateway").arg(format!("unix:{}", self.path("vm.sock").display()));
        command.arg("--root").arg(self.path("mnt")).arg("--control").arg(self.path("run/agent.sock"));
        command.args(["--s3", "off", "--credentials", "127.0.0.1:9481"]);
        self.start("agent", command)?;
        let mount = self.path("mnt/files");
        self.wait("agent", |_| is_mount(&mount))?;
        Ok(mount)
    }

    fn rclone(&mut self) -> Result<PathBuf> {
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
        forget_other_accounts(&mut command);
        self.start("rclone", command)?;
        self.wait("rclone", |_| is_mount(&mount))?;
        Ok(mount)
    }

    fn s3fs(&mut self) -> Result<PathBuf> {
        let (mount, secret) = (self.path("s3fs"), self.path("s3fs.key"));
        fs::create_dir_all(&mount)?;
        fs::write(&secret, format!("{}:{}", self.key.id, self.key.secret))?;
        shell::output(shell::command("chmod", ["600", &secret.to_string_lossy()]))?;
        let mut command = Command::new("s3fs");
        command.arg("for-s3fs").arg(&mount).arg("-f");
        command.arg("-o").arg(format!("passwd_file={}", secret.display()));
        for option in [
            &format!("url=http://{S3}"),
            "use_path_request_style",
            "endpoint=mooring-1",
            "sigv4",
            "parallel_count=4",
        ] {
            command.arg("-o").arg(option);
        }
        forget_other_accounts(&mut command);
        self.start("s3fs", command)?;
        self.wait("s3fs", |_| is_mount(&mount))?;
        Ok(mount)
    }

    /// Mounts, the disk and a bare socket. Each runs alone.
    pub fn files(mut self, args: &Args, sources: &Sources) -> Result<Vec<PathBuf>> {
        let mount = self.agent()?;
        let mut sheets = vec![self.directory("mooring", &mount, args, sources)?];
        self.stop("agent");
        let disk = self.path("disk");
        sheets.push(self.directory("disk", &disk, args, sources)?);
        sheets.push(self.socket(args)?);
        if !args.no_peers {
            for (name, mount) in [("rclone", Stage::rclone as fn(&mut Stage) -> _), ("s3fs", Stage::s3fs)] {
                let measured = mount(&mut self).and_then(|mount| self.directory(name, &mount, args, sources));
                self.stop(name);
                match measured {
                    Ok(sheet) => sheets.push(sheet),
                    // A peer that does not work on this machine costs its column, not the others'.
                    Err(error) => eprintln!("{name} is left out: {error:#}"),
                }
            }
        }
        Ok(sheets)
    }

    fn directory(&self, name: &str, dir: &Path, args: &Args, sources: &Sources) -> Result<PathBuf> {
        let mut command = Command::new(program("mooring-bench"));
        command.arg("files").arg(format!("{name}={}", dir.display()));
        command.arg("--tarball").arg(&sources.tarball).arg("--repository").arg(&sources.bundle);
        // Peers take long: their rates are over what they do in less time.
        let peer = ["rclone", "s3fs"].contains(&name);
        if args.quick {
            command.args(["--large-mib", "32", "--small", "200", "--random", "200"]);
        }
        command.args(match (args.quick, peer) {
            (true, false) => &["--commits", "20"][..],
            (true, true) => &["--commits", "20", "--budget", "3", "--limit", "30"],
            (false, true) => &["--commits", "50", "--budget", "10", "--limit", "45"],
            (false, false) => &[],
        });
        let mount = is_mount(dir).then_some(dir);
        watch::measure(command, &self.path(&format!("files-{name}.json")), mount)
    }

    fn socket(&mut self, args: &Args) -> Result<PathBuf> {
        let socket = self.path("link.sock");
        let mut serve = Command::new(program("mooring-bench"));
        serve.arg("serve").arg("--socket").arg(&socket);
        self.start("link", serve)?;
        self.wait("link", |_| socket.exists())?;
        let mut command = Command::new(program("mooring-bench"));
        command.arg("link").arg(format!("socket=unix:{}", socket.display()));
        if args.quick {
            command.args(["--large-mib", "32", "--requests", "500"]);
        }
        let sheet = watch::measure(command, &self.path("files-socket.json"), None);
        self.stop("link");
        sheet
    }

    /// The S3 endpoint, and the disk under it.
    pub fn s3(self, args: &Args) -> Result<Vec<PathBuf>> {
        let scale: &[_] = if args.quick { &["--large", "2", "--small", "100", "--keys", "500"] } else { &[] };
        let mut ours = Command::new(program("mooring-bench"));
        ours.arg("s3").arg(format!("mooring=http://{S3}")).args(["--bucket", "objects"]).args(scale);
        ours.env("AWS_ACCESS_KEY_ID", &self.key.id).env("AWS_SECRET_ACCESS_KEY", &self.key.secret);
        let mut disk = Command::new(program("mooring-bench"));
        disk.arg("s3-disk").arg(format!("disk={}", self.path("disk/objects").display())).args(scale);
        Ok(vec![
            watch::measure(ours, &self.path("s3-mooring.json"), None)?,
            watch::measure(disk, &self.path("s3-disk.json"), None)?,
        ])
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A request to end first, so that nothing is left mounted; whatever does not end in time is killed.
        while let Some((_, mut child)) = self.running.pop() {
            watch::end(&mut child, Duration::from_secs(20));
        }
        watch::unmount_below(&self.dir);
    }
}

/// Peers read settings of other S3 services from the environment; here they speak to ours.
fn forget_other_accounts(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
}

fn is_mount(path: &Path) -> bool {
    watch::mounts_below(path).iter().any(|(mounted, _)| mounted == path)
}
