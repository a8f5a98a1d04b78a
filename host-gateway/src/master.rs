//! Where the master key comes from: a file, a variable of the environment, or a command's output.
//!
//! None of them is told apart by its content: 64 hexadecimal digits, with or without the line's head that a key made
//! here has. What a command says on its error output is shown when it fails; what it says on its output never is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use mooring_policy::rng::Random;
use mooring_store::seal::{MasterKey, MasterKeys, SealError};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::settings::{Settings, SettingsError};

/// How long a command may take: some ask a person or a machine far away.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Most bytes of a command's output that are read.
const OUTPUT_LIMIT: u64 = 4096;

/// A place of a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file that nobody else may read.
    File(PathBuf),
    /// A variable of the gateway's environment.
    Env(String),
    /// A command, run by the shell; its output is the key.
    Command(String),
}

/// Why a place has no usable key.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The key, or its file.
    #[error(transparent)]
    Key(#[from] SealError),
    /// There is no such variable.
    #[error("it is not set")]
    Unset,
    /// The command cannot be started.
    #[error("it cannot be started: {0}")]
    Start(std::io::Error),
    /// The command failed.
    #[error("it failed with {status}{}", shown(.said))]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to its error output.
        said: String,
    },
    /// The command takes too long.
    #[error("it gave no key within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

fn shown(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => write!(f, "file:{}", path.display()),
            Source::Env(name) => write!(f, "env:{name}"),
            Source::Command(line) => write!(f, "command:{line}"),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let source = match kind {
            "env" => Source::Env(rest.to_owned()),
            "command" => Source::Command(rest.to_owned()),
            "file" => Source::File(rest.into()),
            _ => Source::File(text.into()),
        };
        let empty = if kind.is_empty() { text.is_empty() } else { rest.is_empty() };
        match empty {
            true => Err(format!("`{text}` names no place: use a file, `env:NAME` or `command:LINE`")),
            false => Ok(source),
        }
    }
}

impl Source {
    /// Reads the key.
    ///
    /// # Errors
    /// [`SourceError`]; never with any of the key in it.
    pub async fn read(&self) -> Result<MasterKey, SourceError> {
        self.read_within(COMMAND_LIMIT).await
    }

    async fn read_within(&self, limit: Duration) -> Result<MasterKey, SourceError> {
        let origin = self.to_string();
        match self {
            Source::File(path) => Ok(MasterKey::load(path)?),
            Source::Env(name) => {
                let text = Zeroizing::new(std::env::var(name).map_err(|_| SourceError::Unset)?);
                Ok(MasterKey::parse(&text, Path::new(&origin))?)
            }
            Source::Command(line) => {
                let text = run(line, limit).await?;
                Ok(MasterKey::parse(&String::from_utf8_lossy(&text), Path::new(&origin))?)
            }
        }
    }
}

/// Runs a command in a group of its own, which is ended as a whole when it takes too long.
async fn run(line: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(SourceError::Start)?;
    match tokio::time::timeout(limit, outcome(&mut child)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                // It may have ended this moment.
                let _gone = kill_process_group(group, Signal::KILL);
            }
            Err(SourceError::TimedOut(limit))
        }
    }
}

async fn outcome(child: &mut Child) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (output, errors, status) = tokio::join!(read_some(output), read_some(errors), child.wait());
    let status = status.map_err(SourceError::Start)?;
    if status.success() {
        return Ok(output);
    }
    Err(SourceError::Failed { status, said: String::from_utf8_lossy(&errors).trim().to_owned() })
}

/// The beginning of what a command writes. The rest it writes to nobody.
async fn read_some(from: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(OUTPUT_LIMIT as usize));
    if let Some(from) = from
        && let Err(error) = from.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await
    {
        tracing::warn!(%error, "cannot read what the master key's command says");
    }
    bytes
}

/// All master keys that the settings name. At the first start a file that is missing is made; later a missing key is a
/// loss, which a new one would hide.
///
/// # Errors
/// A place is not well named, or the first key cannot be made. A place without a key is no error here: which key is
/// needed the registry knows.
pub async fn gather(
    settings: &Settings,
    has_data: bool,
    random: &dyn Random,
) -> Result<MasterKeys, super::serve::ServeError> {
    let mut keys = MasterKeys::default();
    let (main, more) = settings.master_keys()?;
    if let Source::File(path) = &main
        && !path.exists()
        && !has_data
    {
        MasterKey::create(path, random)?;
        tracing::info!(path = %path.display(), "made a master key: keep a copy of it in a safe place");
    }
    for source in std::iter::once(main).chain(more) {
        match source.read().await {
            Ok(key) => keys.found(key, source.to_string()),
            Err(error) => keys.missed(format!("{source}: {error}")),
        }
    }
    Ok(keys)
}

impl Settings {
    /// The place of the master key, and of others that may be needed.
    ///
    /// # Errors
    /// A place is not well named.
    pub fn master_keys(&self) -> Result<(Source, Vec<Source>), SettingsError> {
        let named =
            |field, text: &String| text.parse::<Source>().map_err(|why| SettingsError::Value { field, why });
        let main = match (&self.master_key, &self.master_key_command) {
            (Some(_), Some(_)) => {
                let why = "it and master_key are both set: choose one".to_owned();
                return Err(SettingsError::Value { field: "master_key_command", why });
            }
            (None, Some(line)) => Source::Command(line.clone()),
            (Some(text), None) => named("master_key", text)?,
            (None, None) => Source::File(self.data_dir().join("master.key")),
        };
        let more = self.more_master_keys.iter().flatten().map(|text| named("more_master_keys", text));
        Ok((main, more.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

    use super::*;

    const DIGITS: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    async fn read(source: &str) -> Result<MasterKey, SourceError> {
        source.parse::<Source>().unwrap().read_within(Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn a_command_gives_the_key_or_says_why_not() {
        let expected = MasterKey::parse(DIGITS, Path::new("test")).unwrap().fingerprint();
        assert_eq!(read(&format!("command:echo {DIGITS}")).await.unwrap().fingerprint(), expected);
        let failed =
            read(&format!("command:echo {DIGITS}; echo vault is sealed >&2; exit 7")).await.unwrap_err();
        let text = failed.to_string();
        assert!(text.contains("vault is sealed") && text.contains('7') && !text.contains(DIGITS), "{text}");
        let nonsense = read("command:echo hello").await.unwrap_err().to_string();
        assert!(
            nonsense.contains("64 hexadecimal digits") && nonsense.contains("command:echo"),
            "{nonsense}"
        );
        assert!(read("command:/nonexistent/program").await.is_err());
        // More than is read: it must not wait for us.
        assert!(read("command:yes").await.is_err());
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let slow = Source::Command(line).read_within(Duration::from_millis(500)).await.unwrap_err();
        assert!(matches!(slow, SourceError::TimedOut(_)), "{slow}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = Path::new("/proc").join(pid.trim()).join("status");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ")) {
            assert!(tokio::time::Instant::now() < deadline, "{} lives", pid.trim());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_named() {
        assert!(matches!(read("env:MOORING_TEST_NO_SUCH_VARIABLE").await, Err(SourceError::Unset)));
        // Every process has a path, and it is no key.
        assert!(read("env:PATH").await.unwrap_err().to_string().contains("env:PATH"));
    }

    #[test]
    fn places_are_named_in_one_way() {
        let parse = |text: &str| text.parse::<Source>();
        assert_eq!(parse("/a/b").unwrap(), Source::File("/a/b".into()));
        assert_eq!(parse("file:a").unwrap(), Source::File("a".into()));
        assert_eq!(parse("env:A").unwrap(), Source::Env("A".into()));
        assert_eq!(parse("command:vault read -x a:b").unwrap(), Source::Command("vault read -x a:b".into()));
        for empty in ["", "env:", "command:", "file:"] {
            assert!(parse(empty).is_err(), "{empty}");
        }
        for text in ["file:/a", "env:A", "command:a b"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn one_place_is_the_main_one() {
        let set = |key: Option<&str>, command: Option<&str>| Settings {
            master_key: key.map(str::to_owned),
            master_key_command: command.map(str::to_owned),
            more_master_keys: Some(vec!["env:OLD".to_owned()]),
            ..Settings::default()
        };
        assert!(set(Some("/a"), Some("b")).master_keys().is_err());
        let (main, more) = set(None, Some("vault read")).master_keys().unwrap();
        assert_eq!((main, more), (Source::Command("vault read".into()), vec![Source::Env("OLD".into())]));
        let (main, _) = set(None, None).master_keys().unwrap();
        assert_eq!(main, Source::File("/var/lib/mooring/master.key".into()));
    }
}
