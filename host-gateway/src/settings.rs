//! Settings: one struct, filled from the TOML file, then the environment and flags on top.
//!
//! Every field is optional in all three places; what nobody set has a default that just works for a root-run service.
//! The struct is at once the set of flags, the file's schema and the merged result, so the three cannot drift apart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use mooring_store::volume::GcConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::core::scrub::ScrubPolicy;
use crate::homes::settings::PeerSettings;
use crate::store_settings::StoreSettings;

/// Where the file is looked for when `--config` names none. It may be absent.
pub const DEFAULT_FILE: &str = "/etc/mooring/gateway.toml";

/// Where the operator's socket is by default.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/mooring/admin.sock";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything that can be set.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where tenants' data and the registry are kept [default: /var/lib/mooring]
    #[arg(long, env = "MOORING_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The operator's unix socket [default: /run/mooring/admin.sock]
    // A flag of every command, so it is declared beside them and put in here.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_socket: Option<PathBuf>,
    /// Where S3 is offered to tools on the host, with access keys; `off` for nowhere [default: 127.0.0.1:9000]
    #[arg(long, env = "MOORING_S3", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
    /// Domains for virtual-host style, such as `s3.example.org` [default: s3.localhost]
    #[arg(long, env = "MOORING_S3_DOMAINS", value_name = "DOMAIN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_domains: Option<Vec<String>>,
    /// Where files, S3 and API are offered over TLS to VMs without vsock; they show a token [default: nowhere]
    #[arg(long, env = "MOORING_TLS", value_name = "ADDRESS", requires_all = ["tls_cert", "tls_key"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<SocketAddr>,
    /// Certificate chain, PEM
    #[arg(long, env = "MOORING_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "MOORING_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// The master key that wraps tenants' keys: a file, `env:NAME` or `command:LINE`; a missing file is made at first
    /// start [default: DATA_DIR/master.key]
    #[arg(long, env = "MOORING_MASTER_KEY", value_name = "PLACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key: Option<String>,
    /// A command whose output is the master key, such as `vault read -field=key secret/mooring`
    #[arg(long, env = "MOORING_MASTER_KEY_COMMAND", value_name = "LINE", conflicts_with = "master_key")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key_command: Option<String>,
    /// Further places of master keys, for while one takes the place of another; may be given several times
    #[arg(long, env = "MOORING_MORE_MASTER_KEYS", value_name = "PLACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_master_keys: Option<Vec<String>>,
    /// Memory for cached data of all buckets, in MiB [default: 512]
    #[arg(long, env = "MOORING_CACHE_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_mib: Option<u64>,
    /// Disk for copies of what the object store has, of all buckets, in MiB [default: a quarter of what is free at start]
    #[arg(long, env = "MOORING_CACHE_DISK_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_disk_mib: Option<u64>,
    /// Buckets that stay open though nobody uses them now [default: 64]
    #[arg(long, env = "MOORING_MAX_OPEN", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_open: Option<usize>,
    /// How fast stored data is read in the background to find damage, in MiB per second; 0 for never [default: 20]
    #[arg(long, env = "MOORING_SCRUB_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_mib: Option<u64>,
    /// In how many days all of it is read once [default: 30]
    #[arg(long, env = "MOORING_SCRUB_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_days: Option<u64>,
    /// How old the copy of a bucket's metadata may become, from which it can be rebuilt, in hours; 0 for none
    /// [default: 24]
    #[arg(long, env = "MOORING_CHECKPOINT_HOURS", value_name = "HOURS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_hours: Option<u64>,
    /// MiB a second that each bucket may rewrite to give room back; 0 rewrites nothing by itself [default: 64]
    #[arg(long, env = "MOORING_GC_MIB_PER_SECOND", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_mib_per_second: Option<u64>,
    /// The object store that holds everything; without one the data directory does.
    #[command(flatten)]
    #[serde(default, skip_serializing_if = "StoreSettings::is_empty")]
    pub store: StoreSettings,
    /// Other gateways on the same store.
    #[command(flatten)]
    #[serde(default, skip_serializing_if = "PeerSettings::is_empty")]
    pub peers: PeerSettings,
    /// What to log, as tracing directives [default: info,slatedb=warn,s3s=off]
    #[arg(long, env = "MOORING_LOG", value_name = "DIRECTIVES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "MOORING_LOG_FORMAT", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file named cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has a field that does not exist.
    #[error("the configuration file {path} cannot be used")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("{field}: {why}")]
    Value {
        /// Which setting.
        field: &'static str,
        /// What would be right.
        why: String,
    },
}

impl Settings {
    /// Flags and environment (already in `self`) over the file: `named`, or [`DEFAULT_FILE`] if there is one.
    pub fn with_file(self, named: Option<&Path>) -> Result<Settings, SettingsError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            Err(source) => return Err(SettingsError::Read { path: path.to_owned(), source }),
        };
        let file: Settings = toml::from_str(&text)
            .map_err(|source| SettingsError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        Ok(self.over(file))
    }

    /// How buckets are looked after in the background.
    pub fn scrub(&self) -> ScrubPolicy {
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3600));
        ScrubPolicy {
            rate: self.scrub_mib.unwrap_or(20).saturating_mul(1 << 20),
            period: hours(self.scrub_days.unwrap_or(30).saturating_mul(24)),
            checkpoint: hours(self.checkpoint_hours.unwrap_or(24)),
        }
    }

    fn over(self, below: Settings) -> Settings {
        // Two ways to name one thing: who names it here does not mean the other one below.
        let master = self.master_key.is_some() || self.master_key_command.is_some();
        Settings {
            data_dir: self.data_dir.or(below.data_dir),
            scrub_mib: self.scrub_mib.or(below.scrub_mib),
            scrub_days: self.scrub_days.or(below.scrub_days),
            checkpoint_hours: self.checkpoint_hours.or(below.checkpoint_hours),
            admin_socket: self.admin_socket.or(below.admin_socket),
            s3: self.s3.or(below.s3),
            s3_domains: self.s3_domains.or(below.s3_domains),
            tls: self.tls.or(below.tls),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            master_key: self.master_key.or(below.master_key.filter(|_| !master)),
            master_key_command: self.master_key_command.or(below.master_key_command.filter(|_| !master)),
            more_master_keys: self.more_master_keys.or(below.more_master_keys),
            cache_mib: self.cache_mib.or(below.cache_mib),
            cache_disk_mib: self.cache_disk_mib.or(below.cache_disk_mib),
            max_open: self.max_open.or(below.max_open),
            gc_mib_per_second: self.gc_mib_per_second.or(below.gc_mib_per_second),
            store: self.store.over(below.store),
            peers: self.peers.over(below.peers),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/mooring"))
    }

    /// The operator's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_ADMIN_SOCKET))
    }

    /// Where S3 listens for the host, or nowhere.
    pub fn s3(&self) -> Result<Option<SocketAddr>, SettingsError> {
        match self.s3.as_deref() {
            None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 9000)))),
            Some("off") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| SettingsError::Value {
                field: "s3",
                why: format!("`{text}` is no address: use 127.0.0.1:9000, [::1]:9000 or `off`"),
            }),
        }
    }

    /// Domains for virtual-host style.
    pub fn s3_domains(&self) -> Vec<String> {
        self.s3_domains.clone().unwrap_or_else(|| vec!["s3.localhost".to_owned()])
    }

    /// Bytes for cached data.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_mib.unwrap_or(512).saturating_mul(1 << 20)
    }

    /// Bytes on the disk for copies, when `free` are free there.
    pub fn cache_disk_bytes(&self, free: u64) -> u64 {
        self.cache_disk_mib.map_or(free / 4, |mib| mib.saturating_mul(1 << 20))
    }

    /// How room is given back.
    pub fn gc(&self) -> GcConfig {
        let default = GcConfig::default();
        let rate = self.gc_mib_per_second.map(|mib| mib.saturating_mul(1 << 20));
        GcConfig { bytes_per_second: rate.unwrap_or(default.bytes_per_second), ..default }
    }

    /// Tracing directives.
    pub fn log(&self) -> &str {
        self.log.as_deref().unwrap_or("info,slatedb=warn,s3s=off")
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(LogFormat::Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "data_dir = \"/srv/a\"\ncache_mib = 7\ns3 = \"off\"\n").unwrap();
        let flags = Settings { cache_mib: Some(9), ..Settings::default() };
        let merged = flags.with_file(Some(&path)).unwrap();
        assert_eq!(merged.data_dir(), Path::new("/srv/a"));
        assert_eq!(merged.cache_bytes(), 9 << 20);
        assert_eq!(merged.cache_disk_bytes(4 << 30), 1 << 30);
        assert_eq!(merged.s3().unwrap(), None);
        assert_eq!(merged.admin_socket(), Path::new(DEFAULT_ADMIN_SOCKET));
    }

    #[test]
    fn a_master_key_named_by_a_flag_hides_the_file_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "master_key_command = \"vault read\"\nmore_master_keys = [\"env:OLD\"]\n")
            .unwrap();
        let flags = Settings { master_key: Some("/a".into()), ..Settings::default() };
        let merged = flags.with_file(Some(&path)).unwrap();
        assert_eq!((merged.master_key.as_deref(), merged.master_key_command), (Some("/a"), None));
        assert_eq!(merged.more_master_keys, Some(vec!["env:OLD".to_owned()]));
    }

    #[test]
    fn a_misspelt_field_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "datadir = \"/srv/a\"\n").unwrap();
        let error = Settings::default().with_file(Some(&path)).unwrap_err();
        assert!(error.to_string().contains("gateway.toml"));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("datadir"));
    }

    #[test]
    fn a_named_file_must_be_there() {
        assert!(Settings::default().with_file(Some(Path::new("/nonexistent.toml"))).is_err());
    }

    #[test]
    fn a_bad_address_says_what_would_be_right() {
        let settings = Settings { s3: Some("9000".into()), ..Settings::default() };
        assert!(settings.s3().unwrap_err().to_string().contains("127.0.0.1:9000"));
    }
}
