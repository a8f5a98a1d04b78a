//! Looking after a bucket that is in an object store: checked, scrubbed, and put together again when host and metadata
//! are gone. Everything by the commands of an operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Sdk, Site};
use mooring_tests::store::Store;
use mooring_tests::wait::{self, Look};
use mooring_tests::{Gateway, Output};

const LENGTH: usize = 3 << 20;
const OBJECTS: u64 = 6;

/// A gateway that keeps everything in the store, and what the store's owner sees.
struct Kept {
    store: Store,
    site: Site,
    sdk: Sdk,
    owner: Sdk,
}

impl Kept {
    async fn start() -> Result<Kept> {
        let store = Store::start().await?;
        let site = store.site(&[]).await?;
        site.tenant("acme", &["data"]).await?;
        let sdk = site.sdk("acme").await?;
        let owner = Sdk::new(&store.gateway.s3_endpoint(), store.access.key());
        for number in 0..OBJECTS {
            sdk.put("data", &number.to_string(), &Pattern(number).bytes(0, LENGTH)).await?;
        }
        Ok(Kept { store, site, sdk, owner })
    }

    /// Keys of the store with this in them.
    async fn keys(&self, part: &str) -> Result<Vec<String>> {
        let keys = self.owner.keys("moorings", "one/tenants/acme/").await?;
        Ok(keys.into_iter().filter(|key| key.contains(part)).collect())
    }

    /// The largest pack, once the store has one.
    async fn pack(&self) -> Result<String> {
        wait::until("a pack in the store", Duration::from_secs(30), || async {
            let mut largest = None;
            for key in self.keys("/packs/").await.unwrap_or_default() {
                // One may go between the two.
                if let Ok(Some((size, _))) = self.owner.head("moorings", &key).await {
                    largest = largest.max(Some((size, key)));
                }
            }
            match largest {
                Some((_, key)) => Look::Ready(key),
                None => Look::NotYet("there is none".to_owned()),
            }
        })
        .await
    }

    async fn whole(&self) -> Result<()> {
        for number in 0..OBJECTS {
            let found = self.sdk.get("data", &number.to_string()).await?.context("an object is gone")?;
            ensure!(found == Pattern(number).bytes(0, LENGTH), "object {number} differs");
        }
        Ok(())
    }

    /// A command with the gateway stopped.
    async fn offline(&self, words: &[&str]) -> Result<Output> {
        let file = self.store.access.file(&self.store.gateway.s3_endpoint())?;
        let data = self.site.gateway.data_dir();
        let data = data.to_str().context("not text")?;
        on_bucket(&self.site.gateway, &[&["--config", &file], words, &["--data-dir", data]].concat()).await
    }
}

async fn on_bucket(gateway: &Gateway, words: &[&str]) -> Result<Output> {
    gateway.cli(&[words, &["--tenant", "acme", "data"]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_in_a_store_is_checked_and_scrubbed_where_it_is() -> Result<()> {
    let mut kept = Kept::start().await?;
    let pack = kept.pack().await?;
    on_bucket(&kept.site.gateway, &["bucket", "check", "--data"]).await?.ok()?;
    on_bucket(&kept.site.gateway, &["bucket", "scrub"]).await?.ok()?;
    kept.site.gateway.stop().await?;
    kept.offline(&["bucket", "check", "--data", "--offline"]).await?.ok()?;
    // A byte that turns in the store is found there, though this host has a copy that is whole.
    kept.site.gateway.restart().await?;
    let mut bytes = kept.owner.get("moorings", &pack).await?.context("the pack is gone")?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    kept.owner.put("moorings", &pack, &bytes).await?;
    let scrubbed = on_bucket(&kept.site.gateway, &["bucket", "scrub"]).await?;
    ensure!(scrubbed.ok().is_err(), "a scrub found nothing");
    let damage = kept.site.gateway.json(&["bucket", "damage", "--tenant", "acme", "data"]).await?;
    let named = damage.as_array().context("no list")?;
    ensure!(named.len() == 1 && !named[0]["paths"].as_array().is_none_or(Vec::is_empty), "{damage}");
    ensure!(on_bucket(&kept.site.gateway, &["bucket", "check", "--data"]).await?.ok().is_err());
    // Made good, it is damaged no more.
    bytes[middle] ^= 4;
    kept.owner.put("moorings", &pack, &bytes).await?;
    on_bucket(&kept.site.gateway, &["bucket", "scrub"]).await?.ok()?;
    let damage = kept.site.gateway.json(&["bucket", "damage", "--tenant", "acme", "data"]).await?;
    ensure!(damage.as_array().is_some_and(Vec::is_empty), "still named: {damage}");
    kept.whole().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_host_and_metadata_a_bucket_is_rebuilt_from_what_the_store_has() -> Result<()> {
    let mut kept = Kept::start().await?;
    kept.pack().await?;
    kept.site.gateway.kill().await?;
    // The host is gone, and the bucket's tables; the registry is not.
    std::fs::remove_dir_all(kept.site.gateway.data_dir())?;
    for key in kept.keys("/meta/").await? {
        kept.owner.delete("moorings", &key).await?;
    }
    kept.site.gateway.restart().await?;
    ensure!(kept.sdk.get("data", "0").await.is_err(), "opened without its tables");
    let log = kept.site.gateway.process().log().text();
    ensure!(log.contains("bucket rebuild"), "the log does not say what to do: {log}");
    kept.site.gateway.stop().await?;
    let rebuilt = kept.offline(&["--json", "bucket", "rebuild"]).await?.ok()?;
    let rebuilt: serde_json::Value = serde_json::from_slice(&rebuilt.stdout)?;
    ensure!(rebuilt["lost"] == 0 && rebuilt["findings"] == 0, "{rebuilt}");
    kept.site.gateway.restart().await?;
    ensure!(!kept.keys(".checkpoint").await?.is_empty(), "a rebuild ends with a checkpoint");
    on_bucket(&kept.site.gateway, &["bucket", "check", "--data"]).await?.ok()?;
    kept.whole().await
}
