//! Running the build's tools.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Error, Result};

/// A command whose result depends on its arguments alone: fixed locale, time zone and mask.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    // Debian keeps depmod and mkfs where a plain user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Runs to the end and returns standard output.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = name(command.get_program());
    let done = command.output().map_err(|source| Error::Start { program, source })?;
    checked(done, command)
}

/// Runs with `input` on standard input and returns standard output.
pub fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let program = name(command.get_program());
    let start = |source| Error::Start { program: program.clone(), source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let stdin = child.stdin.take();
    // Fed from its own thread: a tool that writes before it has read everything would otherwise stall us both.
    let done = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A tool that stops reading early says why through its exit status.
            let _ = stdin.map(|mut pipe| pipe.write_all(input));
        });
        child.wait_with_output()
    });
    checked(done.map_err(start)?, command)
}

fn checked(done: Output, command: &Command) -> Result<Vec<u8>> {
    if done.status.success() {
        return Ok(done.stdout);
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(name);
    Err(Error::Failed {
        command: words.collect::<Vec<_>>().join(" "),
        status: done.status.to_string(),
        words: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
    })
}

fn name(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}
