//! Settings of the object store.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use mooring_store::backend::StoreConfig;
use serde::{Deserialize, Serialize};

use crate::settings::SettingsError;

/// Which object store holds everything, and how it is reached: the table `[store]` of the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Keep tenants' data and the registry in an object store: `s3://bucket/prefix`, or `file:///directory` for one that
    /// hosts share. The data directory then holds only what is on its way there [default: the data directory]
    #[arg(long = "store-url", env = "MOORING_STORE_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where an S3 that is not Amazon's is, such as `https://s3.example.org`
    #[arg(long = "store-endpoint", env = "MOORING_STORE_ENDPOINT", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its region [default: AWS_REGION, or us-east-1]
    #[arg(long = "store-region", env = "MOORING_STORE_REGION", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A file with `aws_access_key_id = ...` and `aws_secret_access_key = ...` lines, readable by its owner only
    /// [default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then the machine's role]
    #[arg(long = "store-credentials", env = "MOORING_STORE_CREDENTIALS", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// Access key; in the file only, where others do not see it.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// Its secret; in the file only.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Let the endpoint be `http://`: what goes there is sealed, the credentials' use can be seen
    #[arg(long = "store-allow-http", env = "MOORING_STORE_ALLOW_HTTP", value_name = "BOOL",
          num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
    /// Put the bucket into the host name rather than into the path
    #[arg(long = "store-virtual-hosted", env = "MOORING_STORE_VIRTUAL_HOSTED", value_name = "BOOL",
          num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_hosted: Option<bool>,
    /// Take these buckets of durability `host` over though another host has acknowledged changes that the store does not
    /// have; they are lost
    #[arg(long = "accept-loss", value_name = "TENANT/BUCKET", value_delimiter = ',')]
    #[serde(skip)]
    pub accept_loss: Option<Vec<String>>,
}

impl StoreSettings {
    /// What is set here, and below it.
    pub fn over(self, below: StoreSettings) -> StoreSettings {
        StoreSettings {
            url: self.url.or(below.url),
            endpoint: self.endpoint.or(below.endpoint),
            region: self.region.or(below.region),
            credentials: self.credentials.or(below.credentials),
            access_key: self.access_key.or(below.access_key),
            secret_key: self.secret_key.or(below.secret_key),
            allow_http: self.allow_http.or(below.allow_http),
            virtual_hosted: self.virtual_hosted.or(below.virtual_hosted),
            accept_loss: self.accept_loss.or(below.accept_loss),
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == StoreSettings::default()
    }

    /// The store, if there is one.
    ///
    /// # Errors
    /// The credentials cannot be read, or half of them is missing.
    pub fn config(&self) -> Result<Option<StoreConfig>, SettingsError> {
        let Some(url) = self.url.clone() else { return Ok(None) };
        let credentials = match (&self.access_key, &self.secret_key, &self.credentials) {
            (Some(key), Some(secret), _) => Some((key.clone(), secret.clone())),
            (None, None, Some(path)) => Some(read_credentials(path)?),
            (None, None, None) => None,
            _ => {
                let why = "access_key and secret_key go together".to_owned();
                return Err(SettingsError::Value { field: "store", why });
            }
        };
        Ok(Some(StoreConfig {
            url,
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            credentials,
            allow_http: self.allow_http.unwrap_or(false),
            virtual_hosted: self.virtual_hosted.unwrap_or(false),
        }))
    }

    /// Buckets that are taken over at a loss.
    pub fn accept_loss(&self) -> Vec<String> {
        self.accept_loss.clone().unwrap_or_default()
    }
}

fn read_credentials(path: &Path) -> Result<(String, String), SettingsError> {
    let read = |source| SettingsError::Read { path: path.to_owned(), source };
    let wrong = |why: String| SettingsError::Value { field: "store.credentials", why };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(format!("{} has mode {mode:04o}; run chmod 0600 on it", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name));
        let found = line.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty());
        found.ok_or_else(|| wrong(format!("{} has no line `{name} = ...`", path.display())))
    };
    Ok((value("aws_access_key_id")?, value("aws_secret_access_key")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_table_of_the_file_and_flags_above_it_name_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let text =
            "[store]\nurl = \"s3://data/m\"\nregion = \"eu-1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n";
        std::fs::write(&path, text).unwrap();
        let store = StoreSettings { region: Some("eu-2".into()), ..StoreSettings::default() };
        let merged = Settings { store, ..Settings::default() }.with_file(Some(&path)).unwrap();
        let config = merged.store.config().unwrap().unwrap();
        assert_eq!((config.url.as_str(), config.region.as_deref()), ("s3://data/m", Some("eu-2")));
        assert_eq!(config.credentials, Some(("a".into(), "b".into())));
        assert_eq!(Settings::default().store.config().unwrap(), None);
    }

    #[test]
    fn credentials_that_others_can_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "[default]\naws_access_key_id = K\naws_secret_access_key=S\n").unwrap();
        let store = StoreSettings {
            url: Some("s3://data".into()),
            credentials: Some(path.clone()),
            ..StoreSettings::default()
        };
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(store.config().unwrap_err().to_string().contains("chmod 0600"));
        mode(0o600);
        assert_eq!(store.config().unwrap().unwrap().credentials, Some(("K".into(), "S".into())));
    }
}
