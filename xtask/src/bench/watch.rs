//! Measures one subject in a process of its own, and ends it when it hangs.
//!
//! A process that waits for a FUSE filesystem cannot always be killed: the kernel waits for the answer. What ends such
//! a wait is to abort the filesystem's connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::limited;

/// How long one figure may take. Loops and programs have limits of their own below it; what takes longer hangs.
const ROW_LIMIT: Duration = Duration::from_secs(240);
/// Where the kernel shows FUSE connections.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Runs `command`, which keeps its figures in `sheet`. When it hangs, `mount` is aborted and the figures so far are what
/// there is; the sheet says where it stopped.
pub fn measure(mut command: Command, sheet: &Path, mount: Option<&Path>) -> Result<PathBuf> {
    let program = command.get_program().to_owned();
    command.arg("--save").arg(sheet).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let mut since = Instant::now();
    let mut seen = None;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{} failed: {status}", program.display());
            return Ok(sheet.to_owned());
        }
        let saved = saved_at(sheet);
        if saved != seen {
            (seen, since) = (saved, Instant::now());
        }
        if since.elapsed() > ROW_LIMIT {
            eprintln!("  no figure for {} s: giving up this subject", ROW_LIMIT.as_secs());
            if let Some(mount) = mount {
                abort(mount)?;
            }
            end(&mut child, Duration::ZERO);
            return Ok(sheet.to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn saved_at(sheet: &Path) -> Option<SystemTime> {
    fs::metadata(sheet).and_then(|m| m.modified()).ok()
}

/// Asks a process to end and kills it when it has not ended within `patience`.
pub fn end(child: &mut Child, patience: Duration) {
    if !patience.is_zero() && matches!(child.try_wait(), Ok(None)) {
        let _asked = Command::new("kill").arg(child.id().to_string()).status();
    }
    let until = Instant::now() + patience;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _killed = child.kill();
    // It may sit in the kernel for good; then it is left behind rather than waited for.
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything mounted at or below `dir`, with the number of its device.
pub fn mounts_below(dir: &Path) -> Vec<(PathBuf, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = |line: &str| {
        let mut words = line.split(' ').skip(2);
        let device = words.next()?.split_once(':')?.1.to_owned();
        Some((PathBuf::from(words.nth(1)?), device))
    };
    table.lines().filter_map(mounted).filter(|(path, _)| path.starts_with(dir)).collect()
}

/// Makes every call on this mount fail, those that wait included.
fn abort(mount: &Path) -> Result<()> {
    for (_, device) in mounts_below(mount) {
        let control = Path::new(CONNECTIONS).join(&device).join("abort");
        if !control.exists() {
            let mut command = limited(10, "mount");
            command.args(["-t", "fusectl", "fusectl", CONNECTIONS]);
            crate::shell::output(command)?;
        }
        fs::write(&control, "1").with_context(|| format!("cannot abort {}", mount.display()))?;
    }
    Ok(())
}

/// Takes down whatever is mounted at or below `dir`.
pub fn unmount_below(dir: &Path) {
    for (mount, _) in mounts_below(dir).into_iter().rev() {
        // A FUSE filesystem whose process is gone lets go by itself; one that hangs has to be aborted first.
        let _aborted = abort(&mount);
        let _detached = limited(20, "umount").arg("-l").arg(&mount).status();
    }
}
