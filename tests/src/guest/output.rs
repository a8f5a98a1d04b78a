//! What a command came to.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Status {
    pub(super) fn from_wire(number: i32) -> Status {
        if number >= 0 { Status::Code(number) } else { Status::Signal(number.saturating_neg()) }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Code(code) => write!(f, "exit code {code}"),
            Status::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What ran, for messages.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// An error with all it said, unless it succeeded.
    pub fn ok(self) -> Result<Output> {
        if self.status == Status::Code(0) {
            return Ok(self);
        }
        bail!("{}", self.story());
    }

    /// An error unless it failed and said so with `words` in its output.
    pub fn fails_with(self, words: &str) -> Result<Output> {
        ensure!(self.status != Status::Code(0), "expected a failure with {words:?}: {}", self.story());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(words);
        ensure!(said(&self.stderr) || said(&self.stdout), "expected the words {words:?}: {}", self.story());
        Ok(self)
    }

    /// Standard output as text without white space around it.
    pub fn text(&self) -> Result<String> {
        let text =
            std::str::from_utf8(&self.stdout).with_context(|| format!("{}: not text", self.command))?;
        Ok(text.trim().to_owned())
    }

    /// All of it for a message; long output is cut at its beginning.
    fn story(&self) -> String {
        let shown = |bytes: &[u8]| {
            let kept = bytes.get(bytes.len().saturating_sub(4096)..).unwrap_or_default();
            String::from_utf8_lossy(kept).trim().to_owned()
        };
        format!("{}: {}\n{}\n{}", self.command, self.status, shown(&self.stdout), shown(&self.stderr))
    }
}
