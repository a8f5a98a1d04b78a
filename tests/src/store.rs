//! Stores for gateways that keep everything in one: what an operator has besides the store, and a gateway whose S3 is it.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::e2e::Site;
use crate::host::{AccessKey, Gateway};

/// Where a store is, and what it takes to use it.
#[derive(Debug)]
pub struct Access {
    bucket: String,
    region: String,
    key: AccessKey,
    /// Credentials and master key: what an operator keeps besides the store.
    kept: TempDir,
}

impl Access {
    /// Notes how `bucket` is reached.
    pub fn new(bucket: &str, region: &str, key: &AccessKey) -> Result<Access> {
        let kept = tempfile::tempdir()?;
        let (id, secret) = (&key.access_key_id, &key.secret_access_key);
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        write_private(&kept.path().join("credentials"), &text)?;
        Ok(Access { bucket: bucket.to_owned(), region: region.to_owned(), key: key.clone(), kept })
    }

    /// The key of whom the bucket belongs to.
    pub fn key(&self) -> &AccessKey {
        &self.key
    }

    fn path(&self, name: &str) -> Result<String> {
        self.kept.path().join(name).into_os_string().into_string().ok().context("the path is not text")
    }

    /// Arguments of a gateway that keeps everything there.
    pub fn arguments(&self, endpoint: &str, more: &[&str]) -> Result<Vec<String>> {
        let ours = [
            format!("--store-url=s3://{}/one", self.bucket),
            format!("--store-endpoint={endpoint}"),
            "--store-allow-http".to_owned(),
            format!("--store-region={}", self.region),
            format!("--store-credentials={}", self.path("credentials")?),
            format!("--master-key={}", self.path("master.key")?),
        ];
        Ok(ours.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect())
    }

    /// The same for who opens the store without a gateway, below a prefix of its own: URL, region, access key and secret.
    pub fn parts(&self) -> (String, String, AccessKey) {
        (format!("s3://{}/apart", self.bucket), self.region.clone(), self.key.clone())
    }

    /// A configuration file of a gateway that keeps everything there, for commands that need it stopped.
    pub fn file(&self, endpoint: &str) -> Result<String> {
        let (credentials, key, file) =
            (self.path("credentials")?, self.path("master.key")?, self.path("gateway.toml")?);
        let (bucket, region) = (&self.bucket, &self.region);
        let text = format!(
            "master_key = {key:?}\n[store]\nurl = \"s3://{bucket}/one\"\nendpoint = {endpoint:?}\n\
             region = {region:?}\ncredentials = {credentials:?}\nallow_http = true\n"
        );
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// A gateway that keeps everything there, with more arguments.
    pub async fn site(&self, endpoint: &str, more: &[&str]) -> Result<Site> {
        let arguments = self.arguments(endpoint, more)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(Site { gateway: Gateway::start_with(&arguments).await? })
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A gateway whose S3 is the store of others.
#[derive(Debug)]
pub struct Store {
    /// The gateway.
    pub gateway: Gateway,
    /// How its bucket is reached.
    pub access: Access,
}

impl Store {
    /// Starts it.
    pub async fn start() -> Result<Store> {
        let gateway = Gateway::start().await?;
        gateway.tenant("infra").await?;
        gateway.bucket("infra", "moorings").await?;
        let key = gateway.access_key("infra").await?;
        let access = Access::new("moorings", crate::s3::REGION, &key)?;
        Ok(Store { gateway, access })
    }

    /// A gateway that keeps everything here, with more arguments.
    pub async fn site(&self, more: &[&str]) -> Result<Site> {
        self.access.site(&self.gateway.s3_endpoint(), more).await
    }
}
