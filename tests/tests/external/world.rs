//! The other service, our gateway that serves a bucket of it, and a VM that has it mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use mooring_tests::Output;
use mooring_tests::e2e::{Machine, Sdk, Site};
use mooring_tests::wait::{self, Look};

pub struct World {
    pub data: PathBuf,
    pub vm: Machine,
    pub here: Site,
    /// The other service, seen from beside us.
    pub there: Sdk,
    pub other: Site,
    pub home: tempfile::TempDir,
}

impl World {
    /// Bucket `shop` there; its prefix `pre/` is bucket `ext` of acme here, mounted in one VM.
    pub async fn new(options: &[&str]) -> Result<World> {
        let (other, here) = tokio::try_join!(Site::start(), Site::with_acme())?;
        other.tenant("outside", &["shop"]).await?;
        let key = other.gateway.access_key("outside").await?;
        let there = Sdk::new(&other.gateway.s3_endpoint(), &key);
        let home = tempfile::tempdir()?;
        fs::write(home.path().join("secret"), &key.secret_access_key)?;
        let endpoint = other.gateway.s3_endpoint();
        attach(&here, "ext", (&endpoint, &key.access_key_id), home.path(), options).await?.ok()?;
        let mut vm = here.machine("acme", "one").await?;
        let data = vm.bucket("ext").await?;
        Ok(World { data, vm, here, there, other, home })
    }

    pub async fn put(&self, key: &str, body: &[u8]) -> Result<String> {
        self.there.put("shop", &format!("pre/{key}"), body).await
    }

    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.there.get("shop", &format!("pre/{key}")).await
    }

    /// Waits until the other store has exactly this.
    pub async fn arrives(&self, key: &str, body: &[u8]) -> Result<()> {
        wait::until(&format!("{key} in the other store"), Duration::from_secs(30), || async {
            match self.get(key).await {
                Ok(Some(there)) if there == body => Look::Ready(()),
                Ok(there) => Look::NotYet(format!("{:?} bytes", there.map(|there| there.len()))),
                Err(error) => Look::NotYet(format!("{error:#}")),
            }
        })
        .await
    }
}

pub async fn attach(
    site: &Site,
    name: &str,
    (endpoint, access_key): (&str, &str),
    home: &Path,
    options: &[&str],
) -> Result<Output> {
    let secret = home.join("secret");
    let secret = secret.to_str().context("a path that is no text")?;
    let mut words = vec!["bucket", "create", "--tenant", "acme", name, "--external", "s3://shop/pre"];
    words.extend(["--endpoint", endpoint, "--region", mooring_tests::s3::REGION, "--access-key", access_key]);
    words.extend(["--secret-file", secret]);
    site.gateway.cli(&[&words, options].concat()).await
}

pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}
