//! Settings: one struct, filled from the TOML file, then the environment and flags on top.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::agent::AgentOptions;
use crate::fuse::MountOptions;
use crate::remote::{Gateway, Target};

/// Where the file is looked for when `--config` names none. It may be absent.
pub const DEFAULT_FILE: &str = "/etc/mooring/agent.toml";
/// Where the control socket is by default.
pub const DEFAULT_CONTROL: &str = "/run/mooring/agent.sock";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line.
    Json,
}

/// What closing a written file waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Close {
    /// For nothing: the gateway has the data within a second.
    Async,
    /// Until the gateway has the data.
    Sync,
}

/// Everything that can be set.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway is: `vsock:2:5000`, `unix:/path` or `tls:host:port` [default: vsock:2:5000]
    #[arg(long, alias = "connect", env = "MOORING_GATEWAY", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Target>,
    /// A token, on channels that do not say which VM this is: `mooring-gateway token --tenant T --vm VM`
    #[arg(long, env = "MOORING_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Over TLS: the certificates to trust, PEM [default: those this system trusts]
    #[arg(long, env = "MOORING_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Buckets and shares are mounted below this directory [default: /mnt/mooring]
    #[arg(long, env = "MOORING_ROOT", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Where S3 is offered in this guest; `off` for nowhere [default: 127.0.0.1:9000]
    #[arg(long, env = "MOORING_S3", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
    /// Where AWS SDKs get their credentials in this guest [default: 127.0.0.1:9001]
    #[arg(long, env = "MOORING_CREDENTIALS", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SocketAddr>,
    /// What closing a written file waits for [default: async]
    #[arg(long, env = "MOORING_CLOSE", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<Close>,
    /// Memory for writes that the gateway does not have yet, MiB [default: 64]
    #[arg(long, env = "MOORING_WRITE_MEMORY", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_memory: Option<u32>,
    /// Read-ahead of the mounts, KiB [default: 4096]
    #[arg(long, env = "MOORING_READ_AHEAD", value_name = "KIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ahead: Option<u32>,
    /// Seconds after which a request that waits for the gateway fails; 0 waits for ever [default: 300]
    #[arg(long, env = "MOORING_DEADLINE", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u32>,
    /// What is logged, such as `info` or `mooring_agent=debug,info` [default: info]
    #[arg(long, env = "MOORING_LOG", value_name = "DIRECTIVES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "MOORING_LOG_FORMAT", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has something wrong in it.
    #[error("{path} has a mistake")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The address for S3 is none.
    #[error("s3 = {0:?} is neither an address such as 127.0.0.1:9000 nor `off`")]
    S3(String),
}

impl Settings {
    /// Reads the file, and lays what is set here over it. Without a path the default file is read if it is there.
    ///
    /// # Errors
    /// The file named is not there, or a file has a mistake.
    pub fn over_file(self, path: Option<&Path>) -> Result<Settings, SettingsError> {
        let (file, required) = (path.unwrap_or(Path::new(DEFAULT_FILE)), path.is_some());
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(self),
            Err(source) => return Err(SettingsError::Read { path: file.to_owned(), source }),
        };
        let below: Settings = toml::from_str(&text)
            .map_err(|e| SettingsError::Parse { path: file.to_owned(), source: Box::new(e) })?;
        Ok(Settings {
            gateway: self.gateway.or(below.gateway),
            token: self.token.or(below.token),
            ca: self.ca.or(below.ca),
            root: self.root.or(below.root),
            s3: self.s3.or(below.s3),
            credentials: self.credentials.or(below.credentials),
            close: self.close.or(below.close),
            write_memory: self.write_memory.or(below.write_memory),
            read_ahead: self.read_ahead.or(below.read_ahead),
            deadline: self.deadline.or(below.deadline),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        })
    }

    /// Where S3 is offered, if anywhere.
    ///
    /// # Errors
    /// It is not an address.
    pub fn s3_address(&self) -> Result<Option<SocketAddr>, SettingsError> {
        match self.s3.as_deref().unwrap_or("127.0.0.1:9000") {
            "off" => Ok(None),
            text => text.parse().map(Some).map_err(|_| SettingsError::S3(text.to_owned())),
        }
    }

    /// Where credentials are offered.
    #[must_use]
    pub fn credentials_address(&self) -> SocketAddr {
        self.credentials.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9001)))
    }

    /// What the agent is made of.
    #[must_use]
    pub fn agent(&self) -> AgentOptions {
        let deadline = self.deadline.unwrap_or(300);
        AgentOptions {
            gateway: Gateway {
                target: self.gateway.clone().unwrap_or(Target::Vsock(2, 5000)),
                ca: self.ca.clone(),
                token: self.token.clone(),
            },
            root: self.root.clone().unwrap_or_else(|| PathBuf::from("/mnt/mooring")),
            write_budget: (self.write_memory.unwrap_or(64) as usize) << 20,
            close_sync: self.close == Some(Close::Sync),
            mount: MountOptions {
                read_ahead_kib: self.read_ahead.unwrap_or(4096),
                deadline: (deadline > 0).then(|| Duration::from_secs(u64::from(deadline))),
                ..MountOptions::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "gateway = \"unix:/a\"\nroot = \"/from/file\"\nclose = \"sync\"\n").unwrap();
        let flags = Settings { root: Some("/from/flag".into()), ..Settings::default() };
        let settings = flags.over_file(Some(&file)).unwrap();
        let agent = settings.agent();
        assert_eq!(agent.root, Path::new("/from/flag"));
        assert_eq!(agent.gateway.target, Target::Unix("/a".into()));
        assert!(agent.close_sync);
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "gatway = \"unix:/a\"\n").unwrap();
        assert!(matches!(Settings::default().over_file(Some(&file)), Err(SettingsError::Parse { .. })));
        assert!(matches!(
            Settings::default().over_file(Some(&dir.path().join("none"))),
            Err(SettingsError::Read { .. })
        ));
    }

    #[test]
    fn s3_is_an_address_or_off() {
        let with = |s3: &str| Settings { s3: Some(s3.to_owned()), ..Settings::default() }.s3_address();
        assert!(with("off").unwrap().is_none());
        assert_eq!(with("127.0.0.1:1").unwrap().unwrap().port(), 1);
        assert!(with("on").is_err());
    }
}
