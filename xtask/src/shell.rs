//! Running other programs: say what runs, stop with its words when it fails.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root: the folder above this crate, wherever the repository was cloned.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder build results go to, honouring `CARGO_TARGET_DIR` as cargo does.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command that starts in the workspace's root.
pub fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that started us, so that `cargo +toolchain xtask` keeps its toolchain.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args);
    // The variables cargo sets for us describe xtask, not what we build.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "RUSTUP_TOOLCHAIN_SOURCE"] {
        command.env_remove(name);
    }
    command
}

/// One line that a person could paste into a shell in the repository's root.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs with the terminal's own output; an unsuccessful exit is an error naming the command.
pub fn run(mut command: Command) -> Result<()> {
    eprintln!("$ {}", shown(&command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(&command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(&command));
    }
    Ok(())
}

/// Runs quietly and returns standard output; on failure the error carries standard error.
pub fn output(mut command: Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot start `{}`", shown(&command)))?;
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed: {}: {}", shown(&command), done.status, words.trim());
    }
    String::from_utf8(done.stdout)
        .with_context(|| format!("`{}` printed bytes that are not text", shown(&command)))
}

/// Whether a program of this name can be found on `PATH`.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps administrators' tools out of a plain user's PATH; we may still run those that need no rights.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir: PathBuf| dir.join(program).is_file())
}
