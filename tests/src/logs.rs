//! Where programs under test write: one folder per test and run in `target/test-logs`, kept after the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::artifacts;

/// Distinguishes programs of the same name within one run.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A log file that says where it is when a test fails.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// A new log for the program `name` of the test that calls.
    pub fn new(name: &str) -> Result<Log> {
        let folder = folder()?;
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{number:02}-{name}.log"));
        File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Log { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for a program to append to.
    pub fn file(&self) -> Result<File> {
        File::options()
            .append(true)
            .open(&self.path)
            .with_context(|| format!("opening {}", self.path.display()))
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines, for error messages.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.len().saturating_sub(15);
        format!("{}:\n    {}", self.path.display(), lines.get(last..).unwrap_or_default().join("\n    "))
    }
}

impl Drop for Log {
    /// Shown by the test runner only when the test fails.
    fn drop(&mut self) {
        eprintln!("log: {}", self.path.display());
    }
}

/// `target/test-logs/<test>-<process>`: the thread of a test carries its name.
fn folder() -> Result<PathBuf> {
    let thread = std::thread::current();
    let test = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = test.as_deref().or(thread.name()).unwrap_or("unnamed").replace("::", "-").replace('/', "-");
    Ok(artifacts::target_dir()?.join("test-logs").join(format!("{test}-{}", std::process::id())))
}
