//! `bucket create --external`: where the bucket is, and the secret, which never is an argument.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mooring_cli::ApiError;
use mooring_protocol::api::ExternalCreate;

/// The variable that other S3 tools read, too.
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// An existing bucket of another S3 service, served as it is: one object is one file.
#[derive(Debug, Args)]
#[command(next_help_heading = "External buckets")]
pub struct ExternalArgs {
    /// Serve this bucket of another S3 service, or a prefix of it, instead of making one; `bucket rm` only lets go of it
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    external: Option<String>,
    /// Its endpoint [default: AWS, by the region]
    #[arg(long, value_name = "URL", requires = "external")]
    endpoint: Option<String>,
    /// Its region
    #[arg(long, value_name = "REGION", requires = "external", default_value = "us-east-1")]
    region: String,
    /// The key whose rights are used; its secret comes from --secret-file or AWS_SECRET_ACCESS_KEY
    #[arg(long, value_name = "ID", env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    access_key: Option<String>,
    /// A file with the secret; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "external")]
    secret_file: Option<PathBuf>,
    /// Refuse every change
    #[arg(long, requires = "external")]
    read_only: bool,
    /// After which time a change that others made there is seen
    #[arg(long, value_name = "TIME", requires = "external", default_value = "5s", value_parser = humantime::parse_duration)]
    refresh: Duration,
    /// The bucket's name goes into the path (true) or the host's name (false) [default: true with --endpoint]
    #[arg(long, value_name = "BOOL", requires = "external")]
    path_style: Option<bool>,
    /// Owner of all files
    #[arg(long, requires = "external", default_value_t = 0)]
    uid: u32,
    /// Group of all files
    #[arg(long, requires = "external", default_value_t = 0)]
    gid: u32,
    /// Permissions of all files, octal
    #[arg(long, value_name = "MODE", requires = "external", default_value = "644", value_parser = octal)]
    file_mode: u16,
    /// Permissions of all folders, octal
    #[arg(long, value_name = "MODE", requires = "external", default_value = "755", value_parser = octal)]
    dir_mode: u16,
    /// GiB that may wait at the gateway to be uploaded: the largest file that can be written
    #[arg(long, value_name = "GIB", requires = "external", default_value_t = 16)]
    spool: u64,
}

fn octal(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("an octal mode from 0 to 777".to_owned()),
    }
}

impl ExternalArgs {
    /// What to ask the gateway for; none when no external bucket is named.
    pub fn wanted(self) -> Result<Option<ExternalCreate>, ApiError> {
        let Some(url) = self.external else { return Ok(None) };
        let access_key = self
            .access_key
            .ok_or_else(|| ApiError::Local("say whose rights to use: --access-key ID".to_owned()))?;
        Ok(Some(ExternalCreate {
            url,
            endpoint: self.endpoint,
            region: self.region,
            access_key,
            secret_key: secret(self.secret_file)?,
            path_style: self.path_style,
            read_only: self.read_only,
            refresh_ms: Some(u64::try_from(self.refresh.as_millis()).unwrap_or(u64::MAX)),
            uid: self.uid,
            gid: self.gid,
            file_mode: Some(self.file_mode),
            dir_mode: Some(self.dir_mode),
            spool_bytes: Some(self.spool.saturating_mul(1 << 30)),
        }))
    }
}

fn secret(file: Option<PathBuf>) -> Result<String, ApiError> {
    let text = match file {
        None => std::env::var(SECRET).map_err(|_| {
            ApiError::Local(format!(
                "the key's secret is missing: --secret-file FILE (`-`: standard input) or {SECRET}"
            ))
        })?,
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(4096).read_to_string(&mut text);
            read.map_err(|error| {
                ApiError::Local(format!("cannot read the secret from standard input: {error}"))
            })?;
            text
        }
        Some(path) => std::fs::read_to_string(&path).map_err(|error| {
            ApiError::Local(format!("cannot read the secret from {}: {error}", path.display()))
        })?,
    };
    match text.trim() {
        "" => Err(ApiError::Local("the secret is empty".to_owned())),
        secret => Ok(secret.to_owned()),
    }
}
